"""What contains fragments: a page or a fragment in the making. It hears of what those in it were made from."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from .groups import covers
from .store.protocol import Vector

logger = logging.getLogger("pooling.cache")
_warned: set[tuple[str, tuple[str, ...]]] = set()


def warn_once(name: str, what: tuple[str, ...], text: str, *args: Any) -> None:
    if (name, what) not in _warned:
        _warned.add((name, what))
        logger.warning(text, *args)


def forget_warnings() -> None:
    """Warn again of what was warned of. For tests."""
    _warned.clear()


class Container:
    """``name`` for people; ``tracker`` sees what it touches of its visitor; ``epochs``, those that a page's hold
    captured, with the values from `capture`."""

    def __init__(self, name: str, tracker: Any, epochs: tuple[str, ...] = ()) -> None:
        self.name = name
        self.tracker = tracker
        self.epochs = epochs
        self.captured: dict[str, bytes] = {}
        self.contents: dict[str, str] = {}  # group: the fragment that was made from it
        self.ends = math.inf  # seconds since 1970

    def capture(self, vector: Vector) -> None:
        """These values were read at the grant, before anything that the page shows."""
        self.captured = dict(zip(self.epochs, vector, strict=False))  # none, if the store is down

    def contain(self, fragment: str, groups: Iterable[str], ends: float) -> None:
        """There is a fragment in it that was made from ``groups`` and is good until ``ends``."""
        self.contents.update(dict.fromkeys(groups, fragment))
        self.ends = min(self.ends, ends)

    def left(self) -> float:
        """Seconds for which all fragments in it are good."""
        return max(0.0, self.ends - time.time())

    def undeclared(self, reads: Iterable[str]) -> list[str]:
        """The groups of its fragments that ``reads`` does not cover. Written they would not make it a miss, so it must
        not be stored; a warning says what to declare."""
        declared = tuple(reads)
        missing = sorted(group for group in self.contents if not any(covers(read, group) for read in declared))
        if missing:
            warn_once(
                self.name,
                tuple(missing),
                "%s is not stored: in it is the fragment %s, which reads %s. Declare it there, too: reads=[%s].",
                self.name,
                self.contents[missing[0]],
                ", ".join(missing),
                ", ".join(map(repr, (*declared, *missing))),
            )
        return missing


_current: ContextVar[Container | None] = ContextVar("pooling_container", default=None)


def current() -> Container | None:
    """What contains that which is made now in this context."""
    return _current.get()


@contextmanager
def entered(container: Container | None) -> Iterator[None]:
    """What is made meanwhile is in ``container``."""
    token = _current.set(container)
    try:
        yield
    finally:
        _current.reset(token)
