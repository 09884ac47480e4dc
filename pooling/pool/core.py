"""The connection pool: its public face and the fast path."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic

from ..errors import PoolTimeout
from . import report
from .driver import C, Driver
from .engine import PING_AFTER, Engine
from .options import PoolOptions, seconds
from .slots import Slot
from .state import log
from .stats import rounded


class ConnectionPool(Engine[C]):
    """At most ``options.max_size`` connections, lent to one thread each. Safe to use from any thread.

    Idle connections are lent last in, first out; waiters are served first come, first served. The pool opens itself
    at the first `getconn`; it starts no thread and connects to nothing before.
    """

    def __init__(
        self,
        driver: Driver[C],
        options: PoolOptions = PoolOptions(),  # noqa: B008 - it is frozen
        *,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(driver, options, name, clock)

    # -- the fast path -----------------------------------------------------------------------------------------
    # No lock: `pop` and `append` of a deque and `pop` of a dict are atomic. Every call and attribute below is paid
    # for by every request, so the slot is written by its holder alone and nothing is allocated.

    def getconn(self, timeout: float | None = None) -> C:
        """A connection; give it back with `putconn`.

        Waits up to ``timeout`` seconds, ``options.timeout`` by default. Raises PoolTimeout, PoolFull, PoolClosed,
        or what the driver raised when the server refused us (wrong password, unknown database, …).
        """
        if self._slow:  # somebody waits: do not overtake
            return self._queue(timeout)
        slot = None
        try:
            slot = self._idle_pop()
            conn = slot.conn
            now = self._clock()
            if now - slot.since <= PING_AFTER and now < slot.expires and self._alive(conn):
                try:
                    slot.holder = self._here.holder
                except AttributeError:
                    slot.holder = self._introduce()
                slot.since = now
                slot.uses += 1
                # Last, and no call after it: there is no moment at which the slot is marked as lent to somebody who
                # never got it. One that `pop` returned and an asynchronous exception dropped is found by `_reclaim`.
                self._busy[slot.key] = slot
                return conn
        except IndexError:
            if slot is not None:
                self._retire(slot)
                raise
        except BaseException:
            if slot is not None:
                self._retire(slot)
            raise
        return self._examine(slot, timeout)

    def _examine(self, slot: Slot[C] | None, timeout: float | None) -> C:
        """No idle connection, or one that is not known to be good."""
        if slot is None:
            return self._queue(timeout)
        if self._usable(slot):
            slot.holder = self._introduce()
            slot.since = self._clock()
            slot.uses += 1
            conn = slot.conn
            self._busy[slot.key] = slot
            return conn
        return self._queue(timeout, again=True)

    def putconn(self, conn: C) -> None:
        """Give a connection back. ValueError if it is not lent by this pool, or was given back already."""
        slot = self._busy_pop(id(conn), None)  # atomic: of two that return the same one, one gets None
        if slot is None:
            return self._stranger(conn)
        try:
            clean = self._reset(conn)
        except BaseException as error:
            self._retire(slot, bad=True)
            if not isinstance(error, Exception):
                raise
            log.warning("%s: a returned connection could not be reset: %r", report.title(self), error)
            return None
        try:
            now = self._clock()
            slot.used += now - slot.since
            slot.since = now
            if clean and now < slot.expires:
                self._idle_append(slot)
                # After, not before: a waiter enqueues, then looks for idle ones; we append, then look for waiters.
                if self._slow:
                    self._attend()
            else:
                self._returned(slot, clean)
        except BaseException:
            # It may be idle, lent again, or nowhere: `_reclaim` can tell, once no traceback keeps this name alive.
            del slot
            raise
        return None

    # -- the rest ----------------------------------------------------------------------------------------------

    def connection(self, timeout: float | None = None) -> _Lent[C]:
        """``with pool.connection() as conn``: lent for the block, given back whatever happens in it."""
        return _Lent(self, timeout)

    def discard(self, conn: C) -> None:
        """Close a lent connection instead of giving it back. ValueError as `putconn`."""
        slot = self._busy_pop(id(conn), None)
        if slot is None:
            return self._stranger(conn)
        slot.used += self._clock() - slot.since
        self._retire(slot, bad=True)
        return None

    def _stranger(self, conn: C) -> None:
        if self._inherited.get(id(conn)) is conn:
            return  # lent before this process was forked, and made harmless then
        if id(conn) in self._slots:
            raise ValueError(f"{report.title(self)}: {conn!r} was given back already. Give each connection back once.")
        raise ValueError(
            f"{report.title(self)} did not lend {conn!r}: it is another pool's, was given back already, or was "
            f"reclaimed because the thread that took it has ended."
        )

    def open(self) -> None:
        """Start filling up to ``min_size`` in the background. Not needed: the first `getconn` does it."""
        with self._lock:
            self._closed = False
            self._serve()
        self._keep_up()

    def close(self) -> None:
        """Close idle connections, refuse waiters with PoolClosed, close lent connections when they come back.

        May be called at any time and any number of times; the next `getconn` or `open` opens the pool again.
        """
        self._close_all(self._shut())

    def check(self) -> None:
        """Ping every idle connection; close those that do not answer, and refill."""
        for slot in list(self._idle):
            try:
                self._idle.remove(slot)
            except ValueError:
                continue  # lent in this moment
            if self._answers(slot, ask=True):
                self._idle_append(slot)
                if self._slow:
                    self._attend()
            else:
                self._died(slot)
        self._refill()

    def drain(self) -> None:
        """Replace all connections: idle ones now, lent ones when they come back, those being opened when they are."""
        with self._lock:
            self._generation += 1
            self._drained = self._generation
            gone = self._sweep()
            self._serve()
        self._close_all(gone)
        self._refill()

    def resize(self, min_size: int, max_size: int | None = None) -> None:
        """Change the bounds while running. What is too much is closed when idle. ValueError as `PoolOptions`."""
        wanted = PoolOptions(
            min_size=min_size, max_size=max(min_size, self._max_size) if max_size is None else max_size
        )
        with self._lock:
            self._min_size, self._max_size = wanted.min_size, wanted.max_size
            self._serve()
        if self._slow:
            self._attend()
        self._refill()

    def wait(self, timeout: float = 30.0) -> None:
        """Open the pool and block until ``min_size`` connections are there. PoolTimeout after ``timeout`` seconds."""
        seconds("timeout", timeout, zero=True)
        self.open()
        self._refill()
        with self._grown:
            if not self._grown.wait_for(lambda: len(self._slots) >= self._min_size, timeout):
                raise PoolTimeout(
                    f"{report.title(self)} has not reached its 'min_size' within {timeout} s: {report.sizes(self)}."
                    f"{report.last_error(self)} Look at the server, or lower 'min_size'."
                ) from self._outage.error

    def get_stats(self) -> dict[str, int]:
        """Sizes now and counts since the last `pop_stats`, under psycopg_pool's keys."""
        return self._stats(reset=False)

    def pop_stats(self) -> dict[str, int]:
        """`get_stats`, and start counting anew."""
        return self._stats(reset=True)

    def _stats(self, reset: bool) -> dict[str, int]:
        with self._lock:
            totals = self._counters.totals(self._slots.values())
            counted = rounded(totals, self._base)
            if reset:
                self._base = totals
            return {
                "pool_min": self._min_size,
                "pool_max": self._max_size,
                "pool_size": len(self._slots),
                "pool_available": len(self._idle),
                "requests_waiting": len(self._waiters),
                **counted,
            }

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<{type(self).__name__} {self.name!r} {state}: {report.sizes(self)}>"


class _Lent(Generic[C]):
    """A class, not a generator: cheaper, and an exception thrown at it finds either no connection or a stored one."""

    __slots__ = ("_conn", "_pool", "_timeout")

    def __init__(self, pool: ConnectionPool[C], timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout

    def __enter__(self) -> C:
        self._conn = self._pool.getconn(self._timeout)
        return self._conn

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        conn = self._conn
        del self._conn
        self._pool.putconn(conn)
