"""Every test here starts and ends without locks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from pooling import runtime

from .. import stores


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    stores.parametrize(metafunc, "no_leftovers")


@pytest.fixture(autouse=True)
def no_leftovers(
    request: pytest.FixtureRequest, settings: Any, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> Iterator[None]:
    stores.use(stores.kind(request), settings, monkeypatch, redis_url)
    yield
    assert runtime.store().parties() == []
    assert runtime.manager().current() == ()
    runtime.reset_runtime()


@pytest.fixture
def atomic_requests() -> Iterator[None]:
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    yield
    connection.settings_dict["ATOMIC_REQUESTS"] = False
