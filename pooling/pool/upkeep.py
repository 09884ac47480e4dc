"""What the maintenance thread does in one round: shrink, replace, refill."""

from __future__ import annotations

from . import leaks, report
from .driver import C
from .engine import Engine
from .state import log


class Upkeep(Engine[C]):
    """`Engine` that looks after connections nobody is using."""

    def _report_leaks(self, now: float) -> float:
        """Log what is held for too long, each once; the time of the next look."""
        limit = self._options.leak_after
        if limit is None:
            return now + 60.0
        found, due = leaks.overdue(self, now, limit)
        for held in found:
            log.warning(
                "%s: %s is held by thread %r for %.1f s, longer than 'leak_after'. Give it back sooner, or raise "
                "'leak_after' if it is to be held. It was taken at\n  %s",
                report.title(self), held.connection, held.thread, held.age, "\n  ".join(held.stack),
                extra={"pool": self.name, "holder": held.thread, "seconds": held.age},
            )  # fmt: skip
        return due

    def _keep_alive(self, now: float) -> float:
        """Ping what has been idle for long; the time of the next look."""
        pause = self._options.keepalive
        if pause is None:
            return now + 60.0
        # The newest first, each put back at the old end: so their order stays, and those nobody needs can still shrink.
        for slot in reversed(list(self._idle)):
            if now - max(slot.since, slot.asked) < pause:
                continue
            try:
                self._idle.remove(slot)
            except ValueError:
                continue  # lent in this moment, or swept because another one was dead
            if self._answers(slot, ask=True):
                self._idle.appendleft(slot)
                if self._slow:
                    self._attend()
            else:
                self._died(slot)
        return min([now + pause, *(max(slot.since, slot.asked) + pause for slot in list(self._idle))])

    def _maintain(self) -> float | None:
        """One round; the seconds until the next, or None when there is nothing left to maintain."""
        now = self._clock()
        unneeded: list[C] = []
        with self._lock:
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
        next_ping = self._keep_alive(now)
        with self._lock:
            given_up = self._outage.lasts(now, self._options.reconnect_timeout)
            alarm = self._alarm(now)
            missing = 0 if given_up or self._suspended else self._min_size - len(self._slots)
            attempts = self._grow(now, max(missing, len(self._waiters)))
            done = self._closed or not (self._slots or self._attempts or missing > 0)
            self._maintained = not done
            due = [min(slot.since + self._options.max_idle, slot.made + slot.lifetime) for slot in list(self._idle)]
            if missing > 0:
                due.append(max(self._outage.retry_at, self._outage.full_until))
        self._start(attempts)
        # What is lent now can be returned now, and then be unused for long enough before anything else is due.
        due += [next_ping, self._report_leaks(now), now + self._options.max_idle]
        if alarm:
            self._reconnect_failed()
        return None if done else min(60.0, max(0.05, min(due, default=now + 60.0) - now))
