"""The real cache under every interleaving of its steps: one writer, two readers, and faults.

Nothing of the algorithm is written a second time here: `locked_cache`, `locked` and `invalidate` run as they are, each
actor a process of its own with its own lock manager, over the in-process store. Each call of the store, and each step
of the database, is a point at which any actor may go on. All schedules are run, except that one which comes to a state
that was there before is not followed twice. The database is one value; a view reads it twice.
"""

from __future__ import annotations

import copy
import itertools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import greenlet
import pytest
from django.http import HttpResponse
from django.test import RequestFactory

from pooling import invalidate, locked, locked_cache, runtime, single_flight
from pooling.cache import answers, frame, grace, near
from pooling.flights import Flights
from pooling.groups import covers, read_epochs
from pooling.locks.manager import LockManager
from pooling.store._epochs import Epochs
from pooling.store._table import LockTable
from pooling.store.memory import MemoryStore
from pooling.store.protocol import Found, Grant

STALE = 60.0
LEASE = 30.0
MOST = 20_000  # states
_hub: Any = None


class Quiet:
    """In the place of the thread that renews leases: whoever stands still in a schedule is meant to."""

    def add(self, ticket: str, held: Any) -> None: ...

    def remove(self, ticket: str) -> None: ...


class Actor(greenlet.greenlet):
    """A process. ``seen`` is all that it has learned: with the state of the world it says how it will go on."""

    def __init__(self, world: World, name: str, work: Callable[[], None]) -> None:
        super().__init__(work, _hub)
        self.name = name
        self.blocked: Callable[[], bool] | None = None
        self.seen: list[Any] = []
        self.steps = 0
        self.stopped = False
        self.over = False
        self.flights = Flights()
        self.bodies = near.Bodies(1 << 20)
        self.sightings = grace.Sightings()
        self.manager = LockManager(world.steps)  # type: ignore[arg-type]
        self.manager._renewer = Quiet()  # type: ignore[assignment]
        self.manager._tickets._nonce, self.manager._tickets.pid = name, os.getpid()

    def pause(self) -> None:
        if self.over:
            raise greenlet.GreenletExit  # what is left of it is not looked at any more
        _hub.switch()

    def end(self) -> None:
        """What a greenlet that stands still holds on to, nobody collects."""
        self.over = True
        while self and not self.dead:
            self.throw()

    def state(self) -> Any:
        kept = [(key, without_cost(page)) for key, page in self.bodies._kept.items()]
        return self.name, self.dead, self.steps, repr(self.seen), repr(self.sightings._new), repr(kept)


def actor() -> Actor:
    found = greenlet.getcurrent()
    assert isinstance(found, Actor)
    return found


class Steps:
    """The store, one step of the schedule for each call."""

    shared = False

    def __init__(self, world: World) -> None:
        self.world = world

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.world.store, name)

        def step(*args: Any, **kwargs: Any) -> Any:
            actor().pause()
            self.world.before_change()
            found = method(*args, **kwargs)
            actor().seen.append((self.world.now, name, plainly(found)))
            return found

        return step

    def wait(self, ticket: str, timeout: float) -> Grant | None:
        store = self.world.store

        def is_over() -> bool:
            return store.wait(ticket, 0) is not None or ticket not in store._table.tickets

        me = actor()
        me.blocked = is_over
        me.pause()
        me.blocked = None
        found = store.wait(ticket, 0)
        me.seen.append(("wait", plainly(found)))
        return found


def plainly(found: Any) -> Any:
    """An answer of the store without what differs from run to run."""
    if isinstance(found, Found):
        return plainly_entry(found.entry), found.vector
    if isinstance(found, Grant):
        return found.leading, found.vector
    return found


def plainly_entry(entry: bytes | None) -> Any:
    return without_cost(frame.decode(entry))


def without_cost(page: frame.Frame | None) -> frame.Frame | None:
    """Measured, and of no consequence here."""
    return page._replace(cost=0.0) if isinstance(page, frame.Page) else page


