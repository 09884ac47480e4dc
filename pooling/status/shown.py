"""What the status page shows of a fleet: rows in words, the first fifty of each table, and pictures."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils.safestring import SafeString

from ..cache.stats import CacheStats
from ..errors import GroupError
from ..groups import Mode, validate
from ..locks.report import UNNAMED, declared, place, who
from ..store.protocol import Party
from . import pictures, verdict
from .fleet import Fleet, in_the_way
from .words import number, percent, size, span

MOST = 50  # rows of a table

_DECLARED = (Mode.S, Mode.X, Mode.SIX)
_TITLES = {  # of the columns of a history
    "requests": "checkouts",
    "waiting": "waiting",
    "busy": "in use",
    "lock_waits": "waits",
    "hits": "hits",
    "misses": "misses",
    "errors": "warnings and errors",
}
_CHARTS = (  # title, columns, are they counts in each interval?
    ("Checkouts per second", ("requests",), True),
    ("Connections", ("busy", "waiting"), False),
    ("Waits for locks per second", ("lock_waits",), True),
    ("Cached views, per second", ("hits", "misses"), True),
    ("Warnings and errors per second", ("errors",), True),
)


def key(*parts: object) -> str:
    """An id for an element that is of this thing, whatever characters its name has."""
    return "p" + hashlib.blake2s("\0".join(map(str, parts)).encode("utf-8", "replace"), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Table:
    """The rows that are shown, of so many that there are."""

    rows: list[dict[str, Any]]
    total: int

    @classmethod
    def of(
        cls, found: Iterable[Any], words: str, row: Callable[[Any], dict[str, Any]], text: Callable[[Any], str]
    ) -> Table:
        """Only what has all of these words in its text."""
        wanted = words.casefold().split()
        kept = [one for one in found if _has(text(one).casefold(), wanted)] if wanted else list(found)
        return cls([row(one) for one in kept[:MOST]], len(kept))

    @property
    def more(self) -> int:
        return self.total - len(self.rows)


def _has(text: str, words: Iterable[str]) -> bool:
    return all(word in text for word in words)


def _group_in(words: str) -> tuple[str, ...]:
    """The group that is searched for, if the words can be the name of one."""
    try:
        return (validate(words),)
    except GroupError:
        return ()


def group_name(group: str) -> str:
    """What begins with '//' is no group of the user's but the page that one request computes for all who ask for it."""
    return "a page that is being made" if group.startswith("//") else group


def wanted(party: Party) -> list[tuple[str, str]]:
    """What somebody asked for, without what stands above it: (group, "reads" or "writes")."""
    return [
        (group_name(group), "writes" if mode in (Mode.X, Mode.SIX) else "reads")
        for group, mode in party.wants
        if mode in _DECLARED
    ]


def when(at: float) -> str:
    """A moment in words; UTC, as the page says once."""
    try:
        return f"{datetime.fromtimestamp(at, UTC):%d %b %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return "–"


def shown(fleet: Fleet, words: str = "", fences: Mapping[str, int] | None = None) -> dict[str, Any]:
    """The context of ``pooling/status_state.html``. ``words``: only what has them. ``fences``: newest tokens."""
    short = {one["process"]["id"]: f"{one['process']['host']} {one['process']['pid']}" for one in fleet.processes}
    stacks = {
        (str(one["process"]["host"]), str(one["process"]["pid"]), holder["thread"]): holder["stack"]
        for one in fleet.processes
        for pool in one["pools"]
        for holder in pool["holders"]
    }
    # Those first that somebody should look at.
    pools = sorted(fleet.pools, key=lambda pool: (pool["state"] == "up", -pool["waiting"], -pool["busy"]))
    return {
        "problems": verdict.problems(fleet),
        "doubts": verdict.doubts(fleet),
        "known": verdict.state(fleet) != verdict.UNKNOWN,
        "store_error": fleet.store_error,
        "totals": _totals(fleet),
        "charts": _charts(fleet.history),
        "pools": Table.of(
            pools,
            words,
            lambda one: _pool(one, short),
            lambda one: f"{one['name']} {one['server']} {one['process']} {one['state']}",
        ),
        "parties": Table.of(
            fleet.parties,
            words,
            lambda one: _party(one, stacks),
            # Whoever searches for a group is told who is in its way, also above and below it.
            lambda one: " ".join(
                (
                    *(who(one.owner), place(one.owner), *(group for group, _ in one.wants)),
                    words * in_the_way(one, _group_in(words)),
                )
            ),
        ),
        "groups": Table.of(
            _with_parties(fleet), words, lambda one: _group(one, fences or {}), lambda one: one["group"]
        ),
        "fenced": fences is not None,
        "views": Table.of(fleet.views, words, _view, lambda one: one.view),
        "errors": Table.of(
            fleet.errors,
            words,
            lambda one: _error(one, short),
            lambda one: f"{one['kind']} {one['text']} {one['view']} {one['process']}",
        ),
        "processes": Table.of(
            fleet.processes, words, _process, lambda one: f"{one['process']['id']} {one['process']['program']}"
        ),
        "words": words,
    }


