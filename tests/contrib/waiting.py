"""Polling with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

from pooling import runtime


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """AssertionError if it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


def in_queue(group: str, number: int = 1) -> None:
    """Until so many wait for the group."""
    store = runtime.store()
    until(lambda: sum(not party.holding for party in store.parties([group])) >= number)