class NumberedEpochs(Epochs):
    """Not random, but never the same twice, not even after a failover."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.numbers: dict[str, int] = {}

    def renew(self, names: Sequence[str]) -> None:
        for name in names:
            self._make(name)

    def _make(self, name: str) -> bytes:
        self.numbers[name] = self.numbers.get(name, 0) + 1
        value = self._values[name] = f"{name}#{self.numbers[name]}".encode()
        return value


@dataclass
class World:
    """The database of one value, the store, the clock, and what came out."""

    read: str = "a/b"
    written: str = "a/b"
    stale: float | None = None
    repeatable: bool = True
    value: str = "old"
    now: float = 1000.0
    since: float | None = None  # when the writer had answered
    wrong: list[str] = field(default_factory=list)
    made: int = 0
    before: Any = None
    keeps_before: bool = False
    actors: list[Actor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = MemoryStore(clock=lambda: self.now)
        self.store._epochs = self.store._table._epochs = NumberedEpochs(1000)
        self.steps = Steps(self)

        @locked_cache(100_000, reads=[self.read], stale=self.stale)
        def page(request: Any) -> HttpResponse:
            self.made += 1
            me = actor()
            me.pause()
            first = self.value  # fixes the snapshot
            me.seen.append(first)
            me.pause()
            return HttpResponse(first if self.repeatable else self.value)

        self.page = page

    # -- actors

    def reader(self, name: str) -> Actor:
        def work() -> None:
            actor().pause()
            began, since = self.now, self.since
            body = self.page(RequestFactory().get("/page")).content.decode()
            actor().seen.append(body)
            if body == "old" and since is not None and began - since >= (self.stale or 0.0):
                self.wrong.append(name)

        return Actor(self, name, work)

    def writer(self, *, kind: str = "locked", dies: int | None = None) -> Actor:
        """``dies``: it stops for ever at its step of that number."""
        left = [dies]

        def step() -> None:
            actor().pause()
            if left[0] is not None:
                left[0] -= 1
                if left[0] < 0:
                    actor().stopped = True
                    actor().blocked = lambda: False
                    actor().pause()

        def commit() -> None:
            self.value = "new"
            if dies is not None:
                self.since = self.now  # it will give no answer; who begins from now on has to see it all the same

        def work() -> None:
            if kind == "locked":
                step()
                with locked(writes=[self.written], atomic=False):
                    step()
                    commit()
                    step()
            else:
                step()
                commit()
                step()
                invalidate(self.written)
            if self.since is None:
                self.since = self.now

        return Actor(self, "w", work)

    def evictor(self) -> Actor:
        def work() -> None:
            for name in read_epochs([self.read]):
                actor().pause()
                self.store._epochs._values.pop(name, None)

        return Actor(self, "evict", work)

    def failover(self) -> Actor:
        """To a replica that has not got the last change."""
        self.keeps_before = True

        def work() -> None:
            actor().pause()
            if self.before is not None:
                store = self.store
                store._epochs, store._entries, store._table = self.before

        return Actor(self, "failover", work)

    def leap(self) -> Actor:
        def work() -> None:
            actor().pause()
            self.now += STALE + 1
            stopped = tuple(one.name + "." for one in self.actors if one.stopped)
            for name, ticket in self.store._table.tickets.items():
                if not name.startswith(stopped):
                    ticket.expires += STALE + 1  # as its process renews it, or asks again

        return Actor(self, "leap", work)

    # -- the state

    def before_change(self) -> None:
        if self.keeps_before:
            store = self.store
            same = (store._epochs.numbers, store._table._wall)
            kept = {id(one): one for one in same}
            self.before = copy.deepcopy((store._epochs, store._entries, store._table), kept)

    def state(self) -> Any:
        table, entries = self.store._table, self.store._entries._entries
        return (
            self.value,
            self.now,
            self.since,
            tuple(self.wrong),
            tuple(sorted(self.store._epochs._values.items())),
            tuple((key, plainly_entry(entry)) for key, (entry, _) in sorted(entries.items())),
            tuple((name, t.wants, t.grant is not None, t.leading) for name, t in table.tickets.items()),
            tuple(one.state() for one in self.actors),
            repr(self.before is not None and sorted(self.before[0]._values.items())),
            repr(self.before is not None and list(self.before[2].tickets)),
        )


@contextmanager
def in_processes() -> Iterator[None]:
    """Each actor is a process of its own."""

    class Own:
        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> Any:
            return getattr(getattr(actor(), self._name), name)

    global _hub
    _hub = greenlet.getcurrent()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "manager", lambda: actor().manager)
        patch.setattr(runtime, "bodies", lambda: actor().bodies)
        patch.setattr(single_flight, "flights", Own("flights"))
        patch.setattr(grace, "sightings", Own("sightings"))
        patch.setattr(grace, "rand", lambda: 0.0)
        logging.disable(logging.WARNING)  # locks that a failover lost are said to be lost
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


@contextmanager
def at_time_of(world: World) -> Iterator[None]:
    clock = lambda: world.now  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grace, "monotonic", clock)
        patch.setattr(grace, "wall", clock)
        for module in (answers, near):
            patch.setattr(module, "time", type("Clock", (), {"time": staticmethod(clock)}))
        yield


Make = Callable[[], World]


@dataclass
class Explored:
    """What all schedules led to."""

    states: int
    wrong: list[str]  # who was given what was there before
    made: set[int]  # how often the page was made
    last: set[str]  # what one was answered who came when all was over, after a writer


def run(make: Make, schedule: list[int], known: set[Any], pending: list[list[int]]) -> World | None:
    """Follow a schedule, then go on with the first that can, and note the other choices. None: it came to a state that
    was known."""
    world = make()
    try:
        return follow(world, schedule, known, pending)
    finally:
        for one in world.actors:
            one.end()


def follow(world: World, schedule: list[int], known: set[Any], pending: list[list[int]]) -> World | None:
    with at_time_of(world):
        step = 0
        while True:
            alive = [n for n, one in enumerate(world.actors) if not one.dead]
            ready = [n for n in alive if (blocked := world.actors[n].blocked) is None or blocked()]
            if not ready:
                waiting = [n for n in alive if not world.actors[n].stopped]
                if not waiting:
                    break
                assert world.now < 2000, "all wait, for ever"
                world.now += LEASE + 1  # whoever holds it is dead: its lease runs out
                continue
            if step < len(schedule):
                choice = schedule[step]
            else:
                state = hash(world.state())
                if state in known:
                    return None
                known.add(state)
                choice = ready[0]
                pending += [[*schedule, other] for other in ready[1:]]
                schedule = [*schedule, choice]
            step += 1
            world.actors[choice].steps += 1
            world.actors[choice].switch()
        final = world.reader("final")
        world.actors.append(final)
        if world.since is not None:
            world.now += STALE + 1 if world.stale else 0
        while not final.dead:
            if final.blocked is not None and not final.blocked():
                world.now += LEASE + 1
            final.switch()
        return world


def explore(make: Make, *, until_wrong: bool = False) -> Explored:
    known: set[Any] = set()
    pending: list[list[int]] = [[]]
    found = Explored(0, [], set(), set())
    with in_processes():
        while pending:
            end = run(make, pending.pop(), known, pending)
            if end is not None:
                found.wrong += end.wrong
                found.made.add(end.made)
                if end.since is not None:
                    found.last.add(end.actors[-1].seen[-1])
                if until_wrong and end.wrong:
                    break
            assert len(known) < MOST, "what differs from run to run makes every state a new one"
    found.states = len(known)
    return found


def scenario(*, cast: list[str], dies: int | None = None, warm: bool = True, **options: Any) -> Make:
    def make() -> World:
        world = World(**options)
        if warm:  # the page is there already, and both readers have seen it
            first = world.reader("first")
            while not first.dead:
                first.switch()
        makers: dict[str, Callable[[], Actor]] = {
            "locked": lambda: world.writer(dies=dies),
            "plain": lambda: world.writer(kind="plain"),
            "one": lambda: world.reader("one"),
            "two": lambda: world.reader("two"),
            "evict": world.evictor,
            "failover": world.failover,
            "leap": world.leap,
        }
        world.actors = [makers[name]() for name in cast]
        if warm:
            for one in world.actors:
                one.sightings._new = dict(first.sightings._new)
        return world

    def timed() -> World:
        shell = World(**options)
        with at_time_of(shell):
            return make()

    return timed


ISOLATION = pytest.mark.parametrize("repeatable", [True, False], ids=["repeatable_read", "read_committed"])
WRITERS = pytest.mark.parametrize("writer", ["locked", "plain"])
GRACE = pytest.mark.parametrize("stale", [None, STALE], ids=["fresh", "stale"])
WARM = pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])


def check(make: Make, least: int) -> None:
    """Nobody who came after the writer's answer was given what was there before it."""
    found = explore(make)
    assert found.states > least
    assert found.wrong == []
    assert found.last == {"new"}


