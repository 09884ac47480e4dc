"""How the pool grows, shrinks and heals: connects, failures of connects, maintenance."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, cast

from . import maintenance, report
from .callbacks import never
from .driver import C, Failure
from .slots import Attempt, Slot
from .state import State, log
from .watcher import TRUST

if TYPE_CHECKING:
    from .core import ConnectionPool


class Growth(State[C]):
    """`State` that opens and replaces connections."""

    def _grow(self, now: float, want: int | None = None) -> list[Attempt]:
        """Attempts to start: one for each waiter that none is under way for. Under the lock; see `_start`."""
        wanted = len(self._waiters) if want is None else want
        attempts: list[Attempt] = []
        while (
            len(self._attempts) < wanted
            and len(self._slots) + len(self._attempts) < self._max_size
            and not self._closed
            and not self._suspended
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
            # Nothing in this thread refers to the connection but the slot: its user may count who does.
            slot = Slot(
                self._connect(self._outage.limit(started, self._options.timeout)), attempt.generation, started, 0.0
            )
        except BaseException as error:
            self._failed(attempt, error)
            if not isinstance(error, Exception):
                raise
        else:
            self._connected(attempt, slot, started)

    def _connect(self, limit: float) -> C:
        conn = self._driver.connect(limit)
        try:
            if self._budget is not None:
                self._budget.learn(conn)
            if self._callbacks.configure is not None:
                self._callbacks.configure(conn)
        except BaseException:
            self._close_all([conn])
            raise
        return conn

    def _connected(self, attempt: Attempt, slot: Slot[C], started: float) -> None:
        now = slot.made = slot.asked = slot.since = self._clock()
        slot.lifetime = self._options.max_lifetime * random.uniform(0.95, 1.0)
        slot.expires = now + slot.lifetime
        unwanted: list[C] = []
        with self._lock:
            self._attempts.discard(attempt)
            self._outage.finished(attempt)
            self._outage.answered()
            self._outage.slowest = max(self._outage.slowest, now - started)
            self._counters.connections_num += 1
            self._counters.connections_ms += (now - started) * 1000
            if self._closed or attempt.generation < self._drained or len(self._slots) >= self._max_size:
                unwanted.append(slot.conn)
            else:
                slot.generation = self._generation
                self._slots[slot.key] = slot
                self._idle.append(slot)
            self._serve()
            attempts = self._grow(now)
            self._grown.notify_all()
        self._start(attempts)
        self._close_all(unwanted)
        self._watch(slot)
        self._keep_up()

    def _watch(self, slot: Slot[C]) -> None:
        """Be told of its end. It is in the pool by now, or `_ended` would not find it; it may have left it again."""
        watched = self._watcher.watch(slot.key, self._driver.fileno(slot.conn))
        if self._slots.get(slot.key) is not slot:
            self._watcher.leave(slot.key)  # whoever closes it may have said so too early
        elif watched and self._alive is not never:
            slot.trust = TRUST

    def _failed(self, attempt: Attempt, error: BaseException) -> None:
        failure = self._driver.classify(error) if isinstance(error, self._driver.errors) else Failure.OTHER
        with self._lock:
            now = self._clock()
            self._attempts.discard(attempt)
            self._outage.finished(attempt)
            self._counters.connections_num += 1
            self._counters.connections_errors += 1
            everybody = failure is not Failure.OTHER
            if failure is Failure.DOWN:
                self._outage.refused(now, error)
            elif failure is Failure.CAPACITY:
                self._outage.full(now, error)
            else:
                self._outage.answered(error)
            alone = not self._slots and not self._attempts
            # Those who wait for `resume` wait for what is there then.
            if not self._suspended and (failure is not Failure.CAPACITY or alone):
                self._tell(error, failure if everybody else None, everybody)
            self._serve()
            attempts = self._grow(now)
            alarm = self._alarm(now)
        self._start(attempts)
        if alarm:
            self._reconnect_failed()

    def _alarm(self, now: float) -> bool:
        """Is it time for `_reconnect_failed`? Under the lock."""
        return not self._closed and self._outage.alarm(now, self._options.reconnect_timeout)

    def _reconnect_failed(self) -> None:
        """Tell the user, out of the lock: whatever is done to the pool there, close it for instance, is welcome."""
        if self._callbacks.reconnect_failed is not None:
            try:
                self._callbacks.reconnect_failed(cast("ConnectionPool[C]", self))
            except Exception:  # noqa: BLE001 - the user's; the pool goes on
                log.exception(
                    "%s: the callback 'reconnect_failed' failed", report.title(self), extra={"pool": self.name}
                )

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
            self._wake.ring()

    def _refill(self) -> None:
        """Open what is missing to ``min_size`` and for those who wait."""
        with self._lock:
            attempts = self._grow(self._clock(), max(self._min_size - len(self._slots), len(self._waiters)))
        self._start(attempts)
        self._keep_up()

    def _keep_up(self) -> None:
        """Have a maintenance thread if there is anything to maintain."""
        if self._budget is not None and (self._slots or self._min_wanted) and not self._closed:
            self._budget.begin(cast("ConnectionPool[C]", self))
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
        """One round of maintenance: see `pooling.pool.upkeep`."""
        raise NotImplementedError
