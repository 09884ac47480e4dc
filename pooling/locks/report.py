"""Who holds and who waits, in words; and the words of LockTimeout: which groups, how long, who, what to change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from .._numbers import retry_after
from ..errors import LockTimeout, StoreUnavailable
from ..groups import Mode, conflicts
from ..store.protocol import LockRequest, Party, Store, Wants

_MAX_NAMED = 3
UNNAMED = "unnamed code"  # what holds a group or a connection, and is no view


def timeout_error(
    store: Store,
    request: LockRequest,
    view: str,
    waited: float,
    mean_hold: Callable[[Iterable[str]], float | None] = lambda groups: None,
) -> LockTimeout:
    """The error for a request that was not granted within its time and that was withdrawn already.

    ``mean_hold``: for how many seconds these groups are held on average, None where that is not known.
    """
    asker = repr(view) if view else "A request"
    waiting = "did not wait" if request.nowait else f"waited {waited:.3g} s"
    try:
        parties = store.parties([group for group, _ in request.wants])
    except StoreUnavailable as error:
        return LockTimeout(
            f"{asker} {waiting} for {_asked(request)}; who holds it is unknown: {error} "
            f"Raise wait= or POOLING['LOCK_WAIT'], or see to the store."
        )
    blocking = [
        (party, groups)
        for party in parties
        if party.ticket != request.ticket
        and party.ticket not in request.family
        and (groups := conflicts(party.wants, request.wants))
        and (party.holding or (not request.family and party.seconds >= waited))  # who came later was behind it
    ]
    if not blocking:
        return LockTimeout(
            f"{asker} {waiting} for {_asked(request)}, which became free just now. Try again, or raise wait= or "
            f"POOLING['LOCK_WAIT']."
        )
    groups = sorted({group for _, names in blocking for group in names})
    named = "; ".join(describe(party, names) for party, names in blocking[:_MAX_NAMED])
    more = f"; and {len(blocking) - _MAX_NAMED} more" if len(blocking) > _MAX_NAMED else ""
    return LockTimeout(
        f"{asker} {waiting} for {_named(groups)}: {named}{more}. Hold it there for a shorter time, "
        f"name finer groups, or raise wait= or POOLING['LOCK_WAIT'].",
        retry_after=retry_after(_seconds_until_free(blocking, mean_hold)),
    )


def _seconds_until_free(
    blocking: Sequence[tuple[Party, list[str]]], mean_hold: Callable[[Iterable[str]], float | None]
) -> float:
    """A guess: what is left of the present holds, and a mean hold for each turn in the queue after them.

    A hold that lasts longer than the mean, or of which there is none, will last for as long as it has lasted already:
    nothing better is known. Waiters who do not conflict, readers above all, have one turn together.
    """
    seconds = age = 0.0
    for party, groups in blocking:
        if party.holding:
            left = (mean_hold(groups) or 0.0) - party.seconds
            seconds = max(seconds, left if left > 0 else party.seconds)
            age = max(age, party.seconds)
    turn: list[Party] = []
    longest = 0.0
    for party, groups in blocking:
        if not party.holding:
            if any(conflicts(other.wants, party.wants) for other in turn):
                seconds, longest, turn = seconds + longest, 0.0, []
            turn.append(party)
            mean = mean_hold(groups)
            longest = max(longest, age if mean is None else mean)
    return seconds + longest


def declared(wants: Wants) -> list[str]:
    """The groups among these that were asked for themselves, not for something below them."""
    return [group for group, mode in wants if mode in (Mode.S, Mode.X, Mode.SIX)]


def _asked(request: LockRequest) -> str:
    return _named(declared(request.wants))


def _named(groups: Iterable[str]) -> str:
    """Groups in words. What begins with '//' is no group of the user's but the page that one request computes for all
    who ask for it."""
    return ", ".join("the page itself" if group.startswith("//") else repr(group) for group in groups)


def describe(party: Party, groups: Iterable[str]) -> str:
    """Who it is, and for how long it has had these groups, or has waited for them."""
    names = _named(groups)
    has = f"has had {names} for" if party.holding else f"is before it in the queue for {names}, for"
    return f"{who(party.owner)} ({place(party.owner)}) {has} {party.seconds:.3g} s"


def who(owner: Mapping[str, str]) -> str:
    """The view of a holder or waiter, and what it calls itself besides."""
    label = f" ({owner['label']})" if owner.get("label") else ""
    return f"{owner.get('view') or UNNAMED}{label}"


def place(owner: Mapping[str, str]) -> str:
    """The process and thread of a holder or waiter, and its request's trace where it has one."""
    trace = f", trace {owner['trace']}" if owner.get("trace") else ""
    return f"{owner.get('host') or '?'} pid {owner.get('pid') or '?'}, {owner.get('thread') or '?'}{trace}"
