"""Epochs and cached entries in this process's memory. Not thread-safe: the store calls it under its mutex."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence

from .protocol import Vector

EPOCH_BYTES = 8
_BATCH = 512


class Epochs:
    """Random versions by name, at most ``limit`` of them.

    Dropping one is always safe: it comes back with another value, and what depended on it is a miss. A counter
    would start again and revive old entries. The one that was used least recently goes first: were it the oldest, many
    new names would take the epochs of the busiest pages, which are read all the time and hardly ever renewed.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[str, bytes] = OrderedDict()
        self._unused: list[bytes] = []

    def __len__(self) -> int:
        return len(self._values)

    def read(self, names: Sequence[str]) -> Vector:
        """Current values; missing ones are made."""
        values = self._values
        vector = []
        for name in names:
            value = values.get(name)
            if value is None:
                value = self._make(name)
            else:
                values.move_to_end(name)
            vector.append(value)
        self._trim()
        return tuple(vector)

    def renew(self, names: Sequence[str]) -> None:
        """Give each a new value."""
        values = self._values
        for name in names:
            values[name] = self._new()
            values.move_to_end(name)
        self._trim()

    def clear(self) -> None:
        self._values.clear()

    def _new(self) -> bytes:
        # Not a generator: an exception that is thrown into a thread would end it for good. One system call makes many.
        # They need to be unforgeable by accident only: no value may come twice.
        if not self._unused:
            random = os.urandom(EPOCH_BYTES * _BATCH)
            self._unused = [random[at : at + EPOCH_BYTES] for at in range(0, len(random), EPOCH_BYTES)]
        return self._unused.pop()

    def _make(self, name: str) -> bytes:
        value = self._values[name] = self._new()
        return value

    def _trim(self) -> None:
        values = self._values
        while len(values) > self._limit:
            values.popitem(last=False)


class Entries:
    """Bytes by key with a time to live, the least recently used ones dropped over ``limit`` bytes.

    An entry is counted with its key and a flat allowance for what Python needs around it.
    """

    OVERHEAD = 200

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str, now: float) -> bytes | None:
        found = self._entries.get(key)
        if found is None:
            return None
        if found[1] <= now:
            self.delete(key, now)
            return None
        self._entries.move_to_end(key)
        return found[0]

    def put(self, key: str, entry: bytes, ttl: float, now: float) -> bool:
        """Store it, unless it alone is larger than the limit or its time is up already. What was there goes in any
        case: it is older than what was just offered."""
        self.delete(key, now)
        cost = self._cost(key, entry)
        if cost > self._limit or ttl <= 0:
            return False
        self._entries[key] = (entry, now + ttl)
        self.size += cost
        while self.size > self._limit:
            oldest, (dropped, _) = self._entries.popitem(last=False)
            self.size -= self._cost(oldest, dropped)
        return True

    def delete(self, key: str, now: float) -> bool:
        found = self._entries.pop(key, None)
        if found is None:
            return False
        self.size -= self._cost(key, found[0])
        return found[1] > now

    def clear(self) -> None:
        self._entries.clear()
        self.size = 0

    def _cost(self, key: str, entry: bytes) -> int:
        return len(key) + len(entry) + self.OVERHEAD
