"""When the epochs are renewed: interleavings, a store that is down, connections of every kind."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.test import Client, RequestFactory, TestCase

from pooling import invalidate, locked_cache, runtime
from pooling.backends.mysql.connection import Connection
from tests import stores
from tests.app.models import Note
from tests.backend.conftest import ask, until
from tests.servers import PrivateRedis

from .conftest import GROUPS, renews, vector

LIMIT = 30.0


class Gate:
    """Two events: the other side has come here, and may go on."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def passing(self) -> None:
        self.reached.set()
        assert self.open.wait(LIMIT)


def in_thread(work: Any) -> threading.Thread:
    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def gated_page(gate: Gate) -> Any:
    """A page that reads, and stands at the gate before it is stored."""

    @locked_cache(300, reads=["notes"])
    def page(request: Any) -> HttpResponse:
        text = Note.objects.get().text
        if not gate.reached.is_set():
            gate.passing()
        return HttpResponse(text)

    return page


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("level", ["repeatable read", "read committed"])
def test_a_page_of_before_is_not_stored_after_the_commit(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    Note.objects.create(text="old")
    gate = Gate()
    page = gated_page(gate)
    found: list[Any] = []
    reader = in_thread(lambda: found.append(page(RequestFactory().get("/"))))
    assert gate.reached.wait(LIMIT)
    Note.objects.update(text="new")
    gate.open.set()
    reader.join(LIMIT)
    assert found[0].content == b"old"
    assert "stored" not in found[0]["Cache-Status"]
    assert page(RequestFactory().get("/")).content == b"new"


@pytest.mark.django_db(transaction=True)
def test_a_page_that_is_made_while_the_writer_is_in_its_transaction_is_stale_after_it() -> None:
    Note.objects.create(text="old")
    with transaction.atomic():
        Note.objects.update(text="new")
        reader = in_thread(lambda: Client().get("/notes"))
        reader.join(LIMIT)
    response = Client().get("/notes")
    assert (response.content, response["Cache-Status"].split(";")[1]) == (b"new", " fwd=stale")


@pytest.mark.django_db(transaction=True)
def test_before_the_answer_to_commit_nothing_is_renewed_and_after_it_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []
    commit, store = Connection.commit, type(runtime.store())

    def noting(method: Any, what: str) -> Any:
        return lambda self, names, *rest: (method(self, names, *rest), order.append(what))[0]

    monkeypatch.setattr(Connection, "commit", lambda self: (commit(self), order.append("committed"))[0])
    monkeypatch.setattr(store, "committing", noting(store.committing, "committing"))
    monkeypatch.setattr(store, "invalidate", noting(store.invalidate, "renewed"))
    with transaction.atomic():
        transaction.on_commit(lambda: order.append("on_commit"))
        Note.objects.create()
    assert order == ["committing", "committed", "renewed", "on_commit"]


@pytest.mark.django_db(transaction=True)
def test_a_commit_that_fails_renews_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any) -> None:
        commit(self)
        raise KeyboardInterrupt

    commit = Connection.commit

    def work() -> None:
        block = transaction.atomic()
        block.__enter__()
        Note.objects.create(text="x")
        monkeypatch.setattr(Connection, "commit", broken)
        with pytest.raises(KeyboardInterrupt):
            block.__exit__(None, None, None)
        monkeypatch.setattr(Connection, "commit", commit)

    assert renews(work)


