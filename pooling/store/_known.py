"""What this process knows of the epochs without asking, and how long it may rely on that.

A value is kept until word comes that it changed, from the server or from a write of this process. Two things could
make a kept value wrong, and are ruled out here:

* The word comes between reading a value and keeping it. So who reads takes a number before it (`begin`), changes are
  numbered on, and what has changed since that number is not kept.
* No word can come, since the way to the server is broken and nobody has noticed. So values count only for a moment
  after each sign of life (`trust`), and with the connection everything is forgotten.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from .protocol import Vector

LIMIT = 100_000  # values, and names of changes, that are kept


class Known:
    """Values of epochs by name. Thread-safe. ``clock`` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, limit: int = LIMIT) -> None:
        self._clock = clock
        self._limit = limit
        self.start_over()

    def start_over(self) -> None:
        """Empty, with a mutex that nobody has: for a forked child."""
        self._mutex = threading.Lock()
        self._values: dict[str, bytes] = {}
        self._until = -1.0  # trusted until then
        self._open = False
        self._number = 0  # of the last change
        self._floor = 0  # who began before this change may have missed some
        self._changes: OrderedDict[str, int] = OrderedDict()  # the number of each name's last change, latest last

    # -- for those who read

    def vector(self, names: Sequence[str]) -> Vector | None:
        """The values of all of these; None if one is not known, or nothing can be relied on now.

        They are looked up one by one, and yet equal a page's vector only if all of it was valid at one moment, that
        of the first look: no value comes twice.
        """
        if self._clock() >= self._until:
            return None
        values = self._values
        try:
            return tuple([values[name] for name in names])
        except KeyError:
            return None

    def begin(self) -> int:
        """Before the server is asked for values: a number for `keep`."""
        return self._number if self._open else -1

    def keep(self, begun: int, names: Sequence[str], vector: Vector) -> None:
        """Values that the server was asked for after ``begun``, except those that have changed since."""
        if begun < self._floor:
            return
        with self._mutex:
            if begun < self._floor:
                return
            if len(self._values) + len(names) > self._limit:
                self._values.clear()
            changes = self._changes
            for name, value in zip(names, vector, strict=True):
                if changes.get(name, 0) <= begun:
                    self._values[name] = value

    # -- for those who hear of changes

    def changed(self, names: Iterable[str]) -> None:
        """These have other values now."""
        if not self._open:
            return  # nothing is kept, and who begins to read now will not keep it either
        with self._mutex:
            for name in names:
                self._values.pop(name, None)
                self._number += 1
                self._changes[name] = self._number
                self._changes.move_to_end(name)
            while len(self._changes) > self._limit:
                _, self._floor = self._changes.popitem(last=False)

    def all_changed(self) -> None:
        """Any of them may have another value now."""
        with self._mutex:
            self._forget()

    def open(self) -> None:
        """From now on every change is told."""
        with self._mutex:
            self._forget()
            self._open = True

    def close(self) -> None:
        """From now on none is."""
        with self._mutex:
            self._open = False
            self._until = -1.0
            self._forget()

    def trust(self, until: float) -> None:
        """Rely on the values until then, by the clock."""
        with self._mutex:
            if self._open:
                self._until = until

    def _forget(self) -> None:
        self._values.clear()
        self._changes.clear()
        self._number += 1
        self._floor = self._number
