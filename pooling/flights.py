"""Requests of one process that want the same page share one wait.

The first goes to the store, to make the page or to wait for who makes it on another machine; the others wait here, for
the first. So however many threads and tasks a process has, it stands in the store's queue once, with one message to
wake it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from ._forks import after_in_child
from .store._waking import waker_of


class Flight:
    """One request under way, and who waits for its end."""

    __slots__ = ("landed", "wakers")

    def __init__(self) -> None:
        self.landed = False
        self.wakers: list[Callable[[], None]] = []


class Flights:
    """Flights by what they are after. Thread-safe."""

    def __init__(self) -> None:
        self.start_over()

    def start_over(self) -> None:
        """Empty: in a forked child, where the threads that made the parent's flights do not exist."""
        # Reentrant: a task that is collected in the middle of this ends its flight in this very thread.
        self._mutex = threading.RLock()
        self._flights: dict[str, Flight] = {}

    def join(self, key: str) -> tuple[Flight, bool]:
        """The flight for ``key``; True if it was made just now, then the caller must `land` it."""
        with self._mutex:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            flight = self._flights[key] = Flight()
            return flight, True

    def land(self, key: str, flight: Flight) -> None:
        """It is over: wake all who wait for it."""
        with self._mutex:
            if self._flights.get(key) is flight:
                del self._flights[key]
            flight.landed = True
            wakers, flight.wakers = flight.wakers, []
        for waker in wakers:
            waker()

    def wait(self, flight: Flight, timeout: float) -> bool:
        """Block until it has landed, at most ``timeout`` seconds; has it?"""
        gate = threading.Lock()
        gate.acquire()
        if self._park(flight, gate.release):
            try:
                gate.acquire(timeout=max(timeout, 0.0))
            finally:
                self._unpark(flight, gate.release)
        return flight.landed

    async def wait_async(self, flight: Flight, timeout: float) -> bool:
        """`wait` without blocking a thread."""
        loop = asyncio.get_running_loop()
        gate: asyncio.Future[None] = loop.create_future()
        waker = waker_of(loop, gate)
        if self._park(flight, waker):
            try:
                await asyncio.wait((gate,), timeout=max(timeout, 0.0))
            finally:
                self._unpark(flight, waker)
        return flight.landed

    def waiting(self) -> int:
        """How many requests of this process wait for another one of it."""
        with self._mutex:
            return sum(len(flight.wakers) for flight in self._flights.values())

    def _park(self, flight: Flight, waker: Callable[[], None]) -> bool:
        with self._mutex:
            if not flight.landed:
                flight.wakers.append(waker)
            return not flight.landed

    def _unpark(self, flight: Flight, waker: Callable[[], None]) -> None:
        with self._mutex:
            if waker in flight.wakers:
                flight.wakers.remove(waker)


flights = Flights()
after_in_child(flights.start_over)