@pytest.mark.django_db(transaction=True)
def test_the_store_hangs_at_the_commit(
    settings: Any, private_redis: PrivateRedis, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CACHES = stores.caches(private_redis.url)
    settings.POOLING = {"GROUPS": GROUPS, "STORE_BUDGET": 10}
    runtime.reset_runtime()
    Note.objects.create(text="old")
    Client().get("/notes")
    assert "hit" in Client().get("/notes")["Cache-Status"]
    settings.POOLING = {"GROUPS": GROUPS, "STORE_BUDGET": 0.05}
    hasty: Any = runtime.store()
    assert private_redis.pid is not None
    os.kill(private_redis.pid, signal.SIGSTOP)
    with caplog.at_level(logging.WARNING, "pooling.cache"):
        Note.objects.update(text="new")
    assert Note.objects.get().text == "new"
    assert "Pages made from notes are misses as soon as the store answers" in caplog.text
    os.kill(private_redis.pid, signal.SIGCONT)
    until(lambda: not hasty._owed.due)
    settings.POOLING = {"GROUPS": GROUPS, "STORE_BUDGET": 10}
    assert Client().get("/notes").content == b"new"


POOLS: list[Any] = [
    True,
    {"release": "transaction"},
    {"start_transaction": True},
    {"release": "transaction", "start_transaction": True},
    False,
]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("pool", POOLS, ids=str)
def test_connections_of_every_kind(make: Any, pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = make(pool)
    monkeypatch.setattr(connections._connections, "default", wrapper)  # type: ignore[attr-defined]
    assert connections["default"] is wrapper

    def commits() -> None:
        with transaction.atomic():
            ask(wrapper, "INSERT INTO app_note (text) VALUES ('x')")

    def twice() -> None:
        # The second transaction must not be taken for a part of the first.
        commits()
        before = vector()
        ask(wrapper, "SELECT * FROM app_note")
        with transaction.atomic():
            ask(wrapper, "UPDATE auth_user SET first_name = 'x'")
        assert vector() == before

    def undone() -> None:
        with transaction.atomic():
            ask(wrapper, "INSERT INTO app_note (text) VALUES ('x')")
            transaction.set_rollback(True)

    def after_a_definition() -> None:
        # It ends the transaction that START TRANSACTION began: what follows is committed by itself, or at the end.
        with transaction.atomic():
            ask(wrapper, "CREATE TABLE IF NOT EXISTS sources_scratch (id int)")
            ask(wrapper, "INSERT INTO app_note (text) VALUES ('x')")

    assert renews(lambda: ask(wrapper, "INSERT INTO app_note (text) VALUES ('x')"))
    assert renews(commits)
    assert renews(twice)
    assert not renews(undone)
    assert renews(after_a_definition)
    ask(wrapper, "DROP TABLE sources_scratch")
    wrapper.close()


@pytest.mark.django_db(transaction=True)
def test_connections_that_are_open_already_tell_as_well(settings: Any) -> None:
    settings.POOLING = {}
    Note.objects.create()
    raw = connection.connection
    assert type(raw) is Connection, "without GROUPS nothing stands between a statement and the driver"
    assert not renews(Note.objects.create)
    settings.POOLING = {"GROUPS": GROUPS}
    assert connection.connection is raw
    assert renews(Note.objects.create)
    settings.POOLING = {"GROUPS": GROUPS, "ENABLED": False}
    assert type(raw) is Connection


@pytest.mark.django_db(transaction=True)
def test_one_that_is_being_opened_when_it_is_switched_on_tells_as_well(
    make: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.POOLING = {}
    wrapper = make({"max_size": 3})  # a pool of its own, which has none yet
    monkeypatch.setattr(connections._connections, "default", wrapper)  # type: ignore[attr-defined]
    opens = Connection.__init__

    def opening(self: Connection, **kwargs: Any) -> None:
        settings.POOLING = {"GROUPS": GROUPS}
        opens(self, **kwargs)

    monkeypatch.setattr(Connection, "__init__", opening)
    wrapper.connect()
    assert renews(Note.objects.create)


class InTestCase(TestCase):
    """Whose transaction is never committed: as with `invalidate`, captured callbacks do it."""

    def test_the_renewal_is_a_callback(self) -> None:
        before = vector()
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            Note.objects.create(text="x")
            invalidate("bank")
            assert vector() == before
        assert len(callbacks) == 2
        assert vector() != before

    def test_not_of_what_was_rolled_back(self) -> None:
        with self.captureOnCommitCallbacks() as callbacks:
            with transaction.atomic():
                Note.objects.create(text="x")
                transaction.set_rollback(True)
        assert callbacks == []

    def test_a_hold_does_it_at_its_release(self) -> None:
        before = vector()
        with self.captureOnCommitCallbacks() as callbacks:
            self.client.get("/declared")
        assert callbacks == []
        assert vector() != before
