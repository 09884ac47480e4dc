"""How a site is: the same for page, command and programs, so that none says "well" where another cannot tell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from django.conf import settings

from pooling import conf
from pooling.locks.report import declared, who

from .words import span

if TYPE_CHECKING:
    from .fleet import Fleet

WELL, PROBLEMS, UNKNOWN = "well", "problems", "unknown"
MEMORY: Final = (
    "POOLING['CACHE_ALIAS'] names the store in memory, so only this process is seen, with its own locks and pages. "
    "With a django-redis alias all processes of the site are."
)


def state(fleet: Fleet) -> str:
    """`UNKNOWN` where not all of the site is seen, whatever is known of the rest; else `PROBLEMS` or `WELL`.

    With DEBUG the store in memory is no reason: there one process is the whole site, and `doubts` is a hint.
    """
    alone = not fleet.store_error and not fleet.shared
    if doubts(fleet) and not (alone and settings.DEBUG):
        return UNKNOWN
    return PROBLEMS if problems(fleet) else WELL


def doubts(fleet: Fleet) -> list[str]:
    """Why not all processes of the site are seen, a sentence each; [] if they are."""
    if fleet.store_error:
        return ["Without the store nothing is known of other processes."]
    if not fleet.shared:
        return [MEMORY]
    if not conf.settings().PUBLISH_SECONDS:
        return ["POOLING['PUBLISH_SECONDS'] is 0, so no process says how it is: others than this one are not seen."]
    if not fleet.processes:
        return ["No process says how it is: none has had a request yet, or POOLING['PUBLISH_SECONDS'] is 0 there."]
    return []


def problems(fleet: Fleet) -> list[str]:
    """What somebody should see to, a sentence each; [] if nothing."""
    found = []
    if fleet.store_error:
        found.append(f"The store cannot be asked: {fleet.store_error}")
    for one in fleet.processes:
        if one["store"]["state"] != "up" and not fleet.store_error:
            found.append(f"Process {one['process']['id']} cannot reach the store: {one['store']['error']}")
    for pool in fleet.pools:
        where = f"Pool {pool['name']!r} of process {pool['process']}"
        if pool["state"] == "down":
            found.append(f"{where} cannot reach its server {pool['server']}: {pool['error']}")
        elif pool["state"] == "suspended":
            found.append(f"{where} is suspended, and {pool['waiting']} wait for it.")
        elif pool["waiting"] and pool["busy"] >= pool["max"]:
            oldest = pool["holders"][0] if pool["holders"] else None
            held = f"; the longest is held for {span(oldest['seconds'])}" if oldest else ""
            view = f" by {oldest['view']}" if oldest and oldest["view"] else ""
            found.append(f"{where}: all {pool['busy']} connections are in use, {pool['waiting']} wait{held}{view}.")
    for party in fleet.parties:
        limit = conf.settings().LOCK_LEASE if party.holding else conf.settings().LOCK_WAIT
        if party.seconds > limit and math.isfinite(party.seconds):
            verb = "has held" if party.holding else "has waited for"
            process = f"in process {party.owner.get('pid') or '?'}"
            groups = ", ".join(declared(party.wants))
            found.append(f"{who(party.owner)} {process} {verb} {groups} for {span(party.seconds)}.")
    if fleet.strangers:
        says = "1 process says" if fleet.strangers == 1 else f"{fleet.strangers} processes say"
        found.append(f"{says} what this one cannot read. Is it another version of pooling?")
    return found
