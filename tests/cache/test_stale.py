"""Old pages: who gets one, for how long, who makes the next, and what happens when that fails."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.test import RequestFactory

from pooling import LockTimeout, StoreUnavailable, invalidate, locked, locked_cache, runtime
from pooling.cache import answers, frame, grace, near
from pooling.cache.grace import RETRY_SECONDS, Sightings
from pooling.groups import Mode, plan

from .test_races import LIMIT, get, in_threads, queued, until


class Clock:
    """The cache's idea of time: it goes on as usual, and leaps when it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        real = answers.time.time
        monotonic = grace.monotonic
        monkeypatch.setattr(grace, "monotonic", lambda: monotonic() + self.ahead)
        monkeypatch.setattr(grace, "wall", lambda: real() + self.ahead)
        monkeypatch.setattr(answers, "time", self)
        monkeypatch.setattr(near, "time", self)
        self.time = lambda: real() + self.ahead

    def leap(self, seconds: float) -> None:
        self.ahead += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture(autouse=True)
def no_luck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is picked to renew a page early, unless the test picks one."""
    monkeypatch.setattr(grace, "rand", lambda: 0.0)
    monkeypatch.setattr(grace, "sightings", Sightings())


def state(response: Any) -> str:
    return str(response["Cache-Status"])


class Shop:
    """A page of a number that counts how often it was made; the making can be held up, or fail."""

    def __init__(self, *, is_async: bool = False, timeout: float | None = 300, **options: Any) -> None:
        self.made = 0
        self.failure: Any = None
        self.inside, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        decorate = locked_cache(timeout, reads=["x"], **options)
        if is_async:

            async def waiting(request: Any) -> Any:
                await asyncio.to_thread(self.work)
                return self.answer()

            view = decorate(waiting)
            self.ask: Callable[..., Any] = lambda request=None: asyncio.run(view(request or get()))
        else:

            def plain(request: Any) -> Any:
                self.work()
                return self.answer()

            self.view = view = decorate(plain)
            self.ask = lambda request=None: view(request or get())

    def work(self) -> None:
        self.made += 1
        self.inside.set()
        assert self.go_on.wait(LIMIT)

    def answer(self) -> Any:
        if isinstance(self.failure, int):
            return HttpResponse("broken", status=self.failure)
        if self.failure is not None:
            raise self.failure
        return HttpResponse(f"page {self.made}")

    def hold_up(self) -> None:
        self.inside.clear()
        self.go_on.clear()


def expire(clock: Clock) -> None:
    clock.leap(300.5)


def write(clock: Clock) -> None:
    invalidate("x")


@contextmanager
def a_writer_inside() -> Iterator[None]:
    """Somebody holds what the pages read, for as long as the block lasts."""
    inside, go_on = threading.Event(), threading.Event()

    def writing() -> None:
        with locked(writes=["x"], atomic=False):
            inside.set()
            assert go_on.wait(LIMIT)

    with in_threads(1) as start:
        writer = start(writing)
        assert inside.wait(LIMIT)
        try:
            yield
        finally:
            go_on.set()
        writer.result(LIMIT)


OLD = pytest.mark.parametrize(("make_old", "why"), [(expire, "expired"), (write, "written")])


@pytest.mark.parametrize("is_async", [False, True])
@OLD
def test_one_makes_the_new_page_and_the_others_get_the_old_one(
    is_async: bool, make_old: Any, why: str, clock: Clock
) -> None:
    shop = Shop(stale=60, is_async=is_async)
    assert shop.ask().content == b"page 1"
    make_old(clock)
    shop.hold_up()
    with in_threads(4) as start:
        first = start(shop.ask)
        assert shop.inside.wait(LIMIT)
        for future in [start(shop.ask) for _ in range(3)]:
            other = future.result(LIMIT)  # while the view is still at it
            assert other.content == b"page 1"
            assert state(other) == f'pooling; hit; ttl=-1; detail="{why}"'
        shop.go_on.set()
        response = first.result(LIMIT)
    assert (response.content, state(response)) == (b"page 2", "pooling; fwd=stale; stored")
    assert shop.ask().content == b"page 2"
    assert shop.made == 2
    assert runtime.store().parties() == []


def test_one_of_another_process_makes_it(clock: Clock) -> None:
    """The old page is served as well if not this process but the store knows who makes the new one."""
    shop = Shop(stale=60)
    shop.ask()
    write(clock)
    manager = runtime.manager()
    held = plan(["x"], [], {})
    with in_threads(1) as start:
        elsewhere = start(lambda: manager.acquire(held, follow="//" + shop.view.key(get()))).result(LIMIT)
        assert shop.ask().content == b"page 1"
        manager.release(elsewhere)
    assert shop.ask().content == b"page 2"


@OLD
def test_without_stale_nothing_old_is_served(make_old: Any, why: str, clock: Clock) -> None:
    shop = Shop()
    shop.ask()
    make_old(clock)
    shop.hold_up()
    with in_threads(2) as start:
        first = start(shop.ask)
        assert shop.inside.wait(LIMIT)
        second = start(shop.ask)
        until(lambda: queued(Mode.S) == 1)
        shop.go_on.set()
        assert [future.result(LIMIT).content for future in (first, second)] == [b"page 2"] * 2
    assert shop.made == 2


def test_while_a_writer_is_inside_the_old_page_is_served(clock: Clock) -> None:
    shop = Shop(stale=60)
    shop.ask()
    with a_writer_inside():
        assert state(shop.ask()) == 'pooling; hit; ttl=-1; detail="written"'
    assert shop.ask().content == b"page 2"


@OLD
def test_past_its_grace_it_is_waited_for(make_old: Any, why: str, clock: Clock) -> None:
    shop = Shop(stale=60)
    shop.ask()
    make_old(clock)
    shop.hold_up()
    with in_threads(2) as start:
        first = start(shop.ask)
        assert shop.inside.wait(LIMIT)
        clock.leap(58)
        assert shop.ask().content == b"page 1"
        clock.leap(2.1)
        second = start(shop.ask)
        until(lambda: queued(Mode.S) == 1)
        shop.go_on.set()
        assert [future.result(LIMIT).content for future in (first, second)] == [b"page 2"] * 2


def test_the_time_counts_from_when_the_page_was_last_known_to_be_good(clock: Clock) -> None:
    shop = Shop(timeout=None, stale=60)
    shop.ask()
    clock.leap(1000)
    assert "hit; ttl=3" in state(shop.ask())  # of ten years; seen to be good, 1000 s after it was made
    clock.leap(30)
    write(clock)
    shop.hold_up()
    with in_threads(2) as start:
        first = start(shop.ask)
        assert shop.inside.wait(LIMIT)
        assert "ttl=-31;" in state(shop.ask())  # it may have been written any time since
        clock.leap(29)
        assert shop.ask().content == b"page 1"
        clock.leap(2)
        second = start(shop.ask)
        until(lambda: queued(Mode.S) == 1)
        shop.go_on.set()
        assert [future.result(LIMIT).content for future in (first, second)] == [b"page 2"] * 2


def test_a_process_that_has_not_seen_it_counts_from_its_making(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(stale=60)
    shop.ask()
    clock.leap(30)
    assert "hit" in state(shop.ask())
    monkeypatch.setattr(grace, "sightings", Sightings())  # another process
    clock.leap(20)
    write(clock)
    shop.hold_up()
    with in_threads(2) as start:
        first = start(shop.ask)
        assert shop.inside.wait(LIMIT)
        assert "ttl=-51;" in state(shop.ask())
        clock.leap(11)
        second = start(shop.ask)
        until(lambda: queued(Mode.S) == 1)
        shop.go_on.set()
        assert [future.result(LIMIT).content for future in (first, second)] == [b"page 2"] * 2


def test_a_second_write_does_not_make_it_younger(clock: Clock) -> None:
    shop = Shop(stale=60)
    shop.ask()
    write(clock)
    shop.hold_up()
    with in_threads(2) as start:
        first = start(shop.ask)
        assert shop.inside.wait(LIMIT)
        clock.leap(50)
        assert shop.ask().content == b"page 1"
        write(clock)
        clock.leap(11)
        second = start(shop.ask)
        until(lambda: queued(Mode.S) == 1)
        shop.go_on.set()
        assert first.result(LIMIT).content == b"page 2"
        second.result(LIMIT)
    assert shop.made == 3  # what the first made was from before the second write


def test_inside_a_hold_nothing_old_is_served(clock: Clock) -> None:
    shop = Shop(stale=60)
    shop.ask()
    with locked(writes=["x"], atomic=False):
        assert shop.ask().content == b"page 2"


def test_head_gets_the_old_page_and_makes_none(clock: Clock) -> None:
    shop = Shop(stale=60)
    shop.ask()
    write(clock)
    head = shop.ask(RequestFactory().head("/page"))
    assert (state(head), shop.made) == ('pooling; hit; ttl=-1; detail="written"', 1)


@pytest.mark.parametrize("kind", ["vary_on", "vary"])
def test_an_old_page_is_nobody_elses(kind: str, clock: Clock) -> None:
    go_on = threading.Event()
    slow, inside = [False], []

    @locked_cache(300, reads=["x"], stale=60, vary_on=["user"] if kind == "vary_on" else [])
    def page(request: Any) -> HttpResponse:
        if slow[0]:
            inside.append(1)
            assert go_on.wait(LIMIT)
        if kind == "vary_on":
            return HttpResponse(f"for {request.user.username}")
        return HttpResponse(f"for {request.headers.get('X-Name')}", headers={"Vary": "X-Name"})

    def ask(name: str) -> str:
        request = RequestFactory().get("/page", headers={"X-Name": name})
        request.user = User(username=name, pk=len(name)) if name else AnonymousUser()
        return str(page(request).content.decode())

    for name in ("ann", "robert"):
        assert ask(name) == f"for {name}"
    clock.leap(300.5)
    slow[0] = True
    with in_threads(2) as start:
        makers = [start(lambda: ask("ann")), start(lambda: ask("robert"))]
        until(lambda: len(inside) == 2)
        assert ask("ann") == "for ann"
        assert ask("robert") == "for robert"
        go_on.set()
        assert [maker.result(LIMIT) for maker in makers] == ["for ann", "for robert"]


def test_a_view_that_returns_nothing_is_run_once() -> None:
    ran: list[int] = []
    view = locked_cache(300, reads=["x"], stale=5)(lambda request: ran.append(1))
    assert view(get()) is None
    assert ran == [1]


# --- when the view fails


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("failure", [ZeroDivisionError("oh"), LockTimeout("no"), 500, 503])
@OLD
def test_a_failure_is_hidden_by_the_old_page(
    failure: Any, is_async: bool, make_old: Any, why: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop(stale_if_error=3600, is_async=is_async)
    shop.ask()
    make_old(clock)
    shop.failure = failure
    with caplog.at_level(logging.WARNING, "pooling.cache"):
        response = shop.ask()
    status = f"fwd-status={failure}; " if isinstance(failure, int) else ""
    assert (response.status_code, response.content) == (200, b"page 1")
    assert state(response) == f'pooling; fwd=stale; {status}detail="the view failed"'
    [record] = [record for record in caplog.records if record.name == "pooling.cache"]
    assert record.levelno == logging.ERROR
    assert "plain" in record.getMessage() or "waiting" in record.getMessage()
    if not isinstance(failure, int):
        assert record.exc_info is not None
        assert record.exc_info[1] is failure
    # For a moment nobody tries again; then somebody does.
    assert state(shop.ask()).endswith('detail="the view failed"')
    assert shop.made == 2
    clock.leap(RETRY_SECONDS)
    assert "fwd=stale" in state(shop.ask())
    assert shop.made == 3
    clock.leap(RETRY_SECONDS)
    shop.failure = None
    assert shop.ask().content == b"page 4"
    assert state(shop.ask()).startswith("pooling; hit; ttl=2")
    assert runtime.store().parties() == []


def test_those_who_wait_do_not_fail_in_turn(clock: Clock) -> None:
    shop = Shop(stale_if_error=3600)
    shop.ask()
    write(clock)
    shop.failure = ZeroDivisionError()
    shop.hold_up()
    with in_threads(8) as start:
        first = start(shop.ask)
        assert shop.inside.wait(LIMIT)
        others = [start(shop.ask) for _ in range(7)]
        until(lambda: queued(Mode.S) == 7)
        shop.go_on.set()
        assert {future.result(LIMIT).content for future in (first, *others)} == {b"page 1"}
    assert shop.made == 2


def test_a_failure_is_hidden_for_so_long_and_no_longer(clock: Clock) -> None:
    shop = Shop(stale=3600, stale_if_error=60)
    shop.ask()
    write(clock)
    shop.failure = ZeroDivisionError()
    clock.leap(59)
    assert shop.ask().content == b"page 1"
    clock.leap(2)
    with pytest.raises(ZeroDivisionError):
        shop.ask()


@pytest.mark.parametrize("failure", [Http404(), PermissionDenied()])
def test_what_says_no_is_an_answer(failure: Exception, clock: Clock) -> None:
    shop = Shop(stale=60, stale_if_error=60)
    shop.ask()
    write(clock)
    shop.failure = failure
    for made in (2, 3):
        with pytest.raises(type(failure)):
            shop.ask()
        assert shop.made == made


@pytest.mark.parametrize("options", [{}, {"stale": 60}])
def test_nothing_is_hidden_without_being_asked_for(options: dict[str, Any], clock: Clock) -> None:
    shop = Shop(**options)
    shop.ask()
    write(clock)
    shop.failure = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        shop.ask()
    shop.failure = 503
    assert shop.ask().status_code == 503


def test_a_failure_without_an_old_page_is_raised(clock: Clock) -> None:
    shop = Shop(stale=60, stale_if_error=60)
    shop.failure = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        shop.ask()


def test_a_writer_who_takes_too_long_is_a_failure_as_well(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    shop = Shop(stale_if_error=60, wait=0.01)
    shop.ask()
    with a_writer_inside():
        response = shop.ask()
    assert state(response) == 'pooling; fwd=stale; detail="the view could not begin"'
    assert [record.levelname for record in caplog.records if record.name == "pooling.cache"] == ["WARNING"]


@pytest.mark.parametrize("options", [{"stale": 60}, {"stale_if_error": 60}])
def test_a_store_that_goes_down_after_the_look(
    options: dict[str, Any], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*args: Any) -> Any:
        raise StoreUnavailable("nobody answers")

    shop = Shop(**options)
    shop.ask()
    write(clock)
    monkeypatch.setattr(runtime.store(), "acquire", down)
    assert shop.ask().content == b"page 1"
    assert shop.made == 1


# --- early


@pytest.mark.parametrize("is_async", [False, True])
def test_one_renews_a_page_before_its_time_and_the_others_hit(
    is_async: bool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(is_async=is_async)
    shop.ask()
    costly(monkeypatch)
    clock.leap(299)
    assert state(shop.ask()).startswith("pooling; hit; ttl=")
    monkeypatch.setattr(grace, "rand", lambda: 1 - 2**-53)  # the last dice
    shop.hold_up()
    with in_threads(2) as start:
        first = start(shop.ask)
        assert shop.inside.wait(LIMIT)
        assert state(start(shop.ask).result(LIMIT)) == "pooling; hit; ttl=0"
        shop.go_on.set()
        assert state(first.result(LIMIT)) == 'pooling; fwd=stale; stored; detail="early"'
    monkeypatch.setattr(grace, "rand", lambda: 0.0)
    response = shop.ask()
    assert response.content == b"page 2"
    assert "ttl=29" in state(response)


def costly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page that is there took 10 s to make."""
    store = runtime.store()
    fetch = store.fetch

    def fetched(key: str, names: Any) -> Any:
        found = fetch(key, names)
        page = frame.decode(found.entry)
        if isinstance(page, frame.Page) and page.body == b"page 1":
            dear = frame.encode(page._replace(cost=10.0))
            return type(found)(dear, found.vector)
        return found

    monkeypatch.setattr(store, "fetch", fetched)


