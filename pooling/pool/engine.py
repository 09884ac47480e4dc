"""The slow path: the queue of those who wait, and the judgement of connections that may not be fit."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, cast

from .._numbers import seconds
from ..errors import PoolClosed
from ..histogram import bucket_of
from . import report
from .driver import C, Failure
from .growth import Growth
from .leaks import Taking
from .slots import NEVER, Attempt, Holder, Slot, Waiter
from .state import log

if TYPE_CHECKING:
    from .core import ConnectionPool

PING_AFTER = 30.0  # seconds of idleness after which a connection is asked, not only looked at
GRACE = 0.25  # seconds that a checkout waits for a probe while the server is down
LOOK = 0.02  # seconds after which a waiter looks for connections that were lost: most are served before
TICK = 0.5  # seconds between its further looks


class Engine(Growth[C]):
    """Everything but the public face and the fast path: see `pooling.pool.ConnectionPool`, the class to use."""

    def _queue(self, timeout: float | None, again: bool = False) -> C:
        """Check out by way of the queue. ``again``: it had its turn, and what it got was dead; so it goes first."""
        budget = self._options.timeout if timeout is None else seconds("timeout", timeout, zero=True)
        started = self._clock()
        waiter: Waiter[C] = Waiter()
        queued = False
        doubts = 0
        try:
            while True:
                queued |= self._enqueue(waiter, again)
                slot = self._accept(waiter, started, budget)
                if self._usable(slot, waiter):
                    self._lend(slot)
                    if queued:
                        waited = slot.since - started
                        slot.waits.add(waited, bucket_of(waited))
                        self._here.holder.waited = waited
                    # No call between these lines: an asynchronous exception comes before all of them or after.
                    conn = slot.conn
                    self._busy[slot.key] = slot
                    return conn
                doubt, again = waiter.doubt, True
                waiter = Waiter()
                if doubt is not None:
                    doubts += 1
                    self._pause(waiter, doubt, doubts, started, budget)
        except BaseException:
            self._withdraw(waiter, started)
            raise

    def _pause(self, waiter: Waiter[C], doubt: Exception, doubts: int, started: float, budget: float) -> None:
        """After the user's check has refused: the first time what was idle was old, so try a new connection at once;
        from then on the check is not going to like the next one either, and connects without a pause are a storm."""
        waited = self._clock() - started
        if waited >= budget:
            raise report.timed_out(self, waited, doubt) from doubt
        if doubts > 1:
            pause = min(1.0, 0.01 * 2.0**doubts) * random.uniform(0.5, 1.0)
            waiter.wake.acquire(timeout=min(pause, budget - waited))  # not queued: nobody releases it

    def _enqueue(self, waiter: Waiter[C], first: bool) -> bool:
        """Queue up and start what is needed; was there nothing to be had at once?"""
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
            down = self._outage.down
            probing = down and self._outage.probing
            attempts = self._grow(now) if len(self._slots) < self._max_size else []
            refusal = None
            if self._suspended:
                pass  # whatever the server is now, what counts is how it is after `resume`
            elif down:
                refusal = None if probing or attempts else report.down(self)
                waiter.patience = now + GRACE  # also whose probe it is: it goes on, and what it brings is kept
            elif not self._slots and not self._attempts and now < self._outage.full_until:
                refusal = report.at_capacity(self)
            lost = [] if refusal is None else self._reclaim()
        self._dispose(lost)
        if refusal is not None:
            raise refusal from self._outage.error
        self._start(attempts)
        if self._budget is not None:
            self._budget.begin(cast("ConnectionPool[C]", self))
        return True

    def _accept(self, waiter: Waiter[C], started: float, budget: float) -> Slot[C]:
        """Block until the waiter is served or refused."""
        deadline = started + budget
        tick = LOOK
        while not waiter.settled:
            pause = min(deadline, waiter.patience) - self._clock()
            if waiter.wake.acquire(timeout=max(0.0, min(pause, tick))):
                break
            tick = TICK
            refusal = cause = None
            with self._lock:
                if waiter.settled:  # served between the time-out and here: take it, or it would be lost
                    break
                now = self._clock()
                if now >= deadline:
                    refusal = report.timed_out(self, now - started)
                elif now >= waiter.patience:
                    if self._outage.down and not self._suspended:
                        refusal, cause = report.down(self), self._outage.error
                    waiter.patience = float("inf")
                lost = self._reclaim()  # also for the next one, when this one must leave
                attempts = self._grow(now)
            self._dispose(lost)
            self._start(attempts)
            if refusal is not None:
                raise refusal from cause
        if waiter.slot is not None:
            return waiter.slot
        assert waiter.error is not None
        if waiter.failure is Failure.DOWN:
            raise report.down(self) from waiter.error
        if waiter.failure is Failure.CAPACITY:
            raise report.at_capacity(self) from waiter.error
        raise waiter.error

    def _withdraw(self, waiter: Waiter[C], started: float) -> None:
        """Leave the queue in vain. What was handed over meanwhile goes to the next."""
        with self._lock:
            self._counters.refused(self._clock() - started)
            if waiter.slot is not None:
                slot, waiter.slot = waiter.slot, None
                self._idle.append(slot)
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            self._serve()

    def _introduce(self) -> Holder:
        """This thread's `Holder`."""
        try:
            holder: Holder = self._here.holder
        except AttributeError:
            holder = self._here.holder = Holder()
        return holder

    def _lend(self, slot: Slot[C]) -> None:
        """Write down who takes it. Not yet among the busy ones: that is the caller's last step."""
        slot.holder = self._introduce()
        if self._options.leak_after is not None:
            slot.taking = Taking()
        slot.since = self._clock()
        slot.uses += 1

    def _usable(self, slot: Slot[C], waiter: Waiter[C] | None = None) -> bool:
        """Look at a connection that is about to be lent; what is not fit is closed."""
        if waiter is not None:
            waiter.slot = None  # from here on it is ours: interrupted, it must not go to the next one unexamined
        now = self._clock()
        stale = now >= slot.expires
        watched = now - slot.since <= slot.trust
        if (
            not stale
            and (watched or self._answers(slot, ask=now - max(slot.since, slot.asked) > PING_AFTER))
            and self._checked(slot, waiter)
        ):
            return True
        if stale:
            with self._lock:
                gone = self._forget(slot)
                self._serve()
            self._dispose(gone)  # not here: a slow goodbye would stall the checkout
        else:
            self._died(slot)
        return False

    def _answers(self, slot: Slot[C], ask: bool) -> bool:
        try:
            if not self._driver.alive(slot.conn) or (ask and not self._driver.ping(slot.conn)):
                return False
            if ask:
                slot.asked = self._clock()
            return True
        except Exception as error:  # noqa: BLE001 - whatever a driver raises here, the connection is not fit
            log.warning(
                "%s: a connection failed its check: %r",
                report.title(self),
                error,
                extra={"pool": self.name, "error": type(error).__name__},
            )
            return False
        except BaseException:  # interrupted between a question and its answer: nobody may read the answer later
            self._retire(slot)
            raise

    def _checked(self, slot: Slot[C], waiter: Waiter[C] | None) -> bool:
        """What the user's own check says."""
        check = self._callbacks.check
        if check is None:
            return True
        try:
            if check(slot.conn) is not False:
                return True
            doubt = Exception("the callback 'check' returned False")
        except Exception as error:  # noqa: BLE001 - whatever it raises means no
            doubt = error
        except BaseException:
            self._retire(slot)
            raise
        log.warning(
            "%s: a connection failed the callback 'check': %r",
            report.title(self),
            doubt,
            extra={"pool": self.name, "error": type(doubt).__name__},
        )
        if waiter is not None:
            waiter.doubt = doubt
        return False

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
        self._wake.ring()

    def _ended(self, key: int) -> None:
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                return
            slot.expires = NEVER  # first, for a checkout that has it in its hands already
            try:
                self._idle.remove(slot)
            except ValueError:
                return
        self._died(slot)

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

    def _shut(self) -> list[C]:
        with self._lock:
            self._closed = self._slow = True  # before the look at the idle ones: see `_enqueue`
            self._generation += 1
            self._drained = self._generation
            gone = self._sweep()
            error = PoolClosed(f"{report.title(self)} was closed while a connection was waited for.")
            self._tell(error, None, everybody=True)
            self._grown.notify_all()
        self._wake.ring()
        return gone

    def close_gently(self) -> None:
        """Close the pool without refusing anybody: as `close`, but while checkouts wait it stays open for them.

        Idle connections are closed now and lent ones when they come back; those who wait get new ones in their place.
        """
        attempts: list[Attempt] = []
        with self._lock:
            if self._waiters:
                self._generation += 1
                self._drained = self._generation
                for attempt in self._attempts:
                    attempt.generation = self._generation  # somebody waits for it, and it is as new as can be
                gone = self._sweep()
                self._serve()
                attempts = self._grow(self._clock())
            else:
                gone = self._shut()
        self._start(attempts)
        self._close_all(gone)
