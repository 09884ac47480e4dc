"""Many at once, and the interleavings that would leave something stale. No test depends on how fast anything is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.test import Client, RequestFactory

from pooling import LockTimeout, StoreUnavailable, invalidate, locked, locked_cache, runtime, single_flight
from pooling.flights import Flights, flights
from pooling.groups import Mode
from tests.app.models import Note

from . import views

LIMIT = 30.0  # seconds until a test that hangs gives up


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


def queued(mode: Mode) -> int:
    """How many wait for the entry of a page in this mode: in the store, or in this process for one of it."""
    parties = runtime.store().parties()
    there = sum(1 for p in parties if not p.holding and any(name.startswith("//") and mode is m for name, m in p.wants))
    return there + (flights.waiting() if mode is Mode.S else 0)


def get() -> Any:
    return RequestFactory().get("/page")


@contextmanager
def in_threads(number: int) -> Any:
    def end() -> None:
        connections.close_all()

    with ThreadPoolExecutor(number) as pool:
        yield lambda work: pool.submit(lambda: (work(), end())[0])


def test_many_cold_misses_compute_once() -> None:
    ran = []

    @locked_cache(300, reads=["x"])
    def page(request: Any) -> HttpResponse:
        until(lambda: queued(Mode.S) == 31)
        ran.append(1)
        return HttpResponse("page")

    with in_threads(32) as start:
        found = [future.result(LIMIT) for future in [start(lambda: page(get())) for _ in range(32)]]
    assert len(ran) == 1
    assert {response.content for response in found} == {b"page"}
    statuses = sorted(response["Cache-Status"] for response in found)
    assert statuses == ["pooling; fwd=uri-miss; collapsed"] * 31 + ["pooling; fwd=uri-miss; stored"]


def test_who_missed_just_before_the_page_was_stored_does_not_compute_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []

    @locked_cache(300, reads=["x"])
    def page(request: Any) -> HttpResponse:
        ran.append(1)
        return HttpResponse("page")

    manager = runtime.manager()
    acquire = manager.acquire

    def late(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(manager, "acquire", acquire)
        with monkeypatch.context() as elsewhere:  # a whole request of another process, between the miss and the grant
            elsewhere.setattr(single_flight, "flights", Flights())
            assert page(get())["Cache-Status"].endswith("stored")
        return acquire(*args, **kwargs)

    monkeypatch.setattr(manager, "acquire", late)
    assert page(get())["Cache-Status"] == "pooling; fwd=uri-miss; collapsed"
    assert len(ran) == 1


def test_nobody_queues_for_an_answer_that_cannot_be_stored() -> None:
    first = threading.Event()
    together = threading.Barrier(15)

    @locked_cache(300, reads=["x"])
    def page(request: Any) -> HttpResponse:
        if not first.is_set():
            until(lambda: queued(Mode.S) == 15)
            first.set()
        else:
            together.wait(LIMIT)  # broken, unless all of them run at once
        response = HttpResponse("page")
        response.set_cookie("a", "b")
        return response

    with in_threads(16) as start:
        found = [future.result(LIMIT) for future in [start(lambda: page(get())) for _ in range(16)]]
    assert all('detail="Set-Cookie"' in response["Cache-Status"] for response in found)
    together.reset()
    with in_threads(15) as start:  # and those who come later neither
        for future in [start(lambda: page(get())) for _ in range(15)]:
            future.result(LIMIT)


def test_after_a_mark_a_storable_answer_is_stored_again() -> None:
    forbidden = [True]

    @locked_cache(300, reads=["x"])
    def page(request: Any) -> HttpResponse:
        return HttpResponse("x", headers={"Cache-Control": "private"} if forbidden else {})

    assert "private" in page(get())["Cache-Status"]
    forbidden.clear()
    assert page(get())["Cache-Status"].endswith("stored")
    assert "hit" in page(get())["Cache-Status"]


@pytest.mark.parametrize("vary", [None, "X-Kind"])
def test_a_mark_wipes_no_page_that_another_stored_meanwhile(vary: str | None) -> None:
    inside, go_on = threading.Event(), threading.Event()

    @locked_cache(300, reads=["x"])
    def page(request: Any) -> HttpResponse:
        kind = request.kind
        if kind == "slow":
            inside.set()
            assert go_on.wait(LIMIT)
        response = HttpResponse("page", status=404 if kind else 200)
        if vary and not kind:
            response["Vary"] = vary
        return response

    def ask(kind: str | None = None, **headers: str) -> str:
        request: Any = RequestFactory().get("/page", **headers)
        request.kind = kind
        return str(page(request)["Cache-Status"])

    assert "status 404" in ask("quick")  # from now on nobody queues
    with in_threads(1) as start:
        slow = start(lambda: ask("slow", HTTP_X_KIND="other"))
        assert inside.wait(LIMIT)
        assert ask().endswith("stored")
        go_on.set()
        assert "status 404" in slow.result(LIMIT)
    assert "hit" in ask()


def test_a_leader_that_fails_does_not_block_the_others() -> None:
    ran: list[int] = []

    @locked_cache(300, reads=["x"])
    def page(request: Any) -> HttpResponse:
        ran.append(1)
        if len(ran) == 1:
            until(lambda: queued(Mode.S) == 7)
            raise ZeroDivisionError
        return HttpResponse("page")

    with in_threads(8) as start:
        futures = [start(lambda: page(get())) for _ in range(8)]
        errors = [future.exception(LIMIT) for future in futures]
    assert [type(error) for error in errors if error] == [ZeroDivisionError]
    assert len(ran) == 2
    assert {future.result().content for future, error in zip(futures, errors, strict=True) if not error} == {b"page"}
    assert runtime.store().parties() == []


@pytest.mark.parametrize("end", ["raises", "changed meanwhile"])
def test_a_page_that_is_never_stored_is_not_computed_one_after_another(end: str) -> None:
    ran: list[int] = []
    together = threading.Barrier(6)

    @locked_cache(300, reads=["x"])
    def page(request: Any) -> HttpResponse:
        ran.append(1)
        if len(ran) <= 2:
            leaders = len(ran)
            until(lambda: queued(Mode.S) == 8 - leaders)
        else:
            together.wait(LIMIT)
        if end == "raises":
            raise ZeroDivisionError
        invalidate("x")
        return HttpResponse("page")

    with in_threads(8) as start:
        futures = [start(lambda: page(get())) for _ in range(8)]
        errors = [future.exception(LIMIT) for future in futures]
    assert {type(error) for error in errors} == {ZeroDivisionError if end == "raises" else type(None)}
    assert len(ran) == 8
    assert runtime.store().parties() == []


def test_a_follower_gives_up_after_its_wait() -> None:
    inside, go_on = threading.Event(), threading.Event()

    @locked_cache(300, reads=["x"], wait=0.05)
    def page(request: Any) -> HttpResponse:
        inside.set()
        assert go_on.wait(LIMIT)
        return HttpResponse("page")

    with in_threads(1) as start:
        leader = start(lambda: page(get()))
        assert inside.wait(LIMIT)
        with pytest.raises(LockTimeout):
            page(get())
        go_on.set()
        assert leader.result(LIMIT).content == b"page"
    assert "hit" in page(get())["Cache-Status"]


def test_too_large_a_page_leaves_a_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    store = runtime.store()
    real = store.put
    monkeypatch.setattr(store, "put", lambda key, entry, *rest: len(entry) < 10_000 and real(key, entry, *rest))
    view = locked_cache(300, reads=["x"])(lambda request: HttpResponse(b"x" * 20_000))
    response = view(get())
    assert len(response.content) == 20_000
    assert "too large" in response["Cache-Status"]
    assert "skip" in repr(store.fetch(view.key(get()), ()).entry)


@pytest.mark.parametrize("method", ["fetch", "acquire"])
def test_without_a_store_a_page_is_computed_uncached(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*args: Any) -> Any:
        raise StoreUnavailable("nobody answers")

    monkeypatch.setattr(runtime.store(), method, down)
    view = locked_cache(300, reads=["x"])(lambda request: HttpResponse("page"))
    response = view(get())
    assert response.content == b"page"
    assert response["Cache-Status"] == 'pooling; fwd=bypass; detail="store down: nobody answers"'


# --- against the database


@pytest.fixture(params=["read committed", "repeatable read"])
def isolation(request: Any) -> Any:
    """Every connection at this level, and ATOMIC_REQUESTS."""
    settings = connections.settings["default"]
    connections.close_all()
    before = settings["OPTIONS"]
    settings["OPTIONS"] = connection.settings_dict["OPTIONS"] = {**before, "isolation_level": request.param}
    settings["ATOMIC_REQUESTS"] = connection.settings_dict["ATOMIC_REQUESTS"] = True
    yield request.param
    connections.close_all()
    settings["OPTIONS"] = connection.settings_dict["OPTIONS"] = before
    settings["ATOMIC_REQUESTS"] = connection.settings_dict["ATOMIC_REQUESTS"] = False


@pytest.mark.django_db(transaction=True)
def test_a_page_from_an_old_snapshot_is_not_stored(isolation: str) -> None:
    """The stale set: a writer commits and invalidates between the reader's snapshot and its store."""
    note = Note.objects.create(text="old")
    seen, written = threading.Event(), threading.Event()
    slow = [True]

    @locked_cache(300, reads=["notes"])
    def page(request: Any) -> HttpResponse:
        with connection.cursor() as cursor:
            cursor.execute("SHOW VARIABLES LIKE 't%\\_isolation'")  # by its old name, its new one, or both
            levels = {level.replace("-", " ").lower() for _, level in cursor.fetchall()}
        assert levels == {isolation}
        assert connection.in_atomic_block
        text = Note.objects.get(pk=note.pk).text
        if slow:
            seen.set()
            assert written.wait(LIMIT)
            again = Note.objects.get(pk=note.pk).text
            assert again == ("old" if isolation == "repeatable read" else "new")
        return HttpResponse(text)

    def write() -> None:  # round the locks, as an admin or a shell does
        with transaction.atomic():
            Note.objects.filter(pk=note.pk).update(text="new")
            invalidate("notes")

    with in_threads(2) as start:
        reader = start(lambda: page(get()))
        assert seen.wait(LIMIT)
        start(write).result(LIMIT)
        slow.clear()
        written.set()
        response = reader.result(LIMIT)
    assert response.content == b"old"
    assert "changed meanwhile" in response["Cache-Status"]
    assert page(get()).content == b"new"
    assert "hit" in page(get())["Cache-Status"]


@pytest.mark.django_db(transaction=True)
def test_while_a_writer_is_inside_nobody_gets_the_old_page(isolation: str) -> None:
    note = Note.objects.create(text="old")
    url = f"/note/{note.pk}"
    assert Client().get(url).content == b"old"
    inside, go_on = threading.Event(), threading.Event()

    @locked(writes=[f"notes/{note.pk}"])
    def write() -> None:
        Note.objects.filter(pk=note.pk).update(text="new")
        inside.set()
        assert go_on.wait(LIMIT)

    with in_threads(4) as start:
        writer = start(write)
        assert inside.wait(LIMIT)
        readers = [start(lambda: Client().get(url)) for _ in range(3)]
        until(lambda: sum(not party.holding for party in runtime.store().parties()) + flights.waiting() == 3)
        go_on.set()
        writer.result(LIMIT)
        assert [reader.result(LIMIT).content for reader in readers] == [b"new"] * 3
    assert views.calls["note"] == 2
