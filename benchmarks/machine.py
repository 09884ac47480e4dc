"""What is measured on: the machine, the servers and the packages that are compared."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib import metadata

from demo_site import servers

PACKAGES = (
    "Django",
    "mysqlclient",
    "redis",
    "django-redis",
    "psycopg-pool",
    "SQLAlchemy",
    "django-db-connection-pool",
    "python-redis-lock",
    "django-cacheops",
    "dogpile.cache",
)


@dataclass(frozen=True)
class Machine:
    """``servers`` and ``packages``: name -> version."""

    cores: int
    architecture: str
    python: str
    servers: dict[str, str]
    packages: dict[str, str]

    def __str__(self) -> str:
        versions = [f"{name} {version}" for name, version in (self.servers | self.packages).items()]
        return f"{self.cores} cores, {self.architecture}, {self.python}, {', '.join(versions)}"


def here() -> Machine:
    """This machine. A package that is not installed is left out."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return Machine(os.cpu_count() or 1, platform.machine(), python, servers.versions(), packages)
