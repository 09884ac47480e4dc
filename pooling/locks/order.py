"""What may be asked for while something is held already. Pure.

New groups may only be later in the canonical order than everything that is held. Then whoever waits for a holder
waits for one whose own next groups are later still, so no circle of waits can close.

Two rules keep that true for a hierarchy. No mode of a group that was asked for itself may grow (S to X, IX to SIX…).
And nothing new may be written below a group that is held for reading as a whole (S, SIX): with SIX it needs no new
mode there, but the holder of SIX could then wait for a reader further down who waits, for his intention to write (IS
to IX, which is allowed as the consequence of a later group), for that same SIX.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import LockOrderError
from ..groups import Mode, Plan, ancestors, includes, join, order_key, plan
from .held import Held


def modes_of(holds: Sequence[Held]) -> dict[str, Mode]:
    """One joined mode for each group that these holds have in the lock table."""
    modes: dict[str, Mode] = {}
    for hold in holds:
        for group, mode in hold._taken:
            modes[group] = join(modes[group], mode) if group in modes else mode
    return modes


def is_covered(group: str, mode: Mode, held: Mapping[str, Mode]) -> bool:
    """Is ``group`` held in ``mode`` (S or X), itself or through an ancestor?"""
    return any(path in held and includes(held[path], mode) for path in (group, *ancestors(group)))


def remaining(asked: Plan, held: Mapping[str, Mode], ranks: Mapping[str, int]) -> Plan:
    """What of a plan is not held yet."""
    return plan(
        [group for group in asked.reads if not is_covered(group, Mode.S, held)],
        [group for group in asked.writes if not is_covered(group, Mode.X, held)],
        ranks,
    )


def check_order(new: Plan, held: Mapping[str, Mode], ranks: Mapping[str, int], view: str) -> None:
    """Raise LockOrderError unless everything in ``new`` may be asked for now."""
    latest = max(held, key=lambda group: order_key(group, ranks))
    for groups, verb in ((new.reads, "read"), (new.writes, "write")):
        for group in groups:
            if group in held:
                raise LockOrderError(_upgrade(group, verb, group, held[group], view))
            if order_key(group, ranks) < order_key(latest, ranks):
                raise LockOrderError(_backwards(group, verb, latest, held[latest], view))
            if verb == "write":
                for above in ancestors(group):
                    if held.get(above) in (Mode.S, Mode.SIX):
                        raise LockOrderError(_upgrade(group, verb, above, held[above], view))


def _who(view: str) -> str:
    return repr(view) if view else "The code"


_HOLDS = {
    Mode.IS: "reads something below it",
    Mode.IX: "writes something below it",
    Mode.S: "holds it for reading",
    Mode.SIX: "holds it for reading and writes below it",
    Mode.X: "holds it for writing",
}


def _upgrade(group: str, verb: str, held: str, mode: Mode, view: str) -> str:
    way = "writes" if verb == "write" else "reads"
    return (
        f"{_who(view)} asks to {verb} {group!r} while it has {held!r} and {_HOLDS[mode]}. A lock that is held "
        f"cannot grow: two who try that wait for each other. Declare {way}=[{group!r}] on the outer lock."
    )


def _backwards(group: str, verb: str, held: str, mode: Mode, view: str) -> str:
    way = "writes" if verb == "write" else "reads"
    top, held_top = group.split("/")[0], held.split("/")[0]
    other = f", or put {held_top!r} before {top!r} in POOLING['GROUP_ORDER']" if top != held_top else ""
    return (
        f"{_who(view)} asks to {verb} {group!r} while it has {held!r} and {_HOLDS[mode]}; {group!r} comes before it "
        f"in the canonical order. Two who take them in opposite orders wait for each other. Declare "
        f"{way}=[{group!r}] on the outer lock, so that both are taken at once{other}."
    )
