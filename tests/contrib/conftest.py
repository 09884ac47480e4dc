"""An empty store and nobody who looks on, for each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pooling import moments, runtime


@pytest.fixture(autouse=True)
def fresh(settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = "tests.contrib.site"
    runtime.reset_runtime()
    before = moments.listeners, moments.surroundings
    yield
    assert (moments.listeners, moments.surroundings) == before, "somebody still looks on"
    runtime.reset_runtime()
