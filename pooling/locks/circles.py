"""The words for what was learned about the order of locks: who, while holding what, where, and what to change."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from traceback import FrameSummary, format_list

from .dependencies import Dependency, Stack

KEPT = "a connection of {!r}, kept while it waits: its session is not clean, or a cursor is open"
OWN = "a transaction on {!r}, which a `locked` further out has opened"


def circle(seen: Sequence[Dependency]) -> str:
    """The report of a circle of dependencies, the new one first."""
    parts = ["These wait for each other if they run at the same moment, each with what the next one waits for:"]
    for number, one in enumerate(seen, 1):
        has = one.how or str(one.held)
        parts.append(f"{number}. {one.who} asks for {one.asked} while it has {has}.")
        if one.held_at and one.held_at != one.asked_at:
            parts.append(f"   It has that since it was here (innermost first):\n{_lines(one.held_at)}")
        parts.append(f"   It asks for {one.asked} here:\n{_lines(one.asked_at)}")
    parts.append(" ".join(dict.fromkeys(advice for one in seen if (advice := _advice(one)))))
    return "\n".join(parts)


def by_values(asked: Dependency, held_group: str, asked_group: str) -> str:
    """The report of a nesting that the canonical order allows for some values only."""
    return (
        f"{asked.who} asks for {asked.asked} while it has {asked.held}. This time these were {asked_group!r} and "
        f"{held_group!r}, in the right order; with other values it is a LockOrderError. Declare both on the outer "
        f"lock, so that they are taken at once.\nIt asks here (innermost first):\n{_lines(asked.asked_at)}"
    )


def _advice(one: Dependency) -> str:
    if not one.held.database:
        return ""
    if one.asked.database:
        return "Open transactions on several databases always in the order of DATABASES: locked(using=[…]) does."
    if one.how == OWN.format(one.held.name):
        return (
            f"{one.who}: declare {one.asked} on the outer lock as well, so that it is there before the transaction "
            f"begins and takes its connection."
        )
    if one.how:
        return f"{one.who}: close the cursor and undo what changed the session before the lock, or take it first."
    return f"{one.who}: take {one.asked} first and open the transaction inside."


def _lines(stack: Stack) -> str:
    if not stack:
        return "     (no code of the project's own)"
    shown = "".join(format_list([FrameSummary(file, line, function) for file, line, function in stack]))
    return textwrap.indent(shown.rstrip(), "   ")
