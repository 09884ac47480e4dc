"""A writer that is killed between its COMMIT and the renewal leaves nothing old."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import Client

from pooling import runtime, sources
from tests import stores
from tests.app.models import Note
from tests.backend.conftest import until
from tests.servers import PrivateRedis

from .conftest import GROUPS

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def in_redis(mapped: None, settings: Any, private_redis: PrivateRedis) -> Iterator[None]:
    settings.CACHES = stores.caches(private_redis.url)
    settings.POOLING = {"GROUPS": GROUPS, "STORE_BUDGET": 10, "LOCK_LEASE": 1}
    runtime.reset_runtime()
    yield
    runtime.reset_runtime()


@contextmanager
def killed(work: Any) -> Iterator[None]:
    """Do it in another process, which kills itself where the renewal would begin; at the end that has happened."""
    connections.close_all()
    child = os.fork()
    if child == 0:
        try:
            sources._renew = lambda *args: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
            work()
        finally:
            os._exit(1)
    try:
        yield
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)


def by_itself() -> None:
    Note.objects.update(text="new")


def in_a_transaction() -> None:
    with transaction.atomic():
        Note.objects.update(text="new")


@pytest.mark.parametrize("work", [by_itself, in_a_transaction])
def test_killed_between_commit_and_renewal(work: Any, settings: Any) -> None:
    Note.objects.create(text="old")
    Client().get("/notes")
    assert "hit" in Client().get("/notes")["Cache-Status"]
    with killed(work):
        pass
    first = Client().get("/notes")
    assert (first.content, first["Cache-Status"].split("; ")[1]) == (b"new", "fwd=stale")
    until(lambda: "hit" in Client().get("/notes")["Cache-Status"])  # it heals
    assert Client().get("/notes").content == b"new"


def test_another_that_is_done_first_does_not_open_it(settings: Any) -> None:
    """It renews what both write, and a page is made, before the COMMIT of the one that is killed."""
    settings.POOLING = {"GROUPS": GROUPS, "STORE_BUDGET": 10, "LOCK_LEASE": 1000}
    told, go_on = os.pipe(), os.pipe()
    announce = sources._announce

    def announce_and_wait(*args: Any) -> None:
        announce(*args)
        os.write(told[1], b".")
        os.read(go_on[0], 1)

    def work() -> None:
        sources._announce = announce_and_wait
        with transaction.atomic():
            Note.objects.create(text="second")

    with killed(work):
        os.read(told[0], 1)
        Note.objects.create(text="first")
        for _ in range(2):
            response = Client().get("/notes")
            assert (response.content, "stored" in response["Cache-Status"]) == (b"first", False)
        os.write(go_on[1], b".")
    for end in (*told, *go_on):
        os.close(end)
    assert set(Client().get("/notes").content.decode().split("|")) == {"first", "second"}
