"""Every interleaving of one writer and two readers over the real store: nothing stale after the writer's answer.

The actors do what the cache does, one step of the store or of the database at a time. A step that has to wait for a
lock can be taken once it is granted. All schedules are run, each from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import pytest

from pooling.groups import Mode, plan, read_epochs, write_epochs
from pooling.store.memory import MemoryStore
from pooling.store.protocol import Grant, LockRequest

Actor = Generator[Callable[[], bool] | None, None, None]


@dataclass
class World:
    """The store, a database of one value, and what each reader was answered."""

    read: str
    written: str
    store: MemoryStore = field(default_factory=MemoryStore)
    value: str = "old"
    done: bool = False  # the writer has answered
    stale: list[str] = field(default_factory=list)

    def acquire(self, name: str, request: LockRequest) -> Generator[Callable[[], bool], None, Grant]:
        grant = self.store.acquire(request)
        if grant is None:
            found: list[Grant] = []

            def granted() -> bool:
                answer = self.store.wait(request.ticket, 0)
                found.extend([answer] if answer is not None else [])
                return bool(found)

            yield granted
            grant = found[0]
        return grant

    def reader(self, name: str, *, capture_late: bool = False) -> Actor:
        epochs = read_epochs([self.read])
        wants = (*plan([self.read], [], {}).wants, ("//page", Mode.X))
        late = self.done
        for turn in range(10):
            found = self.store.fetch("page", epochs)
            if found.entry is not None:
                vector, text = found.entry.split(b"|")
                if vector == b"".join(found.vector).hex().encode():
                    self.answered(name, text.decode(), late)
                    return
            yield None
            request = LockRequest(f"{name}{turn}", wants, 30, 30, watches=epochs, follow="//page")
            grant = yield from self.acquire(name, request)
            if not grant.leading:
                self.store.release(request.ticket)
                continue
            yield None
            text = self.value  # BEGIN, and the snapshot
            yield None
            at = self.store.epochs(epochs) if capture_late else grant.vector
            entry = b"".join(at).hex().encode() + b"|" + text.encode()
            self.store.put("page", entry, 300, epochs, at)
            yield None
            self.store.release(request.ticket)
            self.answered(name, text, late)
            return
        raise AssertionError("never done")

    def answered(self, name: str, text: str, late: bool) -> None:
        if late and text == "old":
            self.stale.append(name)

    def locking_writer(self) -> Actor:
        epochs = write_epochs([self.written])
        request = LockRequest("w", plan([], [self.written], {}).wants, 30, 30, renews=epochs)
        yield from self.acquire("w", request)
        yield None
        self.value = "new"
        yield None
        self.store.release("w", epochs)
        self.done = True

    def plain_writer(self) -> Actor:
        self.value = "new"
        yield None
        self.store.invalidate(write_epochs([self.written]))
        self.done = True

    def dying_writer(self) -> Actor:
        """Dies after its COMMIT: its lease runs out, nothing is renewed again."""
        epochs = write_epochs([self.written])
        request = LockRequest("w", plan([], [self.written], {}).wants, 30, 30, renews=epochs)
        yield from self.acquire("w", request)
        yield None
        self.value = "new"
        self.done = True
        yield None
        self.store.release("w")


def run(make: Callable[[], tuple[World, list[Actor]]], schedule: list[int]) -> tuple[World, list[int]]:
    """Follow a schedule, then go on with the first that can; returns the choices there were beyond it."""
    world, actors = make()
    waits: list[Callable[[], bool] | None] = [None] * len(actors)
    alive = list(range(len(actors)))
    step = 0
    while alive:
        ready = [number for number in alive if (waiting := waits[number]) is None or waiting()]
        assert ready, f"all wait: {schedule[:step]}"
        if step == len(schedule):
            return world, ready
        number = schedule[step]
        step += 1
        try:
            waits[number] = next(actors[number])
        except StopIteration:
            alive.remove(number)
    return world, []


def explore(make: Callable[[], tuple[World, list[Actor]]]) -> tuple[int, int]:
    """Schedules in all, and how many of them answered something stale."""
    total = stale = 0
    pending: list[list[int]] = [[]]
    while pending:
        schedule = pending.pop()
        world, ready = run(make, schedule)
        if ready:
            pending.extend([*schedule, number] for number in ready)
            continue
        total += 1
        final = world.reader("final")
        for waiting in final:
            assert waiting is None or waiting()
        stale += bool(world.stale)
    return total, stale


PAIRS = [("a/b", "a/b"), ("a/b", "a"), ("a", "a/b"), ("a/b/c", "a/b")]


@pytest.mark.parametrize("writer", ["locking_writer", "plain_writer", "dying_writer"])
@pytest.mark.parametrize(("read", "written"), PAIRS)
def test_one_writer_and_one_reader(writer: str, read: str, written: str) -> None:
    def make() -> tuple[World, list[Actor]]:
        world = World(read, written)
        for waiting in world.reader("first"):  # a page is there already
            assert waiting is None
        return world, [getattr(world, writer)(), world.reader("one")]

    total, stale = explore(make)
    assert (total > 2, stale) == (True, 0)


@pytest.mark.parametrize("writer", ["locking_writer", "plain_writer"])
def test_one_writer_and_two_readers(writer: str) -> None:
    def make() -> tuple[World, list[Actor]]:
        world = World("a/b", "a/b")
        return world, [getattr(world, writer)(), world.reader("one"), world.reader("two")]

    total, stale = explore(make)
    assert (total > 200, stale) == (True, 0)


def test_the_model_finds_a_vector_that_is_captured_after_the_snapshot() -> None:
    def make() -> tuple[World, list[Actor]]:
        world = World("a/b", "a/b")
        return world, [world.plain_writer(), world.reader("one", capture_late=True), world.reader("two")]

    assert explore(make)[1] > 0
