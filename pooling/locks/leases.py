"""Renewal of leases: one thread per lock manager prolongs every hold that has used up a third of its lease.

So a slow view keeps its groups for as long as its process lives, and a dead process loses them within one lease. The
thread runs only while something is held: short holds cost one dictionary entry and never a renewal.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable

from .._forks import after_in_child
from ..store.protocol import Store
from .held import Held

logger = logging.getLogger("pooling.locks")


class Renewer:
    """Keeps the leases of registered holds. ``clock`` gives seconds that never go back.

    ``lose`` is called with a hold that was lost, under no lock; it must not block, or other leases run out.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = time.monotonic,
        lose: Callable[[Held], object] = Held._lose,
    ) -> None:
        self._store = store
        self._clock = clock
        self._lose = lose
        self._start_over()
        _renewers.add(self)

    def _start_over(self) -> None:
        self._mutex = threading.Lock()
        self._changed = threading.Condition(self._mutex)
        self._thread: threading.Thread | None = None
        self._wake = 0.0  # when the thread looks next
        # Weak, so that a hold whose thread died without a release is not kept alive: nobody can release it any more.
        self._due: dict[str, tuple[weakref.ref[Held], float]] = {}

    def add(self, ticket: str, held: Held) -> None:
        """From a third of its lease on, renew it until `remove`."""
        due = self._clock() + held._lease / 3
        with self._mutex:
            self._due[ticket] = (weakref.ref(held), due)
            if self._thread is None:
                self._wake = due
                thread = threading.Thread(target=self._run, name="pooling-leases", daemon=True)
                # Noted only once it runs: where no thread can be had, the next hold tries again.
                thread.start()
                self._thread = thread
            elif due < self._wake:
                self._changed.notify()

    def remove(self, ticket: str) -> None:
        with self._mutex:
            self._due.pop(ticket, None)

    @property
    def running(self) -> bool:
        return self._thread is not None

    def step(self) -> float | None:
        """Renew what is due; seconds until the next look, None when nothing is held."""
        now = self._clock()
        by_lease: dict[float, list[str]] = {}
        with self._mutex:
            holds: dict[str, Held] = {}
            for ticket, (ref, due) in list(self._due.items()):
                if due > now:
                    continue
                held = ref()
                if held is None or (held._thread is not None and not held._thread.is_alive()):
                    del self._due[ticket]
                    logger.warning(
                        "A lock of %s was never released and its thread has ended; its lease frees it.",
                        (held.view if held is not None else "") or "an unnamed view",
                        extra={"ticket": ticket} if held is None else held.fields,
                    )
                    continue
                holds[ticket] = held
                by_lease.setdefault(held._lease, []).append(ticket)
        for lease, tickets in by_lease.items():
            self._renew(tickets, holds, lease)
        with self._mutex:
            if not self._due:
                return None
            return max(0.0, min(due for _, due in self._due.values()) - self._clock())

    def _renew(self, tickets: list[str], holds: dict[str, Held], lease: float) -> None:
        # Not under the lock: a store that hangs must not hang those who take and release other groups.
        try:
            kept = self._store.renew(tickets, lease)
        except Exception:
            logger.exception(
                "%d leases could not be renewed; trying again before they run out",
                len(tickets),
                extra={"tickets": tickets},
            )
            kept, delay = [True] * len(tickets), lease / 10
        else:
            delay = lease / 3
        due = self._clock() + delay
        lost = []
        with self._mutex:
            for ticket, still in zip(tickets, kept, strict=True):
                if ticket not in self._due:
                    continue  # released meanwhile; "not held" is no loss then
                if still:
                    self._due[ticket] = (self._due[ticket][0], due)
                else:
                    del self._due[ticket]
                    lost.append(holds[ticket])
        for held in lost:
            self._lose(held)
            logger.warning("Lost the lock %r", held, extra=held.fields)

    def _run(self) -> None:
        me = threading.current_thread()
        while True:
            self.step()
            with self._mutex:
                if self._thread is not me:
                    return  # in a forked child, or replaced
                if not self._due:
                    self._thread = None
                    return
                # Found here, under the lock, and not taken from the step: what was registered since is in it, and who
                # registers from now on notifies. A time that is a little later than the first due one would never come
                # to a wait: the thread would spin, and keep the GIL from those who hold.
                self._wake = min(due for _, due in self._due.values())
                nap = self._wake - self._clock()
                if nap > 0:
                    self._changed.wait(nap)


_renewers: weakref.WeakSet[Renewer] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for renewer in list(_renewers):
        renewer._start_over()


after_in_child(_after_fork_in_child)
