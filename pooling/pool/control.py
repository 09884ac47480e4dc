"""What an operator does to a running pool: open, close, resize, check, count."""

from __future__ import annotations

from .._numbers import seconds
from ..errors import PoolTimeout
from . import leaks, report
from .driver import C
from .leaks import Holding
from .options import PoolOptions
from .slots import Slot
from .stats import Snapshot, rounded
from .upkeep import Upkeep

EVERY = 1.0  # seconds between two evictions


class Control(Upkeep[C]):
    """The part of `pooling.pool.ConnectionPool` that no checkout needs."""

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

    def _outdated(self, slot: Slot[C]) -> bool:
        """Is it time for `drain`, when one like ``slot`` was found to lead to the wrong server?

        Not if it was drained since that one was made. Nor within a second: as long as the new server cannot be reached
        under its name, all that replaces it leads to the wrong one too.
        """
        with self._lock:
            now = self._clock()
            if slot.generation < self._drained or now < self._evicted + EVERY:
                return False
            self._evicted = now
            return True

    def resize(self, min_size: int, max_size: int | None = None) -> None:
        """Change the bounds while running. What is too much is closed when idle. ValueError as `PoolOptions`.

        With ``max_size`` "auto" only ``min_size`` can be changed.
        """
        if self._budget is not None:
            if max_size is not None:
                raise ValueError(f'{report.title(self)} has max_size="auto", its share of the server\'s connections.')
            self._min_wanted = PoolOptions(min_size=min_size, max_size="auto").min_size
            return self._allot(self._max_size)
        most = max(min_size, self._max_size) if max_size is None else max_size
        self._min_wanted = PoolOptions(min_size=min_size, max_size=most).min_size
        return self._allot(most)

    def _allot(self, most: int) -> None:
        """Have at most so many connections; close what is idle and too much, open what is wanted."""
        with self._lock:
            self._max_size = most
            self._min_size = min(self._min_wanted, most)
            self._serve()
            self._grown.notify_all()  # ``min_size`` may be reached by being less
        if self._slow:
            self._attend()
        self._refill()

    def suspend(self) -> None:
        """Lend and open no connection until `resume`: checkouts wait, each up to its timeout.

        What is lent may be used on; what is returned stays. For a switch to another server: suspend, `drain`, switch,
        resume. Stays through `close`; a forked child is not suspended.
        """
        with self._lock:
            self._suspended = self._slow = True

    def resume(self) -> None:
        """Lend again, first to those who wait, in the order of their arrival. Nothing happens if not suspended."""
        with self._lock:
            if not self._suspended:
                return
            self._suspended = False
            self._outage.retry_at = self._outage.full_until = 0.0  # what was known of the server may be of the last one
            self._serve()
        self._refill()

    def wait(self, timeout: float = 30.0) -> None:
        """Open the pool and block until ``min_size`` connections are there. PoolTimeout after ``timeout`` seconds."""
        seconds("timeout", timeout, zero=True)
        self.open()
        self._refill()
        with self._grown:
            if not self._grown.wait_for(self._filled, timeout):
                raise PoolTimeout(
                    f"{report.title(self)} has not reached its 'min_size' within {timeout} s: {report.sizes(self)}."
                    f"{report.last_error(self)} Look at the server, or lower 'min_size'."
                ) from self._outage.error

    def _filled(self) -> bool:
        return len(self._slots) >= self._min_size and (self._max_size > 0 or not self._min_wanted)

    def last_wait(self) -> float:
        """Seconds for which this thread's last checkout was queued, 0 if it was served at once; told once."""
        holder = self._introduce()
        waited, holder.waited = holder.waited, 0.0
        return waited

    def holders(self) -> list[Holding]:
        """Who holds what since when, the longest-standing first; with ``leak_after`` also where it was taken."""
        return leaks.holdings(self, self._clock())

    def snapshot(self) -> Snapshot:
        """Sizes, state, holders, and all counts since the pool was made, for those who watch it."""
        with self._lock:
            slots = list(self._slots.values())
            return Snapshot(
                name=self.name,
                address=str(getattr(self._driver, "address", "")),
                state=self._state(),
                min_size=self._min_size,
                max_size=self._max_size,
                size=len(slots),
                idle=len(self._idle),
                busy=len(self._busy),
                connecting=len(self._attempts),
                waiting=len(self._waiters),
                counts=rounded(self._counters.totals(slots), {}),
                waits=self._counters.all_waits(slots),
                holders=tuple(self.holders()),
                error=self._outage.error,
            )

    def _state(self) -> str:
        if self._closed:
            return "closed"
        if self._suspended:
            return "suspended"
        return "down" if self._outage.down else "up"

    def get_stats(self) -> dict[str, int]:
        """Sizes now and counts since the last `pop_stats`, under psycopg_pool's keys.

        With ``max_size`` "auto" also ``budget_size``, the connections that ``budget_members`` processes divide; 0 while
        that is not known.
        """
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
            standing = None if self._budget is None else self._budget.standing
            if self._budget is not None:
                counted["budget_size"] = standing.limit or 0 if standing else 0
                counted["budget_members"] = standing.members if standing else 0
            return {
                "pool_min": self._min_size,
                "pool_max": self._max_size,
                "pool_size": len(self._slots),
                "pool_available": len(self._idle),
                "requests_waiting": len(self._waiters),
                **counted,
            }