def shown_groups(fleet: Fleet, words: str) -> list[str]:
    """The names of the groups that `shown` has rows of."""
    table = Table.of(_with_parties(fleet), words, lambda one: {"name": one["group"]}, lambda one: one["group"])
    return [row["name"] for row in table.rows]


def _totals(fleet: Fleet) -> list[dict[str, str]]:
    found, wait = fleet.totals, fleet.pool_wait
    return [
        {"name": "Processes", "value": number(found["processes"]), "more": ""},
        {"name": "Connections", "value": number(found["busy"]), "more": f"in use, of {number(found['size'])} open"},
        {"name": "Waiting", "value": number(found["waiting"]), "more": "for a connection"},
        {
            "name": "Wait for a connection",
            "value": span(wait["p99"]),
            "more": f"p99; p50 {span(wait['p50'])}, longest {span(wait['max'])}",
        },
        {
            "name": "From the cache",
            "value": percent(found["hit_ratio"]),
            "more": f"of {number(found['hits'] + found['misses'])}; {span(found['saved_seconds'])} saved",
        },
        {
            "name": "Failed checkouts",
            "value": number(found["requests_errors"]),
            "more": f"of {number(found['requests_num'])}",
        },
    ]


def _charts(history: Mapping[str, Any]) -> list[SafeString]:
    rows, every = history["rows"], history["every"]
    if len(rows) < 2 or not every:
        return []
    columns = {name: [row[at] for row in rows] for at, name in enumerate(history["columns"])}

    def line(name: str, counts: bool) -> tuple[str, Sequence[float]]:
        return _TITLES[name], [value / every if counts else value for value in columns[name]]

    return [
        pictures.chart(title, [line(name, counts) for name in names], (len(rows) - 1) * every)
        for title, names, counts in _CHARTS
    ]


def _pool(pool: Mapping[str, Any], short: Mapping[str, str]) -> dict[str, Any]:
    held = [
        {
            "id": key("holder", pool["process"], pool["name"], one["thread"]),
            "view": one["view"] or UNNAMED,
            "thread": one["thread"],
            "span": span(one["seconds"]),
            "stack": "\n".join(one["stack"]),
        }
        for one in pool["holders"]
    ]
    stats = pool["stats"]
    return {
        "id": key("pool", pool["process"], pool["server"], pool["name"]),
        "name": pool["name"],
        "server": pool["server"],
        "process": pool["process"],
        "where": short.get(pool["process"], pool["process"]),
        "state": pool["state"],
        "bar": pictures.bar(pool["busy"] / pool["max"] if pool["max"] else 0, f"{pool['busy']} of {pool['max']}"),
        "idle": pool["idle"],
        "open": f"{pool['size']} open, {pool['idle']} idle"
        + (f", {pool['connecting']} to come" * bool(pool["connecting"])),
        "waiting": pool["waiting"],
        "p50": span(pool["wait"]["p50"]),
        "p99": span(pool["wait"]["p99"]),
        "errors": number(stats["requests_errors"]),
        "lost": number(stats["connections_lost"] + stats["returns_bad"]),
        "refused": number(stats["connections_errors"]),
        "checkouts": number(stats["requests_num"]),
        "error": pool["error"],
        "oldest": held[0] if held else None,
        "others": held[1:],
        "unseen": max(0, pool["busy"] - len(held)),
    }


