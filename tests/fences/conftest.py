"""A store that says it is shared between processes, so that holds are fenced; and tokens of the fences' table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection

from pooling import fences, runtime
from pooling.store.memory import MemoryStore


@pytest.fixture(autouse=True)
def shared_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(MemoryStore, "shared", True)
    fences.forget()
    runtime.reset_runtime()
    yield
    assert runtime.store().parties() == []
    runtime.reset_runtime()


def tokens() -> dict[str, int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT grp, token FROM pooling_fence")
        return {group.decode(): token for group, token in cursor.fetchall()}
