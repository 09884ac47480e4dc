"""The breaker: after a failure nobody asks the store until one request has tried it again.

Who insists does ask, until a second request has failed as well: one failure may be due to this process, which stood
still, or to one connection, and others may go on to reach the store.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from ..errors import StoreUnavailable

FIRST_PAUSE = 0.25  # seconds; doubles with each failure that follows
LONGEST_PAUSE = 2.0


class Breaker:
    """Closed: everybody may ask. Open: nobody, for a pause. Then half open: one may, and its luck decides.

    ``clock`` gives seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.start_over()

    def start_over(self) -> None:
        """Closed, with a mutex that nobody has: for a forked child."""
        self._mutex = threading.Lock()
        self._until: float | None = None  # None: closed
        self._pause = FIRST_PAUSE
        self._probing = False
        self._sure = False  # has a probe failed as well?
        self._reason = ""

    @property
    def open(self) -> bool:
        return self._until is not None

    @property
    def trouble(self) -> str:
        """Why it is open, a sentence; "" while it is closed."""
        return "" if self._until is None else self._reason

    def enter(self, *, insist: bool = False) -> bool:
        """StoreUnavailable while it is open. True: this is the probe, which must end in `success` or `failure`."""
        if self._until is None:
            return False
        with self._mutex:
            if self._until is None:
                return False
            left = self._until - self._clock()
            if left > 0 or self._probing:
                if insist and not self._sure:
                    return False
                when = f"for another {left:.1g} s" if left > 0 else "until the request that tries it is answered"
                error = StoreUnavailable(f"{self._reason} It is not asked again {when}.")
                error.asked = False
                raise error
            self._probing = True
            return True

    def success(self, probe: bool) -> None:
        """It answered. Closes the breaker if this was the probe."""
        if probe:
            with self._mutex:
                self._until = None
                self._probing = False
                self._pause = FIRST_PAUSE

    def failure(self, reason: str, probe: bool) -> None:
        """It did not answer, for this reason, a sentence."""
        with self._mutex:
            if self._until is not None and not probe:
                return  # begun before it was opened; one failure is one failure
            # Jitter, or else all processes would try at the same moment.
            self._until = self._clock() + self._pause * random.uniform(0.8, 1.2)
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            self._probing = False
            self._sure = probe
            self._reason = reason

    def interrupted(self, probe: bool) -> None:
        """The request was interrupted before it knew: the next one may try."""
        if probe:
            with self._mutex:
                self._probing = False
