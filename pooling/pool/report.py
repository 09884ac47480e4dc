"""The pool in words: for ``repr`` and for the errors that people read at night."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._numbers import retry_after
from ..errors import PoolFull, PoolTimeout
from . import leaks

if TYPE_CHECKING:
    from .state import State


def sizes(pool: State[Any]) -> str:
    """Sizes as they are at this moment. Read without the lock: each figure is right, their sum may be one off."""
    size = len(pool._slots)
    idle = len(pool._idle)
    budget = "" if pool._budget is None else f": {pool._budget}"
    return (
        f"size {size} (min {pool._min_size}, max {pool._max_size}{budget}), idle {idle}, busy {max(0, size - idle)}, "
        f"connecting {len(pool._attempts)}, waiting {len(pool._waiters)}"
    )


def title(pool: State[Any]) -> str:
    return f"Pool {pool.name!r}" if pool.name else "The pool"


def last_error(pool: State[Any]) -> str:
    error = pool._outage.error
    return "" if error is None else f" The last connect failed: {type(error).__name__}: {error}."


def seconds_until_served(pool: State[Any], now: float) -> float:
    """A guess for who queues up now: until the first connection comes back, and a mean use for each turn before his.

    The mean is that of the connections that are open, without their present uses. One that is out for longer than the
    mean, or before there is any, will be out for as long as it has been already: nothing better is known. Without the
    lock: a moment's picture.
    """
    slots = list(pool._slots.values())
    ages = [max(0.0, now - slot.since) for slot in list(pool._busy.values())]
    if not slots or not ages:
        return 0.0
    ended = sum(slot.uses for slot in slots) - len(ages)
    mean = sum(slot.used for slot in slots) / ended if ended > 0 else 0.0
    first = min(mean - age if mean > age else age for age in ages)
    return first + mean * max(0, len(pool._waiters) - 1) / len(slots)


def timed_out(pool: State[Any], waited: float, doubt: Exception | None = None) -> PoolTimeout:
    now = pool._clock()
    if pool._suspended:
        advice = "The pool is suspended: call its resume()."
    elif doubt is not None:
        advice = f"The callback 'check' refuses each new connection, lastly with {doubt!r}: look at it and the server."
    elif pool._budget is not None and pool._max_size == 0:
        advice = pool._budget.advice
    elif pool._busy and pool._budget is not None:
        advice = "Raise the server's limits or 'timeout', run fewer processes, or hold connections for a shorter time."
    elif pool._busy:
        advice = "Raise 'max_size' or 'timeout', or hold connections for a shorter time."
    else:
        advice = "Connecting takes too long: look at the server and the network, or raise 'timeout'."
    return PoolTimeout(
        f"{title(pool)} had no connection within {waited:.2f} s: {sizes(pool)}."
        f"{leaks.named(pool, now)}{last_error(pool)} {advice}",
        retry_after=1 if pool._suspended or doubt is not None else retry_after(seconds_until_served(pool, now)),
    )


def down(pool: State[Any]) -> PoolTimeout:
    return PoolTimeout(
        f"{title(pool)} cannot reach its server.{last_error(pool)} It keeps probing, so the first checkout after the "
        f"server is back succeeds; {sizes(pool)}. Look at the server's address and whether it runs."
    )


def at_capacity(pool: State[Any]) -> PoolTimeout:
    return PoolTimeout(
        f"{title(pool)}: the server is at its capacity and none of its connections belongs to this pool."
        f"{last_error(pool)} Raise the server's limit of connections or lower 'max_size' in its clients; {sizes(pool)}."
    )


def full(pool: State[Any]) -> PoolFull:
    now = pool._clock()
    return PoolFull(
        f"{title(pool)}: {len(pool._waiters) - 1} requests wait for a connection already, and 'max_waiting' allows "
        f"no more: {sizes(pool)}.{leaks.named(pool, now)} "
        f"Raise 'max_size' or 'max_waiting', or hold connections for a shorter time.",
        retry_after=retry_after(seconds_until_served(pool, now)),
    )
