"""Checks of numbers that users give: options, settings and arguments. Pure."""

from __future__ import annotations

import math
from typing import Final

# Some thirty years. The client library takes no more than a C int, threads hardly more, and Redis is told microseconds.
MOST_SECONDS: Final = 1_000_000_000


_MAX_RETRY_AFTER = 60  # seconds


def retry_after(guess: float) -> int:
    """Whole seconds to tell a client to stay away for, from a guess of when there is something for it."""
    return min(_MAX_RETRY_AFTER, max(1, math.ceil(guess)))


def seconds(
    name: str,
    value: object,
    *,
    zero: bool = False,
    error: type[Exception] = ValueError,
    wrong_type: type[Exception] | None = None,
) -> float:
    """``value`` as a number of seconds above zero (with ``zero``: or zero), `MOST_SECONDS` at most.

    Else ``error`` naming ``name``; ``wrong_type``, where given, for what is no number at all.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise (wrong_type or error)(f"{name} must be a number of seconds, not {value!r}.")
    if value > MOST_SECONDS and value != math.inf:
        raise error(f"{name} must be at most {MOST_SECONDS} seconds, not {value!r}.")
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        least = "at least" if zero else "more than"
        raise error(f"{name} must be a finite number of seconds, {least} 0, not {value!r}.")
    return float(value)
