"""Who holds connections, and since when: for `ConnectionPool.holders`, the leak report and the texts of errors."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import CodeType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .slots import Slot
    from .state import State

DEPTH = 40  # frames that are kept of the taking call
NAMED = 5  # holders in the text of an error

_OWN = __name__.rpartition(".")[0] + "."


@dataclass(frozen=True, slots=True)
class Holding:
    """One lent connection. ``since`` is a time of the pool's clock, ``age`` is in seconds, ``ident`` the thread's.

    ``stack``: lines ``file:line in function`` of the call that took it, innermost first; empty without ``leak_after``.
    """

    connection: str
    thread: str
    since: float
    age: float
    stack: tuple[str, ...]
    ident: int | None = None

    def __str__(self) -> str:
        where = f", taken at {self.stack[0]}" if self.stack else ""
        return f"thread {self.thread!r} for {self.age:.1f} s{where}"


class Taking:
    """The call that took a connection. Code and line numbers, never frames: a frame keeps what it works on alive."""

    __slots__ = ("places", "reported")

    def __init__(self) -> None:
        self.places: list[tuple[CodeType, int]] = []
        self.reported = False
        frame = sys._getframe(1)
        while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(_OWN):
            frame = frame.f_back  # type: ignore[assignment]
        while frame is not None and len(self.places) < DEPTH:
            self.places.append((frame.f_code, frame.f_lineno))
            frame = frame.f_back  # type: ignore[assignment]

    def lines(self) -> tuple[str, ...]:
        return tuple(f"{code.co_filename}:{line} in {code.co_qualname}" for code, line in self.places)


def holdings(pool: State[Any], now: float) -> list[Holding]:
    """The lent connections, that of the longest-standing holder first. Without the lock: a moment's picture."""
    found = [_holding(slot, now) for slot in list(pool._busy.values())]
    return sorted(found, key=lambda holding: holding.since)


def _holding(slot: Slot[Any], now: float) -> Holding:
    holder, taking, since = slot.holder, slot.taking, slot.since
    return Holding(
        connection=repr(slot.conn),
        thread=holder.name if holder is not None else "?",
        since=since,
        age=max(0.0, now - since),
        stack=taking.lines() if taking is not None else (),
        ident=holder.thread.ident if holder is not None else None,
    )


def overdue(pool: State[Any], now: float, limit: float) -> tuple[list[Holding], float]:
    """Those held for ``limit`` seconds and not reported yet, and when to look again: exact, for what is taken from now
    on is due ``limit`` seconds from now at the earliest."""
    found = []
    due = now + limit
    for slot in list(pool._busy.values()):
        taking, since = slot.taking, slot.since
        if taking is None or taking.reported:
            continue
        if now - since < limit:
            due = min(due, since + limit)
            continue
        holding = _holding(slot, now)
        # Looked at last: given back and perhaps lent again meanwhile, it is not this holder's any more.
        if pool._busy.get(slot.key) is slot and slot.taking is taking:
            taking.reported = True
            found.append(holding)
    return found, due


def named(pool: State[Any], now: float) -> str:
    """The holders for the text of an error: all of them as far as stacks are known, else the oldest."""
    held = holdings(pool, now)
    if not held:
        return ""
    if pool._options.leak_after is None:
        return f" The oldest one is held by thread {held[0].thread!r} for {held[0].age:.1f} s."
    more = f"; and {len(held) - NAMED} more" if len(held) > NAMED else ""
    return f" Held by {'; '.join(map(str, held[:NAMED]))}{more}."
