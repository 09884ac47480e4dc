"""Stores that are shared between processes, or say so, so that holds are fenced; and tokens of the fences' table."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import OperationalError, connection, connections, transaction

from pooling import fences, runtime
from pooling.store.memory import MemoryStore
from tests.app.models import Note

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


def meet_a_deadlock() -> None:
    """This thread's transaction meets one that has written more, so the server rolls all of it back; what it raises is
    swallowed, as a view may do."""
    first, *others = Note.objects.values_list("pk", flat=True)
    ready = threading.Event()

    def heavier() -> None:
        try:
            with transaction.atomic():
                Note.objects.filter(pk__in=others).update(text="theirs")
                ready.set()
                Note.objects.filter(pk=first).update(text="theirs")
        finally:
            connections.close_all()

    Note.objects.filter(pk=first).update(text="ours")
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(heavier)
        assert ready.wait(20)
        with pytest.raises(OperationalError, match="1213"):
            Note.objects.select_for_update().get(pk=others[0])  # Django itself notes only the errors of writes
        other.result(20)


@pytest.fixture
def notes() -> None:
    """Rows for `meet_a_deadlock`, which must be there before the transaction."""
    Note.objects.bulk_create([Note() for _ in range(100)])


def tokens() -> dict[str, int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT grp, token FROM pooling_fence")
        return {group.decode(): token for group, token in cursor.fetchall()}
