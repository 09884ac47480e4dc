"""What happened, in the order of one clock that all processes share: CLOCK_MONOTONIC."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """``time`` in seconds; ``worker`` is -1 for the nemesis; ``transfer`` is "" where it is about none."""

    time: float
    worker: int
    transfer: str
    point: str
    detail: Mapping[str, Any] = field(default_factory=dict)


class History:
    """Events as they come in, from any thread."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self._latest: dict[tuple[int, str], Event] = {}

    def add(self, event: Event) -> None:
        with self._changed:
            self._events.append(event)
            self._latest[event.worker, event.point] = event
            self._changed.notify_all()

    def note(self, point: str, **detail: Any) -> Event:
        """An event of the nemesis, now."""
        event = Event(time.monotonic(), -1, "", point, detail)
        self.add(event)
        return event

    def wait(self, true: Callable[[], bool], seconds: float) -> bool:
        """Wait until it is true, asked after each event; False if it is not in time."""
        with self._changed:
            return self._changed.wait_for(true, seconds)

    def since(self, worker: int, point: str, moment: float) -> bool:
        """Has the worker reached the point after this moment?"""
        latest = self.latest(worker, point)
        return latest is not None and latest.time > moment

    def latest(self, worker: int, point: str) -> Event | None:
        """When the worker reached the point for the last time."""
        with self._changed:
            return self._latest.get((worker, point))

    def events(self) -> list[Event]:
        with self._changed:
            return sorted(self._events, key=lambda event: event.time)
