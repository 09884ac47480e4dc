"""What is known about the server from the connects that failed. Written under the pool's lock."""

from __future__ import annotations

import random
import weakref

from .slots import Attempt

LONGEST = 2.0  # seconds between two probes, at most: a recovery is noticed within this time
SHORTEST = 0.02
FULL = 0.25  # seconds without a new connect after the server said that it is full


class Outage:
    """Down or full, since when, why, and when the next connect is allowed."""

    def __init__(self) -> None:
        self.error: BaseException | None = None  # of the last failed connect, for messages
        self.since: float | None = None  # the server is down since then
        self.retry_at = 0.0
        self.full_until = 0.0
        self.slowest = 0.0  # seconds that a successful connect took at most
        self._told = False
        self._probe: weakref.ref[Attempt] | None = None

    @property
    def down(self) -> bool:
        return self.since is not None

    @property
    def probing(self) -> bool:
        return self._probe is not None and self._probe() is not None

    def admits(self, now: float) -> bool:
        """May a connect be started now? While the server is down, only one at a time and not before `retry_at`."""
        if self.down:
            return now >= self.retry_at and not self.probing
        return now >= self.full_until

    def limit(self, now: float, timeout: float) -> float:
        """Seconds that a connect begun now may take. A probe that hangs hides that the server is back, so its time is
        short; but not for ever, or a server that has become slow would be taken for dead until the end of days."""
        since = self.since
        return timeout if since is None else min(timeout, max(LONGEST, 2 * self.slowest, (now - since) * 0.04))

    def started(self, attempt: Attempt) -> None:
        if self.down:
            self._probe = weakref.ref(attempt)

    def finished(self, attempt: Attempt) -> None:
        if self._probe is not None and self._probe() is attempt:
            self._probe = None

    def refused(self, now: float, error: BaseException) -> None:
        """Nobody answered. The pause grows with the age of the outage: a short restart is noticed at once, a long
        outage costs one connect in two seconds. The jitter keeps many processes from probing in step."""
        if self.since is None:
            self.since = now
            self._told = False
        self.error = error
        pause = min(LONGEST, max(SHORTEST, (now - self.since) * 0.04))
        self.retry_at = now + pause * random.uniform(0.5, 1.0)

    def lasts(self, now: float, limit: float) -> bool:
        """Is the server down for longer than ``limit`` seconds?"""
        return self.since is not None and now - self.since > limit

    def alarm(self, now: float, limit: float) -> bool:
        """As `lasts`, but true once only in each outage."""
        if self._told or not self.lasts(now, limit):
            return False
        self._told = True
        return True

    def full(self, now: float, error: BaseException) -> None:
        self.since = None
        self.error = error
        self.full_until = now + FULL * random.uniform(0.5, 1.0)

    def answered(self, error: BaseException | None = None) -> None:
        """The server is there, even if it refused this one connect."""
        self.since = None
        self.full_until = 0.0
        self.error = error
