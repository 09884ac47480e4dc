"""Groups that are mapped to the two models of the tests, on a fresh store of either kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pooling import runtime
from pooling.groups import read_epochs
from tests import stores
from tests.backend.conftest import make

__all__ = ["make"]

GROUPS = {"notes": ["app.Note"], "bank/accounts": ["app.Account"]}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    stores.parametrize(metafunc, "mapped")


@pytest.fixture(autouse=True)
def mapped(
    request: pytest.FixtureRequest, settings: Any, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> Iterator[None]:
    settings.ROOT_URLCONF = "tests.sources.views"
    settings.POOLING = {"GROUPS": GROUPS}
    stores.use(stores.kind(request), settings, monkeypatch, redis_url)
    yield
    runtime.reset_runtime()


def vector(group: str = "notes") -> tuple[bytes, ...]:
    return runtime.store().epochs(read_epochs([group]))


def renews(work: Callable[[], Any], group: str = "notes") -> bool:
    """Are pages made from the group before ``work`` misses after it?"""
    before = vector(group)
    work()
    return not set(before) & set(vector(group)) if "/" not in group else before != vector(group)