@pytest.mark.parametrize("failure", [ZeroDivisionError(), 503])
def test_a_page_whose_early_renewal_fails_is_served(
    failure: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shop = Shop()
    shop.ask()
    costly(monkeypatch)
    clock.leap(299)
    monkeypatch.setattr(grace, "rand", lambda: 1 - 2**-53)
    shop.failure = failure
    assert shop.ask().content == b"page 1"
    assert shop.made == 2
    assert [record.levelname for record in caplog.records if record.name == "pooling.cache"] == ["ERROR"]


def test_the_cost_of_a_page_is_what_its_making_took() -> None:
    shop = Shop(timeout=300)
    shop.ask()
    page = frame.decode(runtime.store().fetch(shop.view.key(get()), ()).entry)
    assert isinstance(page, frame.Page)
    assert 0 < page.cost < LIMIT


@pytest.mark.parametrize(
    ("left", "cost", "dice", "due"),
    [
        (100, 10, 0.0, False),
        (100, 10, 1 - 2**-53, True),
        (9.9, 10, 0.64, True),  # -ln(0.36) = 1.02
        (10.3, 10, 0.64, False),
        (301, 10, 1 - 2**-53, False),
        (0.1, 0, 1 - 2**-53, False),
        (990, 10_000, 0.64, True),  # a tenth of its 10,000 s at most counts as cost
        (1030, 10_000, 0.64, False),
    ],
)
def test_when_a_page_is_due(left: float, cost: float, dice: float, due: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grace, "rand", lambda: dice)
    monkeypatch.setattr(grace, "wall", lambda: 50_000.0)
    page = frame.Page(200, "OK", (), b"", (), 50_000.0 + left - 10_000, 10_000.0, cost)
    assert grace.is_due(page) is due


def test_sightings_are_of_these_very_versions_and_not_too_many() -> None:
    sightings = Sightings(limit=3)
    sightings.note("a", (b"1",), 5.0)
    assert sightings.at("a", (b"1",)) == 5.0
    assert sightings.at("a", (b"2",)) == sightings.at("b", (b"1",)) == float("-inf")
    sightings.note("a", (b"1",), 6.0)
    for number in range(3):
        sightings.note(str(number), (b"1",), 7.0)
    assert sightings.at("a", (b"1",)) == 6.0  # one generation back
    for number in range(100):
        sightings.note(f"x{number}", (b"1",), 7.0)
    assert sightings.at("a", (b"1",)) == float("-inf")
    assert len(sightings._new) + len(sightings._before) <= 6
