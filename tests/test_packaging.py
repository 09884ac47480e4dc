"""The wheel has everything, asks for the right things, and works without the checkout."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = (".lua", ".html", ".txt", ".css", ".js", ".svg", ".json", ".typed")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Built from a copy: setuptools takes what an earlier build left in build/ and egg-info into the wheel.
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "pooling", folder / "src" / "pooling", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder / "src")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder / "dist"), str(folder / "src")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    (built,) = (folder / "dist").glob("*.whl")
    return built


def test_the_wheel_has_every_module_and_all_data(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "pooling").rglob("*")
        if path.is_file() and (path.suffix in (".py", *DATA) or path.name == "py.typed")
    }
    assert "pooling/py.typed" in wanted
    assert inside == wanted


def test_the_runtime_requirements_are_these_four(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    required = metadata.get_all("Requires-Dist", [])
    assert sorted(re.sub(r"\s", "", r) for r in required if "extra ==" not in r) == [
        "Django<6.2,>=5.2",
        "django-redis",
        "mysqlclient",
        "redis>=5",
    ]
    extras = {"prometheus", "opentelemetry", "debug-toolbar"}
    assert set(metadata.get_all("Provides-Extra", [])) == {"test", "dev", "bench", "docs", "browser", *extras}
    assert metadata["License-File"] == "LICENSE"
    names = {re.split(r"[^\w-]", r)[0].lower() for r in required}
    files = ("requirements-dev.txt", "requirements-browser.txt")
    developing = [line for file in files for line in (ROOT / file).read_text().splitlines()]
    here = {re.split(r"[^\w-]", line)[0].lower() for line in developing if line and not line.startswith("#")}
    assert here - {"setuptools"} == names


def test_the_installed_package_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True, symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, cwd=tmp_path)
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip())
    (site / "dependencies.pth").write_text("\n".join(sorted(paths)) + "\n")  # what pip would have fetched
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [str(python), "-I", str(program), str(site)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.strip() == "fine"


PROGRAM = """
import ctypes.util, importlib.resources, pathlib, pkgutil, sys
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["pooling"],
    DATABASES={"default": {"ENGINE": "pooling.backends.mysql", "NAME": "x", "OPTIONS": {"pool": True}}},
)
django.setup()
import pooling
assert pathlib.Path(pooling.__file__).is_relative_to(sys.argv[1]), pooling.__file__
from pooling import *
from pooling import group, invalidate, locked, locked_cache, PoolTimeout, LockTimeout, __version__
from pooling.pool import ConnectionPool, PoolOptions
from pooling.middleware import BusyMiddleware
from pooling.store.memory import MemoryStore
from django.db import connections
backend = connections["default"]
assert type(backend).__module__.startswith("pooling."), backend
assert importlib.resources.files("pooling").joinpath("py.typed").is_file()
elsewhere = {"pooling.admin"}  # Django loads it, where the admin is installed
if ctypes.util.find_library("gdal") is None:
    elsewhere.add("pooling.backends.mysql_gis.base")
for module in pkgutil.walk_packages(pooling.__path__, "pooling."):
    if module.name not in elsewhere:
        __import__(module.name)
print("fine")
"""
