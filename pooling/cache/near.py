"""Pages in the memory of the process, decoded, so that a hit need not fetch its body.

A page from here is never believed by itself: it counts only under equal epochs, like one from the store. The levels
differ in who says what these are. "validated" asks the store each time; "near" takes what the store knows without
asking, and asks where it knows nothing. What is not here is looked for in the store, as at the level "remote".
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any, TypeAlias

from ..groups import read_epochs
from ..store.protocol import Store
from . import answers, frame, keys
from .answers import Looked

Kept: TypeAlias = frame.Page | frame.VaryMark


class Bodies:
    """Pages and marks by key, at most ``limit`` bytes, the least recently used out first. Thread-safe."""

    OVERHEAD = 500  # bytes that Python needs around a page, its key and its place here, about
    PER_HEADER = 150
    PER_GROUP = 60

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.start_over()

    def start_over(self) -> None:
        """Empty, with a mutex that nobody has: for a forked child."""
        self._mutex = threading.Lock()
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str) -> Kept | None:
        # Without the mutex, each of the two steps being one of the interpreter's: hits must not queue for one another.
        kept = self._kept
        found = kept.get(key)
        if found is not None:
            try:
                kept.move_to_end(key)
            except KeyError:
                pass  # it was dropped meanwhile, and is as good as before
        return found

    def put(self, key: str, value: Kept) -> None:
        """Keep it, unless it alone is larger than the limit. What was there goes in any case."""
        cost = self._cost(key, value)
        with self._mutex:
            self._drop(key)
            if cost > self._limit:
                return
            self._kept[key] = value
            self.size += cost
            while self.size > self._limit:
                oldest, dropped = self._kept.popitem(last=False)
                self.size -= self._cost(oldest, dropped)

    def drop(self, key: str, value: Kept) -> None:
        """Drop ``value``, which is of no use any more; a newer one stays."""
        with self._mutex:
            if self._kept.get(key) is value:
                self._drop(key)

    def _drop(self, key: str) -> None:
        before = self._kept.pop(key, None)
        if before is not None:
            self.size -= self._cost(key, before)

    def _cost(self, key: str, value: Kept) -> int:
        if isinstance(value, frame.VaryMark):
            return self.OVERHEAD + len(key) + sum(map(len, value.names))
        headers = sum(self.PER_HEADER + len(name) + len(text) for name, text in value.headers)
        fragments = sum(self.PER_GROUP + len(group) for group in value.reads)
        return self.OVERHEAD + len(key) + len(value.body) + headers + fragments + 60 * len(value.vector)


def look(bodies: Bodies, store: Store, base: str, epochs: tuple[str, ...], request: Any, *, pushed: bool) -> Looked:
    """`answers.look` that takes the page from memory if it is there. Then it asks the store for the epochs only, and
    not even for these if they are known and ``pushed`` is true."""
    key, found = base, bodies.get(base)
    if isinstance(found, frame.VaryMark):
        # It may be older than the one in the store. The page that it leads to answers this request all the same: it
        # was made under the present epochs, for a request with equal values of all the headers that its Vary names.
        key = keys.vary_key(base, answers.header_values(request, found.names))
        found = bodies.get(key)
    if isinstance(found, frame.Page):
        if time.time() < found.created + found.ttl:
            names = epochs + read_epochs(found.reads) if found.reads else epochs
            vector = store.known(names) if pushed else None
            if vector is None:
                vector = store.epochs(names)
            if vector == found.vector:
                return Looked(key, found, reads=found.reads)
        bodies.drop(key, found)  # another process may have stored a newer one
    looked = answers.look(store, base, epochs, request)
    if looked.page is not None:
        if looked.mark is not None:
            bodies.put(base, looked.mark)
        bodies.put(looked.key, looked.page)
    return looked
