"""Polling with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pooling import runtime


def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Wait for it; the value that it ended with. AssertionError if it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)  # else this thread would keep the interpreter from those that it waits for
    return value


def in_queue(group: str, number: int = 1) -> None:
    """Until so many wait for the group."""
    store = runtime.store()
    until(lambda: sum(not party.holding for party in store.parties([group])) >= number)
