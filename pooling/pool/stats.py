"""Statistics under psycopg_pool's names.

What happens on the fast path is counted in the connection's own `Slot`, which only its holder writes: exact, and
without a lock. The rest happens under the pool's lock and is counted in `Counters`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from .slots import Slot


@dataclass(slots=True)
class Counters:
    """What was counted since the pool was made. ``*_ms`` are milliseconds."""

    requests_num: int = 0  # checkouts asked for
    requests_queued: int = 0  # … that had to wait
    requests_wait_ms: float = 0.0  # … and for how long, all together
    requests_errors: int = 0  # … that ended in an error
    usage_ms: float = 0.0  # time that connections spent outside the pool
    returns_bad: int = 0  # connections that came back unusable
    connections_num: int = 0  # attempts to connect
    connections_ms: float = 0.0  # time spent in those that succeeded
    connections_errors: int = 0  # attempts that failed
    connections_lost: int = 0  # connections found dead, or never given back

    def retire(self, slot: Slot[Any]) -> None:
        """Take over what the slot has counted: its connection leaves the pool."""
        self.requests_num += slot.uses
        self.requests_queued += slot.queued
        self.requests_wait_ms += slot.waited * 1000
        self.usage_ms += slot.used * 1000

    def totals(self, slots: Iterable[Slot[Any]]) -> dict[str, float]:
        """Everything counted until now, the connections in the pool included."""
        found: dict[str, float] = asdict(self)
        for slot in slots:
            found["requests_num"] += slot.uses
            found["requests_queued"] += slot.queued
            found["requests_wait_ms"] += slot.waited * 1000
            found["usage_ms"] += slot.used * 1000
        return found


def rounded(totals: dict[str, float], base: dict[str, float]) -> dict[str, int]:
    """What was counted since ``base``, in whole numbers; psycopg_pool's keys are whole numbers too."""
    return {key: round(value - base.get(key, 0)) for key, value in totals.items()}