@GRACE
@ISOLATION
@WRITERS
@WARM
def test_a_writer_and_two_readers(writer: str, warm: bool, repeatable: bool, stale: float | None) -> None:
    check(scenario(cast=[writer, "one", "two"], warm=warm, repeatable=repeatable, stale=stale), 100)


@ISOLATION
@WRITERS
def test_an_old_page_is_not_served_for_longer_than_was_promised(writer: str, repeatable: bool) -> None:
    readers = ["one", "two"] if writer == "plain" else ["one"]
    check(scenario(cast=[writer, *readers, "leap"], repeatable=repeatable, stale=STALE), 40)


@GRACE
@WARM
@pytest.mark.parametrize("dies", [0, 1, 2])
def test_a_writer_that_dies_at_any_step(dies: int, warm: bool, stale: float | None) -> None:
    """Inside before the COMMIT, after it, and before it even asked. After the COMMIT nobody may see what was before."""
    cast = ["locked", "one", "leap"] if stale else ["locked", "one", "two"]
    found = explore(scenario(cast=cast, dies=dies, warm=warm, stale=stale))
    assert found.states > 20
    assert found.wrong == []
    assert found.last == ({"new"} if dies == 2 else set())


@GRACE
@ISOLATION
@WRITERS
def test_epochs_that_are_evicted_at_any_point(writer: str, repeatable: bool, stale: float | None) -> None:
    check(scenario(cast=[writer, "one", "evict"], repeatable=repeatable, stale=stale), 60)


