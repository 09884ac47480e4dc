"""The store of one process: locks, epochs and entries in its memory, the embedded default.

Same semantics as a store for a fleet, proven by the same contract suite, except that a fork starts empty and nothing
is shared between processes.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Sequence

from .._forks import after_in_child
from ._epochs import Entries, Epochs
from ._table import LockTable, Ticket
from ._waking import waker_of
from .protocol import Found, Grant, LockRequest, Party, Vector, checked_token

ENTRY_BYTES = 64 * 1024 * 1024
MAX_EPOCHS = 200_000


class MemoryStore:
    """`pooling.store.protocol.Store` in memory; see there for the methods.

    ``entry_bytes`` bounds the cached entries (least recently used first out), ``max_epochs`` the epochs.
    ``clock`` gives seconds that never go back, for leases and times to live; ``wall`` gives nanoseconds since 1970,
    for tokens.
    """

    shared = False

    def __init__(
        self,
        *,
        entry_bytes: int = ENTRY_BYTES,
        max_epochs: int = MAX_EPOCHS,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], int] = time.time_ns,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._entry_bytes = entry_bytes
        self._max_epochs = max_epochs
        self._start()
        _stores.add(self)

    def _start(self) -> None:
        self._mutex = threading.Lock()
        self._epochs = Epochs(self._max_epochs)
        self._entries = Entries(self._entry_bytes)
        self._table = LockTable(self._epochs, self._wall)
        self._documents: dict[str, tuple[bytes, float]] = {}
        self._announced: dict[str, tuple[bytes, float]] = {}

    # -- locks

    def acquire(self, request: LockRequest) -> Grant | None:
        table = self._table
        with self._mutex:
            ticket = table.ask(request, self._clock())
            grant = None if ticket is None else ticket.grant
            woken = self._take_woken() if table.woken else ()
        for waker in woken:
            waker()
        return grant

    def wait(self, ticket: str, timeout: float) -> Grant | None:
        deadline = time.monotonic() + timeout
        gate = threading.Lock()
        gate.acquire()
        waker = gate.release
        try:
            while True:
                entry, nap = self._look(ticket, waker)
                left = deadline - time.monotonic()
                if entry is None or entry.grant is not None or left <= 0:
                    return entry.grant if entry is not None else None
                gate.acquire(timeout=left if nap is None else min(left, nap))
        finally:
            self._stop_waiting(ticket, waker)

    async def wait_async(self, ticket: str, timeout: float) -> Grant | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        gate: asyncio.Future[None] = loop.create_future()
        waker = waker_of(loop, gate)
        try:
            while True:
                entry, nap = self._look(ticket, waker)
                left = deadline - loop.time()
                if entry is None or entry.grant is not None or left <= 0:
                    return entry.grant if entry is not None else None
                # Not wait_for: that would cancel the future, which outlives one nap.
                await asyncio.wait((gate,), timeout=left if nap is None else min(left, nap))
        finally:
            self._stop_waiting(ticket, waker)

    def release(self, ticket: str, renews: tuple[str, ...] = ()) -> bool:
        table = self._table
        with self._mutex:
            if renews:
                # Before the groups are free: the next holder's vector must have these values already.
                self._epochs.renew(renews)
            entry = table.tickets.get(ticket)
            if entry is None:
                return False
            table.drop(entry, self._clock())
            woken = self._take_woken() if table.woken else ()
        for waker in woken:
            waker()
        return entry.grant is not None

    def renew(self, tickets: Sequence[str], lease: float) -> list[bool]:
        with self._mutex:
            expires = self._clock() + lease
            held = []
            for name in tickets:
                entry = self._table.tickets.get(name)
                held.append(entry is not None and entry.grant is not None)
                if entry is not None and entry.grant is not None:
                    entry.expires = expires
            return held

    def advance(self, token: int) -> bool:
        with self._mutex:
            return self._table.advance(checked_token(token))

    def parties(self, groups: Sequence[str] | None = None) -> list[Party]:
        with self._mutex:
            found = self._table.parties(groups, self._clock())
            woken = self._take_woken()
        for waker in woken:
            waker()
        return found

    # -- epochs

    def epochs(self, names: Sequence[str]) -> Vector:
        with self._mutex:
            return self._epochs.read(names)

    def invalidate(self, names: Sequence[str], word: str = "") -> None:
        with self._mutex:
            self._epochs.renew(names)

    def committing(self, names: Sequence[str], word: str, seconds: float) -> None:
        """Nothing need be done: whoever dies before he renews them takes this store along."""

    def known(self, names: Sequence[str]) -> Vector | None:
        return self.epochs(names)

    def later(self, ticket: str | None, renews: Sequence[str] = ()) -> None:
        # It can always be reached.
        if ticket is None:
            self.invalidate(renews)
        else:
            self.release(ticket, tuple(renews))

    # -- entries

    def fetch(self, key: str, names: Sequence[str]) -> Found:
        with self._mutex:
            return Found(self._entries.get(key, self._clock()), self._epochs.read(names))

    def put(self, key: str, entry: bytes, ttl: float, names: Sequence[str], vector: Vector) -> bool:
        with self._mutex:
            if self._epochs.read(names) != vector:
                return False
            return self._entries.put(key, entry, ttl, self._clock())

    def delete(self, key: str) -> bool:
        with self._mutex:
            return self._entries.delete(key, self._clock())

    # -- documents

    def load(self, key: str) -> tuple[bytes, float]:
        with self._mutex:
            return self._load(key), self._clock()

    def swap(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        with self._mutex:
            if self._load(key) != old:
                return False
            self._documents[key] = new, self._clock() + ttl
            return True

    def _load(self, key: str) -> bytes:
        document, expires = self._documents.get(key, (b"", 0.0))
        return document if self._clock() < expires else b""

    # -- announcements

    def announce(self, name: str, document: bytes, ttl: float) -> None:
        with self._mutex:
            self._announced[name] = document, self._clock() + ttl

    def announced(self) -> dict[str, bytes]:
        with self._mutex:
            now = self._clock()
            self._announced = {name: one for name, one in self._announced.items() if now < one[1]}
            return {name: document for name, (document, _) in self._announced.items()}

    def trouble(self) -> str:
        return ""

    def clear(self) -> None:
        with self._mutex:
            self._entries.clear()
            self._epochs.clear()

    def close(self) -> None:
        """Nothing to release: there are no threads and no connections."""

    # -- waiting

    def _look(self, ticket: str, waker: Callable[[], None]) -> tuple[Ticket | None, float | None]:
        """The ticket and, when it still waits, after how many seconds to look again: when somebody in its way will
        have died. Registers ``waker`` in the same step, so that no grant falls between looking and waiting."""
        table = self._table
        with self._mutex:
            nap = None
            entry = table.tickets.get(ticket)
            if entry is not None and entry.grant is None:
                now = self._clock()
                table.reap(entry, now)
                if entry.grant is None:
                    expiry = table.next_expiry(entry)
                    nap = None if expiry is None else max(expiry - now, 0.001)
                    if entry.wakers is None:
                        entry.wakers = []
                    if waker not in entry.wakers:
                        entry.wakers.append(waker)
            woken = self._take_woken() if table.woken else ()
        for other in woken:
            other()
        return entry, nap

    def _take_woken(self) -> list[Callable[[], None]]:
        """Who must be woken, to be called after the mutex was let go. Each waker is taken out, so is called once."""
        wakers: list[Callable[[], None]] = []
        for ticket in self._table.woken:
            if ticket.wakers:
                wakers += ticket.wakers
                ticket.wakers = None
        self._table.woken.clear()
        return wakers

    def _stop_waiting(self, ticket: str, waker: Callable[[], None]) -> None:
        with self._mutex:
            entry = self._table.tickets.get(ticket)
            if entry is not None and entry.wakers and waker in entry.wakers:
                entry.wakers.remove(waker)


_stores: weakref.WeakSet[MemoryStore] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # The parent's holders do not exist here, and another thread may have held the mutex in mid-change.
    for store in list(_stores):
        store._start()


after_in_child(_after_fork_in_child)
