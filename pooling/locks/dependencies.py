"""What was waited for while something else was held, and the circles in it. Pure.

A circle of waits needs no bad luck to be found: it is enough to have seen, at any time and in any thread, that A was
held while B was asked for, and that B was held while A was. So nothing here knows whether anybody really waited.

Resources are classes, not single things: a group's template, or a database in whose transactions rows are locked and
whose connections are limited. Group templates that can name one and the same group, or a group and one below it,
stand for each other.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from dataclasses import dataclass

Stack = tuple[tuple[str, int, str], ...]  # file, line, function; the innermost first

MANY = 1000


@dataclass(frozen=True, slots=True)
class Resource:
    """A group's template, its values in braces, or a database's alias."""

    name: str
    database: bool = False

    def overlaps(self, other: Resource) -> bool:
        """Can whoever waits for one of them be waiting for who has the other?"""
        if self.database or other.database:
            return self == other
        return _overlap(self.name, other.name)

    def __str__(self) -> str:
        return f"a transaction on {self.name!r}" if self.database else repr(self.name)


def is_value(level: str) -> bool:
    """Does this level of a template stand for a value? No group has braces in it."""
    return level.startswith("{")


@functools.lru_cache(maxsize=4 * MANY)
def _overlap(one: str, other: str) -> bool:
    levels = zip(one.split("/"), other.split("/"), strict=False)
    return all(a == b or is_value(a) or is_value(b) for a, b in levels)


@dataclass(frozen=True, slots=True)
class Dependency:
    """``who`` asked for ``asked`` while it held ``held``, as it was seen first.

    ``held_at``, ``asked_at``  the user's own frames at these moments; ``held_at`` is empty if it was not seen.
    ``how``  in what way it held that; empty: in the ordinary one.
    """

    held: Resource
    asked: Resource
    who: str
    held_at: Stack = ()
    asked_at: Stack = ()
    how: str = ""


class Dependencies:
    """All that was learned in this process. Thread-safe. Knows ``limit`` dependencies at most."""

    def __init__(self, limit: int = MANY) -> None:
        self._limit = limit
        self._after: dict[Resource, dict[Resource, Dependency]] = {}
        self._count = 0
        self._mutex = threading.Lock()

    def after_fork(self) -> None:
        """In the child: another thread may have had the mutex at the moment of the fork."""
        self._mutex = threading.Lock()

    @property
    def is_full(self) -> bool:
        """Will nothing more be learned?"""
        return self._count >= self._limit

    def knows(self, held: Resource, asked: Resource) -> bool:
        """Was this seen already?"""
        return asked in self._after.get(held, ())

    def add(self, seen: Dependency) -> list[Dependency]:
        """Learn it. Returns the shortest circle that it closes, itself first; nothing if there is none, if it was
        known, or if there is no room.

        A circle of groups alone does not count: the canonical order lets nobody go round it.
        """
        with self._mutex:
            if self.is_full or self.knows(seen.held, seen.asked):
                return []
            self._after.setdefault(seen.held, {})[seen.asked] = seen
            self._count += 1
            return self._circle(seen)

    def all(self) -> list[Dependency]:
        """Everything, in no particular order."""
        with self._mutex:
            return [seen for after in self._after.values() for seen in after.values()]

    def clear(self) -> None:
        """Forget everything."""
        with self._mutex:
            self._after.clear()
            self._count = 0

    def _circle(self, first: Dependency) -> list[Dependency]:
        # Breadth first, over where one is and whether a database was on the way.
        start = (first.asked, first.held.database or first.asked.database)
        came: dict[tuple[Resource, bool], tuple[tuple[Resource, bool], Dependency] | None] = {start: None}
        waiting = deque([start])
        while waiting:
            at = waiting.popleft()
            resource, through_database = at
            if through_database and resource.overlaps(first.held):
                back: list[Dependency] = []
                while (step := came[at]) is not None:
                    at, seen = step
                    back.append(seen)
                return [first, *reversed(back)]
            for held, after in self._after.items():
                if resource.overlaps(held):
                    for asked, seen in after.items():
                        there = (asked, through_database or asked.database)
                        if there not in came:
                            came[there] = at, seen
                            waiting.append(there)
        return []
