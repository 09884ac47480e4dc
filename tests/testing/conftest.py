"""What is tested here is told from what surrounds it: a store that the tests of the isolation must leave as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pooling import runtime

from .. import stores
from ..cache import views


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    stores.parametrize(metafunc, "surroundings")


@pytest.fixture(autouse=True)
def surroundings(
    request: pytest.FixtureRequest, settings: Any, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> Iterator[str]:
    settings.ROOT_URLCONF = "tests.cache.views"
    kind = stores.kind(request)
    stores.use(kind, settings, monkeypatch, redis_url)
    views.calls.clear()
    yield kind
    runtime.reset_runtime()
