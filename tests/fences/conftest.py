"""Stores that are shared between processes, or say so, so that holds are fenced; and tokens of the fences' table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from pooling import fences, runtime
from pooling.store.memory import MemoryStore

from .. import stores


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    stores.parametrize(metafunc, "shared_store")


@pytest.fixture(autouse=True)
def shared_store(
    request: pytest.FixtureRequest, settings: Any, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> Iterator[None]:
    monkeypatch.setattr(MemoryStore, "shared", True)
    fences.forget()
    stores.use(stores.kind(request), settings, monkeypatch, redis_url)
    yield
    assert runtime.store().parties() == []
    runtime.reset_runtime()


def tokens() -> dict[str, int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT grp, token FROM pooling_fence")
        return {group.decode(): token for group, token in cursor.fetchall()}