@GRACE
@WARM
@ISOLATION
def test_a_failover_that_loses_the_last_change(repeatable: bool, warm: bool, stale: float | None) -> None:
    """Of a writer with a lock: its two renewals cannot both be the last change. (A lone `invalidate` may be lost.)"""
    check(scenario(cast=["locked", "one", "failover"], warm=warm, repeatable=repeatable, stale=stale), 40)


TREE = ["a", "a/b", "a/c", "a/b/d", "a/b/e", "a/c/f", "a/c/g", "h"]


@pytest.mark.parametrize("writer", ["locked", "plain"])
def test_all_pairs_of_a_tree(writer: str) -> None:
    for read, written in itertools.product(TREE, TREE):
        found = explore(scenario(cast=[writer, "one"], read=read, written=written))
        if covers(read, written) or covers(written, read):
            assert (found.wrong, found.last) == ([], {"new"}), (read, written)
        else:  # and what was written beside it costs nothing
            assert found.made == {1}, (read, written)


# --- that the model finds what is wrong


def test_it_finds_a_page_that_is_stored_under_epochs_of_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def save(store: Any, base: str, epochs: Any, vector: Any, *rest: Any, **given: Any) -> bool:
        return real(store, base, epochs, store.epochs(epochs), *rest, **given)

    real = answers.save
    monkeypatch.setattr(answers, "save", save)
    assert explore(scenario(cast=["plain", "one"], warm=False)).last == {"old", "new"}


def test_it_finds_a_writer_that_renews_only_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    hold = LockTable._hold

    def late(self: Any, ticket: Any, now: float) -> None:
        ticket.request = ticket.request._replace(renews=())
        hold(self, ticket, now)

    monkeypatch.setattr(LockTable, "_hold", late)
    assert "old" in explore(scenario(cast=["locked", "one"], dies=2)).last


def test_it_finds_an_old_page_that_is_counted_from_when_it_was_found_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grace, "old", lambda key, page, current, asked: grace.Spare(key, page, asked))
    assert explore(scenario(cast=["plain", "one", "two", "leap"], stale=STALE), until_wrong=True).wrong
