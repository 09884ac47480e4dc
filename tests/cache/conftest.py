"""A fresh store and fresh counters for each test of the cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pooling import containers, runtime

from .. import stores
from . import views


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    stores.parametrize(metafunc, "fresh")


@pytest.fixture(autouse=True)
def fresh(
    request: pytest.FixtureRequest, settings: Any, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> Iterator[None]:
    settings.ROOT_URLCONF = "tests.cache.views"
    stores.use(stores.kind(request), settings, monkeypatch, redis_url)
    containers._warned.clear()
    views.calls.clear()
    yield
    runtime.reset_runtime()
