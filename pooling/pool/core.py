"""The connection pool: its public face and the fast path."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic

from . import report
from .budget import Budget
from .callbacks import Callbacks
from .control import Control
from .driver import C, Driver
from .engine import PING_AFTER
from .options import PoolOptions
from .slots import Slot
from .state import log


class ConnectionPool(Control[C]):
    """At most ``options.max_size`` connections, lent to one thread each. Safe to use from any thread.

    Idle connections are lent last in, first out; waiters are served first come, first served. The pool opens itself
    at the first `getconn`; it starts no thread and connects to nothing before.

    Callbacks, all optional, named as psycopg_pool names them; TypeError if one cannot be called:

    ``configure(conn)``         after a connect, before the first user. An error counts as one of the connect itself:
                                the connection is closed, and who waits gets the error as the driver classifies it.
    ``reset(conn)``             after each return, when the driver has made the session clean. It must leave it clean
                                and outside of a transaction. An error or False closes the connection (``returns_bad``).
                                A driver whose `reset` undoes what ``configure`` has set needs ``reset=configure`` too.
    ``check(conn)``             before each checkout; it may ask the server. An error or False: the connection is dead,
                                and the checkout goes on to the next one within its timeout, with growing pauses.
    ``reconnect_failed(pool)``  once in an outage, when connecting has failed for longer than
                                ``options.reconnect_timeout``; an error in it is logged.
                                It runs in a thread of the pool's.

    ``budget`` goes with ``max_size="auto"``; ValueError if one is there without the other.
    """

    def __init__(
        self,
        driver: Driver[C],
        options: PoolOptions = PoolOptions(),  # noqa: B008 - it is frozen
        *,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
        configure: Callable[[C], object] | None = None,
        reset: Callable[[C], object] | None = None,
        check: Callable[[C], object] | None = None,
        reconnect_failed: Callable[[ConnectionPool[C]], object] | None = None,
        budget: Budget[C] | None = None,
    ) -> None:
        super().__init__(driver, options, name, clock, Callbacks(configure, reset, check, reconnect_failed), budget)

    # -- the fast path -----------------------------------------------------------------------------------------
    # No lock: `pop` and `append` of a deque and `pop` of a dict are atomic. Every call and attribute below is paid
    # for by every request, so the slot is written by its holder alone and nothing is allocated. A function that is kept
    # in an attribute is named before it is called: called as ``self.f()`` it is first looked for in the classes.

    def getconn(self, timeout: float | None = None) -> C:
        """A connection; give it back with `putconn`.

        Waits up to ``timeout`` seconds, ``options.timeout`` by default. Raises PoolTimeout, PoolFull, PoolClosed,
        or what the driver raised when the server refused us (wrong password, unknown database, …).
        """
        if self._slow:  # somebody waits: do not overtake
            return self._queue(timeout)
        slot = None
        try:
            pop, clock = self._idle_pop, self._clock
            slot = pop()
            conn = slot.conn
            now = clock()
            idle = now - slot.since
            if now < slot.expires and (idle <= slot.trust or (idle <= PING_AFTER and self._alive(conn))):
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
            self._lend(slot)
            conn = slot.conn
            self._busy[slot.key] = slot
            return conn
        return self._queue(timeout, again=True)

    def putconn(self, conn: C) -> None:
        """Give a connection back. ValueError if it is not lent by this pool, or was given back already."""
        pop, reset, clock, append = self._busy_pop, self._reset, self._clock, self._idle_append
        slot = pop(id(conn), None)  # atomic: of two that return the same one, one gets None
        if slot is None:
            return self._stranger(conn)
        try:
            clean = reset(conn)
        except BaseException as error:
            self._retire(slot, bad=True)
            if not isinstance(error, Exception):
                raise
            log.warning(
                "%s: a returned connection could not be reset: %r",
                report.title(self),
                error,
                extra={"pool": self.name, "error": type(error).__name__},
            )
            return None
        try:
            now = clock()
            slot.used += now - slot.since
            slot.since = now
            if clean and now < slot.expires:
                append(slot)
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

    def evict(self, conn: C) -> bool:
        """As `discard`, and `drain`: whatever ``conn`` is connected to is not the one to talk to any more.

        Called by many at once, or again by holders of older connections, it drains once, and no more often than once in
        a second; says whether it did. ValueError as `putconn`.
        """
        slot = self._busy.get(id(conn))
        self.discard(conn)
        if slot is None or not self._outdated(slot):
            return False
        self.drain()
        return True

    def _stranger(self, conn: C) -> None:
        if self._inherited.get(id(conn)) is conn:
            return  # lent before this process was forked, and made harmless then
        if id(conn) in self._slots:
            raise ValueError(f"{report.title(self)}: {conn!r} was given back already. Give each connection back once.")
        raise ValueError(
            f"{report.title(self)} did not lend {conn!r}: it is another pool's, was given back already, or was "
            f"reclaimed because the thread that took it has ended."
        )

    def __repr__(self) -> str:
        state = "closed" if self._closed else "suspended" if self._suspended else "open"
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
