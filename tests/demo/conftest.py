"""The demo site under gunicorn, with a database of its own on the run's private server."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import MySQLdb
import pytest

from demo_site.client import Visitor
from demo_site.people import PASSWORD
from demo_site.web import WebServer, listen

from .site import Site


@pytest.fixture(scope="session")
def empty_database() -> Iterator[dict[str, str]]:
    """The environment of a site whose database is new and empty."""
    name = f"boxoffice_test_{secrets.token_hex(4)}"
    connection = MySQLdb.connect(
        host=os.environ["POOLING_DB_HOST"],
        port=int(os.environ["POOLING_DB_PORT"]),
        user=os.environ.get("POOLING_DB_USER", "root"),
        password=os.environ.get("POOLING_DB_PASSWORD", ""),
        autocommit=True,
    )
    connection.query(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    yield {"DEMO_DB_NAME": name, "DJANGO_SETTINGS_MODULE": "demo_site.settings"}
    connection.query(f"DROP DATABASE {name}")
    connection.close()


@pytest.fixture(scope="session")
def demo_env(empty_database: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    env = {**empty_database, "DEMO_RUN_DIR": str(tmp_path_factory.mktemp("run")), "DATABASE_URL": "", "REDIS_URL": ""}
    for command in (["migrate", "-v0"], ["load_demo"]):
        subprocess.run([sys.executable, "-m", "django", *command], env={**os.environ, **env}, check=True)
    return env


@pytest.fixture(scope="session")
def site(demo_env: dict[str, str]) -> Iterator[Site]:
    log = Path(demo_env["DEMO_RUN_DIR"]) / "site.log"
    with listen() as sock, WebServer(sock, "pooling", env=demo_env, log=log) as web:
        yield Site(web.port, demo_env, PASSWORD)


@pytest.fixture
def stranger(site: Site) -> Iterator[Visitor]:
    """Somebody who has not signed in."""
    visitor = site.visitor("alice")
    yield visitor
    visitor.leave()


@pytest.fixture
def alice(site: Site) -> Iterator[Visitor]:
    visitor = site.signed_in("alice")
    yield visitor
    visitor.leave()


@pytest.fixture
def bob(site: Site) -> Iterator[Visitor]:
    visitor = site.signed_in("bob")
    yield visitor
    visitor.leave()
