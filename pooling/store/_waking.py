"""Waking a task from any thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def waker_of(loop: asyncio.AbstractEventLoop, gate: asyncio.Future[None]) -> Callable[[], None]:
    """A function that opens ``gate``, a future of ``loop``; called again it does nothing."""

    def open_gate() -> None:
        if not gate.done():
            gate.set_result(None)

    def waker() -> None:
        try:
            loop.call_soon_threadsafe(open_gate)
        except RuntimeError:
            # The loop was closed under its waiter: nobody is left to be told, and the lease frees the groups.
            return

    return waker
