"""What contains fragments: a page or a fragment in the making. It hears of what those in it were made from, and of what
is read by pages and holds that the view calls."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from .groups import covers, read_epochs
from .store.protocol import Vector

logger = logging.getLogger("pooling.cache")
_warned: set[tuple[str, tuple[str, ...]]] = set()


def warn_once(name: str, what: tuple[str, ...], text: str, *args: Any) -> None:
    if (name, what) not in _warned:
        _warned.add((name, what))
        logger.warning(text, *args, extra={"view": name})


def forget_warnings() -> None:
    """Warn again of what was warned of. For tests."""
    _warned.clear()


class Container:
    """``tracker`` sees what it touches of its visitor; ``epochs`` are those that a page's hold
    captured, with the values from `capture`."""

    def __init__(self, tracker: Any, epochs: tuple[str, ...] = ()) -> None:
        self.tracker = tracker
        self.epochs = epochs
        self.captured: dict[str, bytes] = {}
        self.contents: set[str] = set()  # groups that the fragments were made from
        # Epochs of these, with the values that they had before the fragments were made; None, if that is not known of
        # each of the fragments, or is not the same.
        self.found: dict[str, bytes | None] = {}
        self.ends = math.inf  # seconds since 1970

    def capture(self, vector: Vector) -> None:
        """These values were read at the grant, before anything that the page shows."""
        self.captured = dict(zip(self.epochs, vector, strict=False))  # none, if the store is down

    def contain(self, groups: tuple[str, ...], ends: float, vector: Vector | None) -> None:
        """There is a fragment in it that was made from ``groups`` and is good until ``ends``. ``vector``: the values
        that ``read_epochs(groups)`` had before it was made; None if that is not known."""
        self.contents.update(groups)
        self.ends = min(self.ends, ends)
        names = read_epochs(groups)
        values: Sequence[bytes | None] = (None,) * len(names) if vector is None else vector
        for name, value in zip(names, values, strict=True):
            if self.found.setdefault(name, value) != value:
                self.found[name] = None

    def vector(self, groups: tuple[str, ...]) -> Vector | None:
        """The values that ``read_epochs(groups)`` had before anything of these was read for what is made here; None if
        that is not known. Was any of them renewed since, then what is made here is old already."""
        found = [self.captured.get(name) or self.found.get(name) for name in read_epochs(groups)]
        known = tuple(value for value in found if value is not None)
        return known if len(known) == len(found) else None

    def left(self) -> float:
        """Seconds for which all fragments in it are good."""
        return max(0.0, self.ends - time.time())

    def undeclared(self, reads: Iterable[str]) -> tuple[str, ...]:
        """The groups of its fragments that ``reads`` does not cover: written they must make it a miss as well."""
        declared = tuple(reads)
        return tuple(sorted(group for group in self.contents if not any(covers(read, group) for read in declared)))


_current: ContextVar[Container | None] = ContextVar("pooling_container", default=None)


def current() -> Container | None:
    """What contains that which is made now in this context."""
    return _current.get()


def nested(groups: tuple[str, ...]) -> None:
    """A hold in the making of something reads ``groups``. It may read them in a transaction that is older than the
    hold, so it is not known under which versions."""
    around = _current.get()
    if around is not None:
        around.contain(groups, math.inf, None)


@contextmanager
def entered(container: Container | None) -> Iterator[None]:
    """What is made meanwhile is in ``container``."""
    token = _current.set(container)
    try:
        yield
    finally:
        _current.reset(token)
