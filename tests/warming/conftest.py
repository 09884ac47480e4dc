"""The site of `tests.warming.site` over each store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import clear_url_caches

from pooling import runtime

from .. import stores
from . import settings as ours
from . import site


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    stores.parametrize(metafunc, "site_and_store")


@pytest.fixture(autouse=True)
def site_and_store(
    request: pytest.FixtureRequest, settings: Any, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> Iterator[str]:
    for name in ours.OURS:
        setattr(settings, name, getattr(ours, name))
    kind = stores.kind(request)
    stores.use(kind, settings, monkeypatch, redis_url)
    site.seen.clear()
    yield kind
    runtime.reset_runtime()
    clear_url_caches()
