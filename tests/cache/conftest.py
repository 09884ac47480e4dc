"""A fresh store and fresh counters for each test of the cache."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pooling import caching, runtime

from . import views


@pytest.fixture(autouse=True)
def fresh(settings) -> Iterator[None]:  # type: ignore[no-untyped-def]
    settings.ROOT_URLCONF = "tests.cache.views"
    runtime.reset_runtime()
    caching._warned.clear()
    views.calls.clear()
    yield
    runtime.reset_runtime()
