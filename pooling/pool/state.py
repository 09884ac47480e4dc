"""What the pool knows, and the steps that keep it right.

The rules that keep it right:

* ``_slots`` has every open connection from connect to close; ``_idle`` and ``_busy`` only say where it is just now.
  ``len(_slots) + len(_attempts) <= max_size`` always.
* A slot goes to a waiter under the lock, and a waiter leaves the queue under the lock: one that timed out or was
  interrupted can see whether it was served meanwhile, and passes on what it cannot use.
* No connect, ping, reset or close under the lock.
* ``_slow`` is true while anything but the fast path must be looked at: waiters, a closed or suspended pool, too many
  connections.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Generic
from weakref import WeakSet

from . import forking, report
from .callbacks import Callbacks, never
from .driver import C, Driver, Failure
from .options import PoolOptions
from .outage import Outage
from .slots import NEVER, Attempt, Bell, Slot, Waiter
from .stats import Counters
from .watcher import Watcher

if TYPE_CHECKING:
    from .budget import Budget

log = logging.getLogger("pooling.pool")


def _only_here() -> int:
    """What `sys.getrefcount` says of an object that only one container, a list and a loop refer to."""
    container = {0: object()}
    for item in list(container.values()):
        count = sys.getrefcount(item)
    return count


class _Attribute:
    conn: object


def _only_slot() -> int:
    """What `sys.getrefcount` says of an object that only one attribute refers to."""
    it = _Attribute()
    it.conn = object()
    return sys.getrefcount(it.conn)


# Not above what they are without a tracer. One that reads the variables of the two functions while they run adds a
# reference before Python 3.13, and with the higher numbers what somebody uses would be taken for lost.
_LOST_SLOT = min(_only_here(), 4)
_LOST_CONN = min(_only_slot(), 2)
COUNTS_REFERENCES = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()


class State(Generic[C]):
    """Connections, queue and counters. A method that says "under the lock" expects its caller to hold it."""

    def __init__(
        self,
        driver: Driver[C],
        options: PoolOptions,
        name: str,
        clock: Callable[[], float],
        callbacks: Callbacks[C],
        budget: Budget[C] | None,
    ) -> None:
        if (options.max_size == "auto") != (budget is not None):
            raise ValueError('A pool has max_size="auto" and a budget to have its share of, or neither.')
        self.name = name
        self._driver = driver
        self._options = options
        self._clock = clock
        self._callbacks = callbacks
        self._alive = (
            driver.alive if callbacks.check is None and options.leak_after is None else never
        )  # the fast path's
        self._reset = callbacks.resetting(driver.reset)
        self._budget = budget
        self._min_wanted = options.min_size
        self._min_size = 0 if options.max_size == "auto" else options.min_size
        self._max_size = 0 if options.max_size == "auto" else options.max_size
        self._inherited: dict[int, C] = {}
        self._closed = True
        self._fresh()
        forking.register(self)

    def _fresh(self) -> None:
        """State of a pool without connections; again in a forked child, where every lock may be held by nobody."""
        # Re-entrant: a signal handler or a finaliser may use the pool while its thread is inside.
        self._lock = threading.RLock()
        self._grown = threading.Condition(self._lock)
        self._wake = Bell()
        self._watcher = Watcher(self, self.name)
        self._maintained = False  # is there a maintenance thread?
        self._here = threading.local()
        self._slots: dict[int, Slot[C]] = {}
        self._busy: dict[int, Slot[C]] = {}
        self._idle: deque[Slot[C]] = deque()
        self._idle_pop = self._idle.pop
        self._idle_append = self._idle.append
        self._busy_pop = self._busy.pop
        self._waiters: deque[Waiter[C]] = deque()
        self._attempts: WeakSet[Attempt] = WeakSet()
        self._generation = 0
        self._drained = 0  # connections of older generations are closed when they come back
        self._evicted = NEVER
        self._outage = Outage()
        self._counters = Counters()
        self._base: dict[str, float] = {}
        self._suspended = False
        self._slow = self._closed

    def _serve(self) -> None:
        """Hand idle connections to waiters, first come first served. Under the lock."""
        while self._waiters and not self._suspended:
            try:
                slot = self._idle.pop()
            except IndexError:
                break
            waiter = self._waiters.popleft()
            waiter.slot = slot
            waiter.wake.release()
        self._slow = bool(self._waiters) or self._suspended or self._closed or len(self._slots) > self._max_size

    def _attend(self) -> None:
        """A connection went idle while `_slow` was set: close it if it is too much, else serve the waiters."""
        surplus: list[C] = []
        with self._lock:
            while self._closed or len(self._slots) > self._max_size:
                try:
                    slot = self._idle.pop()
                except IndexError:
                    break
                surplus += self._forget(slot)
            self._serve()
        self._close_all(surplus)

    def _tell(self, error: BaseException, failure: Failure | None, everybody: bool) -> None:
        """Refuse the first waiter, or all. Under the lock."""
        while self._waiters:
            waiter = self._waiters.popleft()
            waiter.error, waiter.failure = error, failure
            waiter.wake.release()
            if not everybody:
                break

    def _forget(self, slot: Slot[C]) -> list[C]:
        """The slot leaves the pool. Under the lock; the caller closes what this returns when it is out of the lock.
        Empty when the slot has left before: each connection is closed once."""
        if self._slots.pop(slot.key, None) is not None:
            self._busy.pop(slot.key, None)
            self._counters.retire(slot)
            self._outage.full_until = 0.0  # closing one of our own makes room on the server
            return [slot.conn]
        return []

    def _sweep(self) -> list[C]:
        """Take out all idle connections and have busy ones looked at on return. Under the lock."""
        swept: list[C] = []
        while True:
            try:
                slot = self._idle.pop()
            except IndexError:
                break
            swept += self._forget(slot)
        for slot in self._slots.values():
            slot.expires = NEVER
        return swept

    def _reclaim(self) -> list[C]:
        """Take back what nobody can return any more. Under the lock; the caller closes them.

        A thread that died with a connection; a connection that nobody but the pool refers to; and a slot that an
        asynchronous exception dropped on its way between the idle and the busy ones. The latter two are exact where
        references are counted: any thread that still works on one holds a reference to it.
        """
        lost: list[C] = []
        for slot in list(self._slots.values()):
            held = self._busy.get(slot.key) is slot
            if held:
                gone = slot.holder is not None and not slot.holder.alive()
                if not gone and not (COUNTS_REFERENCES and sys.getrefcount(slot.conn) <= _LOST_CONN):
                    continue
                if self._busy.pop(slot.key, None) is None:
                    continue  # given back at this very moment
            elif not COUNTS_REFERENCES or sys.getrefcount(slot) > _LOST_SLOT:
                continue
            self._counters.connections_lost += 1
            lost += self._forget(slot)
        return lost

    def _ended(self, key: int) -> None:
        """The watcher has seen a connection's end. What is lent is only marked: its user will find out, and the mark
        keeps it from being lent again."""
        raise NotImplementedError

    def _close_all(self, conns: Iterable[C]) -> None:
        for conn in conns:
            self._watcher.leave(id(conn))
            try:
                self._driver.close(conn)
            except Exception as error:  # noqa: BLE001 - it is gone either way
                log.warning(
                    "%s: closing a connection failed: %r",
                    report.title(self),
                    error,
                    extra={"pool": self.name, "error": type(error).__name__},
                )

    def _dispose(self, conns: list[C]) -> None:
        """Close in another thread: a checkout must not wait for a slow goodbye."""
        if conns:
            thread = threading.Thread(target=self._close_all, args=(conns,), name="pooling-close", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads: the interpreter shuts down, or a limit of the system
                self._close_all(conns)

    def _after_fork_in_child(self) -> None:
        """Start empty. The parent's connections are made harmless now, also those that are lent: whoever has one in
        the child could do nothing with it but spoil the parent's session."""
        inherited = list(self._slots.values())
        self._watcher.abandon()
        self._fresh()
        if self._budget is not None:
            self._min_size = self._max_size = 0
            self._budget.forked()
        for slot in inherited:
            self._inherited[slot.key] = slot.conn  # kept, so that no new connection gets its id
            try:
                self._driver.abandon(slot.conn)
            except Exception as error:  # noqa: BLE001 - the others must still be abandoned
                log.warning(
                    "%s: abandoning a connection after a fork failed: %r",
                    report.title(self),
                    error,
                    extra={"pool": self.name, "error": type(error).__name__},
                )
