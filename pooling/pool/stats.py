"""Statistics under psycopg_pool's names.

What happens on the fast path is counted in the connection's own `Slot`, which only its holder writes: exact, and
without a lock. The rest happens under the pool's lock and is counted in `Counters`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..histogram import Histogram, bucket_of
from .leaks import Holding
from .slots import Slot


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A pool at one moment; nobody's `pop_stats` changes what it has counted since it was made.

    ``address``  of the server, where the driver tells it.
    ``state``    "up", "down" (the server cannot be reached), "suspended" or "closed" (also before its first use).
    ``counts``   psycopg_pool's counters, ``*_ms`` in milliseconds.
    ``waits``    of all checkouts that had to wait, in vain or not. Those that had not are ``requests_num`` less these.
    ``holders``  the longest-standing first.
    ``error``    why the last connect failed; None if none did since the last success.
    """

    name: str
    address: str
    state: str
    min_size: int
    max_size: int
    size: int
    idle: int
    busy: int
    connecting: int
    waiting: int
    counts: dict[str, int]
    waits: Histogram
    holders: tuple[Holding, ...]
    error: BaseException | None


@dataclass(slots=True)
class Counters:
    """What was counted since the pool was made. ``*_ms`` are milliseconds."""

    requests_num: int = 0
    requests_errors: int = 0
    usage_ms: float = 0.0
    returns_bad: int = 0
    connections_num: int = 0
    connections_ms: float = 0.0
    connections_errors: int = 0
    connections_lost: int = 0
    waits: Histogram = field(default_factory=Histogram)  # of checkouts that had to wait and were served
    vain: Histogram = field(default_factory=Histogram)  # … that were not

    def retire(self, slot: Slot[Any]) -> None:
        """Take over what the slot has counted: its connection leaves the pool."""
        self.requests_num += slot.uses
        self.usage_ms += slot.used * 1000
        self.waits.take(slot.waits)

    def refused(self, waited: float) -> None:
        """A checkout has ended in an error after so many seconds."""
        self.requests_num += 1
        self.requests_errors += 1
        self.vain.add(waited, bucket_of(waited))

    def totals(self, slots: Iterable[Slot[Any]]) -> dict[str, float]:
        """Everything counted until now, the connections in the pool included."""
        found: dict[str, float] = {
            "requests_num": self.requests_num,  # checkouts asked for
            "requests_queued": self.waits.count,  # … that had to wait
            "requests_wait_ms": self.waits.total * 1000,  # … and for how long, all together
            "requests_errors": self.requests_errors,  # … that ended in an error
            "usage_ms": self.usage_ms,  # time that connections spent outside the pool
            "returns_bad": self.returns_bad,  # connections that came back unusable
            "connections_num": self.connections_num,  # attempts to connect
            "connections_ms": self.connections_ms,  # time spent in those that succeeded
            "connections_errors": self.connections_errors,  # attempts that failed
            "connections_lost": self.connections_lost,  # connections found dead, or never given back
        }
        for slot in slots:
            found["requests_num"] += slot.uses
            found["requests_queued"] += slot.waits.count
            found["requests_wait_ms"] += slot.waits.total * 1000
            found["usage_ms"] += slot.used * 1000
        return found

    def all_waits(self, slots: Iterable[Slot[Any]]) -> Histogram:
        """Of all checkouts that had to wait, those of the connections in the pool included."""
        found = Histogram()
        for one in (self.waits, self.vain, *(slot.waits for slot in slots)):
            found.take(one)
        return found


def rounded(totals: dict[str, float], base: dict[str, float]) -> dict[str, int]:
    """What was counted since ``base``, in whole numbers; psycopg_pool's keys are whole numbers too."""
    return {key: round(value - base.get(key, 0)) for key, value in totals.items()}