def _party(party: Party, stacks: Mapping[tuple[str, str, str], Sequence[str]]) -> dict[str, Any]:
    owner = party.owner
    at = (owner.get("host", ""), owner.get("pid", ""), owner.get("thread", ""))
    return {
        "id": key("party", party.ticket),
        "ticket": party.ticket,
        "holding": party.holding,
        "span": span(party.seconds),
        "who": who(owner),
        "place": place(owner),
        "groups": wanted(party),
        "stack": "\n".join(stacks.get(at, ())),
    }


def _with_parties(fleet: Fleet) -> list[dict[str, Any]]:
    """The groups, each with how many have and want it just now. Those that nobody has counted yet come last."""
    has: Counter[str] = Counter()
    wants: Counter[str] = Counter()
    for party in fleet.parties:
        for group in declared(party.wants):
            if not group.startswith("//"):
                (has if party.holding else wants)[group] += 1
    found = [{**one, "has": has[one["group"]], "wants": wants[one["group"]]} for one in fleet.groups]
    counted = {one["group"] for one in fleet.groups}
    fresh = sorted((has.keys() | wants.keys()) - counted, key=lambda group: (-wants[group], group))
    return found + [{"group": group, "has": has[group], "wants": wants[group], "asked": 0} for group in fresh]


def _group(group: Mapping[str, Any], fences: Mapping[str, int]) -> dict[str, Any]:
    name = group["group"]
    row = {
        "id": key("group", name),
        "name": name,
        "is_fold": "{" in name,
        "has": group["has"],
        "wants": group["wants"],
        "fence": fences.get(name),
        "claimed": when(fences[name] / 1e6) if name in fences else "",
        "asked": number(group["asked"]),
    }
    if not group["asked"]:
        return row
    return {
        **row,
        "rank": group["rank"],
        "share": pictures.bar(group["share"], percent(group["share"])),
        "waited": number(group["waited"]),
        "timeouts": number(group["timeouts"]),
        "writes": number(group["writes"]),
        "hold": _times(group["hold"]),
        "wait": _times(group["wait"]),
    }


def _times(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"picture": pictures.histogram(data), "p50": span(data["p50"]), "p99": span(data["p99"])}


def _view(view: CacheStats) -> dict[str, Any]:
    looked_up = view.hits + view.collapsed + view.misses
    reasons = sorted(view.not_stored.items(), key=lambda one: -one[1])
    return {
        "id": key("view", view.view),
        "name": view.view,
        "ratio": pictures.bar(view.hit_ratio, percent(view.hit_ratio)),
        "asked": number(looked_up),
        "saved": span(view.saved_seconds),
        "stored": number(view.stored),
        "bytes": size(view.stored_bytes),
        "reasons": [(reason, number(count)) for reason, count in reasons],
        "waits": number(view.waits),
        "waited": span(view.wait_seconds),
        "failed": number(view.failed),
        "not_modified": number(view.not_modified),
    }


def _error(error: Mapping[str, Any], short: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": key("error", error["process"], error["kind"], error["view"], error["at"]),
        "at": when(error["at"]),
        "kind": error["kind"],
        "level": error["level"],
        "text": error["text"],
        "view": error["view"],
        "where": short.get(error["process"], error["process"]),
        "count": error["count"],
    }


def _process(document: Mapping[str, Any]) -> dict[str, Any]:
    process, near = document["process"], document["cache"]["near"]
    return {
        "id": key("process", process["id"]),
        "name": f"{process['host']} {process['pid']}",
        "program": process["program"],
        "versions": f"Python {process['python']}, Django {process['django']}, pooling {process['pooling']}",
        "runs": span(max(0.0, document["at"] - process["started"])),
        "store": f"{document['store']['kind'] or 'none'}, {document['store']['state']}",
        "near": pictures.bar(near["bytes"] / near["limit"] if near["limit"] else 0, size(near["bytes"])),
        "pages": f"{number(near['entries'])} page{'s' * (near['entries'] != 1)}",
        "limit": size(near["limit"]),
    }
