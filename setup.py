import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "pooling" / "__init__.py").read_text("utf-8"), re.M)[1]
README = HERE / "README.md"

TEST = [
    "pytest>=8",
    "pytest-django>=4.9",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    "opentelemetry-api>=1.20",
    "build>=1.2",
    "gevent>=24.10",
    "celery>=5.4",
    "pyuwsgi>=2.0.28",
]
BENCH = [
    "psycopg[binary]>=3.2",
    "psycopg-pool>=3.2",
    "SQLAlchemy>=2.0",
    "django-db-connection-pool>=1.2",
    "python-redis-lock>=4",
    "matplotlib>=3.9",
]
BROWSER = ["playwright>=1.49"]
DOCS = ["mkdocs>=1.6", "mkdocs-material>=9.7", "mkdocstrings[python]>=1", "PyYAML>=6"]
DEV = [*TEST, *DOCS, "ruff>=0.9", "mypy>=1.14", "django-stubs>=5.1", "gunicorn>=23", "tblib>=3"]

setup(
    name="pooling",
    version=VERSION,
    description="A pooled MySQL backend for Django, and views that lock and cache by resource group.",
    long_description=README.read_text("utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    author="pooling contributors",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    packages=find_packages(include=["pooling", "pooling.*"]),
    package_data={
        "pooling": [
            "py.typed",
            "store/lua/*.lua",
            "templates/**/*",
            "static/**/*",
            "*/templates/**/*",
            "*/static/**/*",
        ]
    },
    python_requires=">=3.11",
    install_requires=["Django>=5.2,<6.2", "mysqlclient", "django-redis", "redis>=5"],
    extras_require={"test": TEST, "bench": BENCH, "docs": DOCS, "browser": BROWSER, "dev": DEV},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Web Environment",
        "Framework :: Django",
        "Framework :: Django :: 5.2",
        "Framework :: Django :: 6.0",
        "Framework :: Django :: 6.1",
        "Intended Audience :: Developers",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Database",
        "Typing :: Typed",
    ],
    zip_safe=False,
)
