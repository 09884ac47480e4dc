"""What those who look on are told, and that nothing is done for nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import OperationalError, connection, connections
from django.test import AsyncClient, Client

from pooling import locked, moments
from pooling.backends.mysql.base import DatabaseWrapper
from pooling.flights import flights
from pooling.moments import Answered, Checkout, LockHeld, LockWaited, PageAwaited, PageMade, Recording
from tests.app.models import Account, Note

from ..waiting import in_queue, until
from . import site

pytestmark = pytest.mark.django_db(transaction=True)
NOTE = f"{site.__name__}.note"
PAY = f"{site.__name__}.pay"


def told(kind: type, recording: Recording) -> list[Any]:
    return [one for one in recording.moments if isinstance(one, kind)]


@pytest.fixture
def small_pool(django_db_setup: None) -> Iterator[Any]:
    """The default alias with one connection and no patience."""
    connection.close()
    options = connection.settings_dict["OPTIONS"]
    before = options["pool"]
    options["pool"] = {"max_size": 1, "timeout": 20}
    pool = connection.pool  # type: ignore[attr-defined]
    yield pool
    connection.close()
    options["pool"] = before
    for key, one in list(DatabaseWrapper._connection_pools.items()):
        if one is pool:
            DatabaseWrapper._drop_pool(key)


def test_a_page_that_is_made_and_its_hit() -> None:
    note = Note.objects.create(text="a")
    connection.close()
    with Recording() as recording:
        Client().get(f"/note/{note.pk}/")
    (checkout,) = told(Checkout, recording)
    assert checkout.pool == "default"
    assert not checkout.waited
    assert checkout.seconds > 0
    (held,) = told(LockHeld, recording)
    assert (held.view, held.reads, held.writes, held.waited) == (NOTE, (f"notes/{note.pk}",), (), 0.0)
    (made,) = told(PageMade, recording)
    assert (made.view, made.stored) == (NOTE, True)
    assert told(Answered, recording) == [Answered(NOTE, ("fwd=uri-miss", "stored"))]
    with Recording() as recording:
        Client().get(f"/note/{note.pk}/")
    (answered,) = recording.moments
    assert answered.outcome == "hit"


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (("hit", "ttl=5"), "hit"),
        (("hit", "ttl=-2"), "stale"),
        (("fwd=stale", "collapsed"), "collapsed"),
        (("fwd=stale", "stored"), "miss"),
        (("fwd=bypass",), "bypass"),
        (("fwd=method",), "bypass"),
    ],
)
def test_outcomes_in_one_word(status: tuple[str, ...], outcome: str) -> None:
    assert Answered("v", status).outcome == outcome


def test_a_lock_that_was_waited_for() -> None:
    account = Account.objects.create(balance=1)
    recording, thread = Recording(), None
    with locked(writes=[f"accounts/{account.pk}"], atomic=False):
        thread = in_thread(lambda: Client().get(f"/pay/{account.pk}/"), recording)
        in_queue(f"accounts/{account.pk}")
    thread.join(20)
    (waited,) = told(LockWaited, recording)
    assert (waited.view, waited.writes, waited.reads, waited.granted) == (
        PAY,
        (f"accounts/{account.pk}",),
        ("rates",),
        True,
    )
    (held,) = told(LockHeld, recording)
    assert held.waited == waited.seconds > 0


def test_a_lock_that_was_waited_for_in_vain() -> None:
    recording = Recording()
    with locked(writes=["accounts/7"], atomic=False):
        thread = in_thread(lambda: Client(raise_request_exception=False).get("/impatient/7/"), recording)
        thread.join(20)
    (waited,) = told(LockWaited, recording)
    assert not waited.granted
    assert waited.seconds > 0


def test_a_connection_that_was_waited_for(small_pool: Any) -> None:
    recording = Recording()
    lent = small_pool.getconn()
    thread = in_thread(lambda: Note.objects.exists(), recording)
    until(lambda: small_pool.get_stats()["requests_waiting"] == 1)
    small_pool.putconn(lent)
    thread.join(20)
    (checkout,) = told(Checkout, recording)
    assert checkout.waited
    assert checkout.seconds > 0
    # The next one of the same thread is served at once, and is not told to have waited.
    with Recording() as recording:
        Note.objects.exists()
    connection.close()
    assert [one.waited for one in told(Checkout, recording)] == [False]


def test_a_connection_that_was_not_to_be_had(small_pool: Any) -> None:
    lent = small_pool.getconn()
    small_pool._options = small_pool._options.__class__(max_size=1, timeout=0.01)
    try:
        with Recording() as recording, pytest.raises(OperationalError):
            Note.objects.exists()
    finally:
        small_pool.putconn(lent)
    (checkout,) = told(Checkout, recording)
    assert (checkout.waited, checkout.error) == (True, "PoolTimeout")


def test_a_page_that_another_request_makes() -> None:
    note = Note.objects.create(text="a")
    inside, go_on = threading.Event(), threading.Event()

    @contextmanager
    def slowly(view: str) -> Iterator[None]:
        inside.set()
        assert go_on.wait(20)
        yield

    moments.surround(slowly)
    try:
        first, second = Recording(), Recording()
        threads = [in_thread(lambda: Client().get(f"/note/{note.pk}/"), first)]
        assert inside.wait(20)
        threads.append(in_thread(lambda: Client().get(f"/note/{note.pk}/"), second))
        until(lambda: flights.waiting() == 1)
        go_on.set()
        for thread in threads:
            thread.join(20)
    finally:
        moments.unsurround(slowly)
    assert not told(PageAwaited, first)
    (awaited,) = told(PageAwaited, second)
    assert awaited.view == NOTE
    assert awaited.seconds > 0
    (answered,) = told(Answered, second)
    assert answered.outcome == "collapsed"
    assert not told(LockWaited, second)


def test_async_views_are_told_in_the_context_of_their_request() -> None:
    async def visit() -> Recording:
        with Recording() as recording:
            await AsyncClient().get("/anote/")
        return recording

    recording = async_to_sync(visit)()
    assert [one.outcome for one in told(Answered, recording)] == ["miss"]
    assert len(told(LockHeld, recording)) == len(told(PageMade, recording)) == 1
    assert len(told(Checkout, recording)) == 1


def test_who_looks_on_cannot_harm(caplog: Any) -> None:
    def bad(moment: Any) -> None:
        raise RuntimeError("a bug")

    @contextmanager
    def worse(view: str) -> Iterator[None]:
        raise RuntimeError("a bug")
        yield

    note = Note.objects.create(text="fine")
    moments.listen(bad)
    moments.surround(worse)
    try:
        with Recording() as recording:
            assert b"fine" in Client().get(f"/note/{note.pk}/").content
    finally:
        moments.unlisten(bad)
        moments.unsurround(worse)
    assert told(Answered, recording)
    logged = [one for one in caplog.records if one.name == "pooling.moments"]
    assert logged
    assert all(one.exc_info for one in logged)


def test_an_interrupt_while_it_is_told_loses_no_connection(small_pool: Any) -> None:
    class Interrupt(BaseException):
        pass

    def interrupt(moment: Any) -> None:
        raise Interrupt

    moments.listen(interrupt)
    try:
        with pytest.raises(Interrupt):
            Note.objects.exists()
    finally:
        moments.unlisten(interrupt)
    assert small_pool.get_stats()["pool_available"] == 1


def test_nothing_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    note = Note.objects.create(text="a")

    def unexpected(*args: Any) -> None:
        raise AssertionError("told")

    for name in ("tell", "checkout"):
        monkeypatch.setattr(moments, name, unexpected)
    connection.close()
    assert Client().get(f"/note/{note.pk}/").status_code == 200
    assert Client().get(f"/pay/{note.pk}/").status_code == 200


def test_recordings_are_of_their_own_context_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "LIMIT", 2)
    with Recording() as outer:
        with Recording() as inner:
            for _ in range(3):
                moments.tell(Answered("v", ("hit",)))
        in_thread(lambda: moments.tell(Answered("elsewhere", ("hit",)))).join(20)
        inner.stop()
    assert len(outer.moments) == len(inner.moments) == 2
    assert outer.left_out == inner.left_out == 1
    assert all(one.view == "v" for one in outer.moments)  # type: ignore[union-attr]
    assert moments._write not in moments.listeners


def in_thread(work: Callable[[], Any], recording: Recording | None = None) -> threading.Thread:
    def run() -> None:
        try:
            if recording is None:
                work()
            else:
                with recording:
                    work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread
