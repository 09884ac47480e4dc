"""Queue, growth and accounting of the pool: everything but the fast path, which is `pooling.pool.core`.

The rules that keep it right:

* ``_slots`` has every open connection from connect to close; ``_idle`` and ``_busy`` only say where it is just now.
  ``len(_slots) + len(_attempts) <= max_size`` always.
* A slot goes to a waiter under the lock, and a waiter leaves the queue under the lock: one that timed out or was
  interrupted can see whether it was served meanwhile, and passes on what it cannot use.
* No connect, ping, reset or close under the lock.
* ``_slow`` is true while anything but the fast path must be looked at: waiters, a closed pool, too many connections.
"""

from __future__ import annotations

import logging
import random
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic
from weakref import WeakSet

from ..errors import PoolClosed
from . import forking, maintenance, report
from .driver import C, Driver, Failure
from .options import PoolOptions, seconds
from .outage import Outage
from .slots import NEVER, Attempt, Holder, Slot, Waiter
from .stats import Counters

log = logging.getLogger("pooling.pool")

PING_AFTER = 30.0  # seconds of idleness after which a connection is asked, not only looked at
GRACE = 0.25  # seconds that a checkout waits for somebody else's probe while the server is down
TICK = 0.5  # seconds between two looks of a waiter for connections that were lost


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


_LOST_SLOT = _only_here()
_LOST_CONN = _only_slot()
_COUNTS_REFERENCES = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()


