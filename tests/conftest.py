"""Fixtures for all tests. The servers were started by tests/settings.py, see tests/servers.py."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from hypothesis import HealthCheck, settings

from . import servers

# How fast this machine is today is no subject of a test.
settings.register_profile("pooling", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pooling")

servers.ensure()  # for the day that somebody runs this with settings other than tests.settings


def pytest_configure(config: pytest.Config) -> None:
    # A shell lets what it runs in the background ignore Ctrl-C, and so would everything that a test starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    servers.stop()


@pytest.fixture(scope="session")
def redis_url(worker_id: str) -> str:
    """A Redis database of this worker's own on the run's server."""
    base = os.environ["POOLING_REDIS_URL"].rsplit("/", 1)[0]
    return f"{base}/{int(worker_id.removeprefix('gw')) + 1 if worker_id != 'master' else 0}"


@pytest.fixture
def second_alias(django_db_blocker: Any) -> Iterator[str]:
    """The name of another alias of the same database, with connections of its own."""
    connections.settings["other"] = copy.deepcopy(connections["default"].settings_dict)
    with django_db_blocker.unblock():
        yield "other"
    connections["other"].close()
    del connections["other"]
    del connections.settings["other"]


@pytest.fixture
def private_mariadb(tmp_path: Path) -> Iterator[servers.PrivateDatabase]:
    """A MariaDB server, or the MySQL that was chosen, for one test that wants to kill, stop or restart it."""
    with servers.private_database(tmp_path) as server:
        yield server


@pytest.fixture
def private_redis(tmp_path: Path) -> Iterator[servers.PrivateRedis]:
    """A Redis server for one test that wants to kill, stop or restart it."""
    with servers.PrivateRedis(tmp_path / "redis") as server:
        yield server
