"""The pooled backend for GeoDjango. Where GDAL is installed it must work, and where it is not, say so."""

from __future__ import annotations

import ctypes.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import ask

pytestmark = pytest.mark.django_db

MISSING = "Could not find the GDAL library"


@pytest.fixture
def database(root: Any, tls_mariadb: Any) -> Iterator[dict[str, Any]]:
    ask(root, "CREATE DATABASE gis_site")
    yield {
        "ENGINE": "pooling.backends.mysql_gis",
        "NAME": "gis_site",
        "USER": "root",
        "HOST": tls_mariadb.host,
        "PORT": str(tls_mariadb.port),
        "OPTIONS": {"pool": {"max_size": 3}},
    }
    ask(root, "DROP DATABASE gis_site")


def run(database: dict[str, Any], *more: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.backend.gis_site", json.dumps(database), *more],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_geometry_on_pooled_connections(database: dict[str, Any]) -> None:
    found = run(database)
    if ctypes.util.find_library("gdal") is None:
        assert MISSING in found["refused"]
    else:
        assert found == {"near": ["here"], "sessions": 1, "most": 3}


def test_without_gdal_it_is_djangos_own_error(database: dict[str, Any]) -> None:
    assert MISSING in run(database, "without")["refused"]