class Engine(Generic[C]):
    """See `pooling.pool.ConnectionPool`, the class to use."""

    def __init__(self, driver: Driver[C], options: PoolOptions, name: str, clock: Callable[[], float]) -> None:
        self.name = name
        self._driver = driver
        self._options = options
        self._clock = clock
        self._alive = driver.alive
        self._reset = driver.reset
        self._min_size = options.min_size
        self._max_size = options.max_size
        self._inherited: dict[int, C] = {}
        self._closed = True
        self._fresh()
        forking.register(self)

    def _fresh(self) -> None:
        """State of a pool without connections; again in a forked child, where every lock may be held by nobody."""
        # Re-entrant: a signal handler or a finaliser may use the pool while its thread is inside.
        self._lock = threading.RLock()
        self._grown = threading.Condition(self._lock)
        self._wake = threading.Event()
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
        self._outage = Outage()
        self._counters = Counters()
        self._base: dict[str, float] = {}
        self._slow = self._closed

    # -- the queue ---------------------------------------------------------------------------------------------

    def _queue(self, timeout: float | None, again: bool = False) -> C:
        """Check out by way of the queue. ``again``: it had its turn, and what it got was dead; so it goes first."""
        budget = self._options.timeout if timeout is None else seconds("timeout", timeout, zero=True)
        started = self._clock()
        waiter: Waiter[C] = Waiter()
        queued = False
        try:
            while True:
                queued |= self._enqueue(waiter, again)
                slot = self._accept(waiter, started, budget)
                if self._usable(slot, waiter):
                    slot.holder = self._introduce()
                    slot.since = self._clock()
                    slot.uses += 1
                    if queued:
                        self._count_wait(slot.since - started)
                    # No call between these lines: an asynchronous exception comes before all of them or after.
                    conn = slot.conn
                    self._busy[slot.key] = slot
                    return conn
                waiter = Waiter()
                again = True
        except BaseException:
            self._withdraw(waiter)
            raise

    def _enqueue(self, waiter: Waiter[C], first: bool) -> bool:
        """Queue up and start what is needed; was there nothing to be had at once?"""
        lost: list[C] = []
        with self._lock:
            if self._closed:
                self._closed = False
            now = self._clock()
            self._waiters.appendleft(waiter) if first else self._waiters.append(waiter)
            # First the mark, then the look. A `putconn` that read the mark before it was set had appended its
            # connection before, so that `_serve` finds it; any other finds the mark and serves the queue itself.
            self._slow = True
            self._serve()
            if waiter.settled:
                return False
            if self._options.max_waiting and len(self._waiters) > self._options.max_waiting and not first:
                raise report.full(self)
            if len(self._slots) + len(self._attempts) >= self._max_size:
                lost = self._reclaim()
            probing = self._outage.probing
            attempts = self._grow(now)
            refusal = None
            if self._outage.down and not attempts:
                refusal = None if probing else report.down(self)
                waiter.patience = now + GRACE
            elif not self._slots and not self._attempts and now < self._outage.full_until:
                refusal = report.at_capacity(self)
        self._dispose(lost)
        if refusal is not None:
            raise refusal from self._outage.error
        self._start(attempts)
        return True

    def _accept(self, waiter: Waiter[C], started: float, budget: float) -> Slot[C]:
        """Block until the waiter is served or refused."""
        deadline = started + budget
        while not waiter.settled:
            now = self._clock()
            pause = min(deadline, waiter.patience) - now
            if waiter.wake.acquire(timeout=max(0.0, min(pause, TICK))):
                break
            with self._lock:
                if waiter.settled:  # served between the time-out and here: take it, or it would be lost
                    break
                now = self._clock()
                if now >= deadline:
                    raise report.timed_out(self, now - started)
                if now >= waiter.patience:
                    if self._outage.down:
                        raise report.down(self) from self._outage.error
                    waiter.patience = float("inf")
                lost = self._reclaim()
                attempts = self._grow(now)
            self._dispose(lost)
            self._start(attempts)
        if waiter.slot is not None:
            return waiter.slot
        assert waiter.error is not None
        if waiter.failure is Failure.DOWN:
            raise report.down(self) from waiter.error
        if waiter.failure is Failure.CAPACITY:
            raise report.at_capacity(self) from waiter.error
        raise waiter.error

    def _withdraw(self, waiter: Waiter[C]) -> None:
        """Leave the queue in vain. What was handed over meanwhile goes to the next."""
        with self._lock:
            self._counters.requests_num += 1
            self._counters.requests_errors += 1
            if waiter.slot is not None:
                slot, waiter.slot = waiter.slot, None
                self._idle.append(slot)
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            self._serve()

    def _serve(self) -> None:
        """Hand idle connections to waiters, first come first served. Under the lock."""
        while self._waiters:
            try:
                slot = self._idle.pop()
            except IndexError:
                break
            waiter = self._waiters.popleft()
            waiter.slot = slot
            waiter.wake.release()
        self._slow = bool(self._waiters) or self._closed or len(self._slots) > self._max_size

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

    def _count_wait(self, waited: float) -> None:
        with self._lock:
            self._counters.requests_queued += 1
            self._counters.requests_wait_ms += waited * 1000

    def _introduce(self) -> Holder:
        """This thread's `Holder`."""
        try:
            holder: Holder = self._here.holder
        except AttributeError:
            holder = self._here.holder = Holder()
        return holder

    # -- is it any good? ---------------------------------------------------------------------------------------

    def _usable(self, slot: Slot[C], waiter: Waiter[C] | None = None) -> bool:
        """Look at a connection that is about to be lent; what is not fit is closed."""
        if waiter is not None:
            waiter.slot = None  # from here on it is ours: interrupted, it must not go to the next one unexamined
        now = self._clock()
        stale = now >= slot.expires
        if not stale and self._answers(slot, ask=now - slot.since > PING_AFTER):
            return True
        if stale:
            self._retire(slot)
        else:
            self._died(slot)
        return False

    def _answers(self, slot: Slot[C], ask: bool) -> bool:
        try:
            return self._alive(slot.conn) and (not ask or self._driver.ping(slot.conn))
        except Exception as error:  # noqa: BLE001 - whatever a driver raises here, the connection is not fit
            log.warning("%s: a connection failed its check: %r", report.title(self), error)
            return False
        except BaseException:  # interrupted between a question and its answer: nobody may read the answer later
            self._retire(slot)
            raise

    def _died(self, slot: Slot[C]) -> None:
        """A dead connection was found. Those of its age are likely to be dead too: idle ones go now, all at once,
        busy ones are asked when they come back."""
        with self._lock:
            dead = self._forget(slot)
            self._counters.connections_lost += 1
            if slot.generation == self._generation:
                self._generation += 1
                dead += self._sweep()
            self._serve()
        self._dispose(dead)
        self._wake.set()

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

    def _forget(self, slot: Slot[C]) -> list[C]:
        """The slot leaves the pool. Under the lock; the caller closes what this returns when it is out of the lock.
        Empty when the slot has left before: each connection is closed once."""
        if self._slots.pop(slot.key, None) is not None:
            self._counters.retire(slot)
            self._outage.full_until = 0.0  # closing one of our own makes room on the server
            return [slot.conn]
        return []

    def _retire(self, slot: Slot[C], *, bad: bool = False) -> None:
        """Close one connection; somebody who waits may open another in its place."""
        with self._lock:
            gone = self._forget(slot)
            self._counters.returns_bad += bad
            self._serve()
            attempts = self._grow(self._clock())
        self._start(attempts)
        self._close_all(gone)
        if len(self._slots) < self._min_size:
            self._wake.set()

    def _returned(self, slot: Slot[C], clean: bool) -> None:
        """A connection came back that cannot simply be put with the others."""
        now = self._clock()
        fit = clean and slot.generation >= self._drained and now < slot.made + slot.lifetime and not self._closed
        if fit and self._answers(slot, ask=True):
            slot.generation = self._generation
            slot.expires = slot.made + slot.lifetime
            slot.since = now
            self._idle_append(slot)
            if self._slow:
                self._attend()
        else:
            self._retire(slot, bad=not clean)

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
                if not gone and not (_COUNTS_REFERENCES and sys.getrefcount(slot.conn) <= _LOST_CONN):
                    continue
                if self._busy.pop(slot.key, None) is None:
                    continue  # given back at this very moment
            elif not _COUNTS_REFERENCES or sys.getrefcount(slot) > _LOST_SLOT:
                continue
            self._counters.connections_lost += 1
            lost += self._forget(slot)
        return lost

    # -- closing -----------------------------------------------------------------------------------------------

    def _close_all(self, conns: Iterable[C]) -> None:
        for conn in conns:
            try:
                self._driver.close(conn)
            except Exception as error:  # noqa: BLE001 - it is gone either way
                log.warning("%s: closing a connection failed: %r", report.title(self), error)

    def _dispose(self, conns: list[C]) -> None:
        """Close in another thread: a checkout must not wait for a slow goodbye."""
        if conns:
            thread = threading.Thread(target=self._close_all, args=(conns,), name="pooling-close", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads: the interpreter shuts down, or a limit of the system
                self._close_all(conns)

    # -- connecting --------------------------------------------------------------------------------------------

    def _grow(self, now: float, want: int | None = None) -> list[Attempt]:
        """Attempts to start: one for each waiter that none is under way for. Under the lock; see `_start`."""
        wanted = len(self._waiters) if want is None else want
        attempts: list[Attempt] = []
        while (
            len(self._attempts) < wanted
            and len(self._slots) + len(self._attempts) < self._max_size
            and not self._closed
            and self._outage.admits(now)
        ):
            attempt = Attempt(self._generation)
            self._outage.started(attempt)
            self._attempts.add(attempt)
            attempts.append(attempt)
        return attempts

    def _start(self, attempts: list[Attempt]) -> None:
        """Connect in threads of their own: so a waiter can take what is returned meanwhile, and can time out."""
        while attempts:
            attempt = attempts.pop()
            thread = threading.Thread(target=self._attempt, args=(attempt,), name="pooling-connect", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads: the interpreter shuts down, or a limit of the system
                self._attempt(attempt)

    def _attempt(self, attempt: Attempt) -> None:
        started = self._clock()
        try:
            conn = self._driver.connect(self._options.timeout)
        except BaseException as error:
            self._failed(attempt, error)
            if not isinstance(error, Exception):
                raise
        else:
            self._connected(attempt, conn, started)

    def _connected(self, attempt: Attempt, conn: C, started: float) -> None:
        now = self._clock()
        lifetime = self._options.max_lifetime * random.uniform(0.95, 1.0)
        slot = Slot(conn, attempt.generation, now, lifetime)
        unwanted: list[C] = []
        with self._lock:
            self._attempts.discard(attempt)
            self._outage.finished(attempt)
            self._outage.answered()
            self._counters.connections_num += 1
            self._counters.connections_ms += (now - started) * 1000
            if self._closed or attempt.generation < self._drained or len(self._slots) >= self._max_size:
                unwanted.append(conn)
            else:
                slot.generation = self._generation
                self._slots[slot.key] = slot
                self._idle.append(slot)
            self._serve()
            attempts = self._grow(now)
            self._grown.notify_all()
        self._start(attempts)
        self._close_all(unwanted)
        self._keep_up()

    def _failed(self, attempt: Attempt, error: BaseException) -> None:
        failure = self._driver.classify(error) if isinstance(error, self._driver.errors) else Failure.OTHER
        with self._lock:
            now = self._clock()
            self._attempts.discard(attempt)
            self._outage.finished(attempt)
            self._counters.connections_num += 1
            self._counters.connections_errors += 1
            if failure is Failure.DOWN:
                self._outage.refused(now, error)
                self._tell(error, failure, everybody=True)
            elif failure is Failure.CAPACITY:
                self._outage.full(now, error)
                if not self._slots and not self._attempts:
                    self._tell(error, failure, everybody=True)
            else:
                self._outage.answered(error)
                self._tell(error, None, everybody=False)
            self._serve()
            attempts = self._grow(now)
        self._start(attempts)

    # -- maintenance -------------------------------------------------------------------------------------------

    def _keep_up(self) -> None:
        """Have a maintenance thread if there is anything to maintain."""
        with self._lock:
            if self._closed or self._maintained or not (self._slots or self._min_size):
                return
            self._maintained = True
        try:
            maintenance.start(self)
        except RuntimeError:  # no more threads: the next connect tries again
            with self._lock:
                self._maintained = False

    def _maintain(self) -> float | None:
        """One round; the seconds until the next, or None when there is nothing left to maintain."""
        now = self._clock()
        with self._lock:
            unneeded = self._reclaim()
            spare = len(self._slots) - self._min_size
        for slot in list(self._idle):  # oldest first
            expired = now >= slot.expires
            if not expired and not (spare > 0 and now - slot.since >= self._options.max_idle):
                continue
            try:
                self._idle.remove(slot)
            except ValueError:
                continue  # taken by a checkout in this moment
            with self._lock:
                if expired or now - slot.since >= self._options.max_idle:
                    unneeded += self._forget(slot)
                    spare -= 1
                else:  # it was used and returned between the look and the grip
                    self._idle.append(slot)
                self._serve()
        self._close_all(unneeded)
        with self._lock:
            given_up = self._outage.since is not None and now - self._outage.since > self._options.reconnect_timeout
            missing = 0 if given_up else self._min_size - len(self._slots)
            attempts = self._grow(now, max(missing, len(self._waiters)))
            if self._closed or not (self._slots or self._attempts or missing > 0):
                self._maintained = False
                return None
            due = [min(slot.since + self._options.max_idle, slot.made + slot.lifetime) for slot in list(self._idle)]
            if missing > 0:
                due.append(max(self._outage.retry_at, self._outage.full_until))
        self._start(attempts)
        return min(60.0, max(0.05, min(due, default=now + 60.0) - now))

    # -- fork --------------------------------------------------------------------------------------------------

    def _after_fork_in_child(self) -> None:
        """Start empty. The parent's connections are made harmless now, also those that are lent: whoever has one in
        the child could do nothing with it but spoil the parent's session."""
        inherited = list(self._slots.values())
        self._fresh()
        for slot in inherited:
            self._inherited[slot.key] = slot.conn  # kept, so that no new connection gets its id
            try:
                self._driver.abandon(slot.conn)
            except Exception as error:  # noqa: BLE001 - the others must still be abandoned
                log.warning("%s: abandoning a connection after a fork failed: %r", report.title(self), error)

    # -- closing the pool --------------------------------------------------------------------------------------

    def _shut(self) -> list[C]:
        with self._lock:
            self._closed = self._slow = True  # before the look at the idle ones: see `_enqueue`
            self._generation += 1
            self._drained = self._generation
            gone = self._sweep()
            error = PoolClosed(f"{report.title(self)} was closed while a connection was waited for.")
            self._tell(error, None, everybody=True)
            self._grown.notify_all()
        self._wake.set()
        return gone
