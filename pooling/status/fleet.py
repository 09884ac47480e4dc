"""All processes of a site together: what they published, this one as it is just now, and who holds and waits."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from pooling import conf, runtime
from pooling.cache.stats import CacheStats, total
from pooling.errors import StoreUnavailable
from pooling.groups import Mode, conflicts
from pooling.histogram import Histogram
from pooling.locks.stats import merge
from pooling.store.protocol import Party

from . import form, here, verdict
from .publisher import PREFIX

ERRORS = 50
_COUNTED = ("size", "busy", "idle", "waiting")


@dataclass(frozen=True)
class Fleet:
    """Times in seconds. Lists of dicts are plain JSON, as each process has published it (`pooling.status.here`).

    ``shared``       does the store have what all processes say? False: only this one is seen.
    ``store_error``  why the store could not be asked; then this process alone is here, and no ``parties``.
    ``processes``    one document each, by host and pid.
    ``strangers``    documents that could not be read, such as those of another version.
    ``parties``      holders, and then waiters in the order of their queue.
    """

    shared: bool
    store_error: str
    processes: list[dict[str, Any]]
    strangers: int
    parties: list[Party]
    pools: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    pool_wait: dict[str, Any] = field(default_factory=dict)
    groups: list[dict[str, Any]] = field(default_factory=list)
    views: list[CacheStats] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    history: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "shared": self.shared,
            "store_error": self.store_error,
            "state": verdict.state(self),
            "problems": verdict.problems(self),
            "doubts": verdict.doubts(self),
            "totals": self.totals,
            "pools": self.pools,
            "pool_wait": self.pool_wait,
            "parties": [party_as_dict(party) for party in self.parties],
            "groups": self.groups,
            "views": [view.as_dict() for view in self.views],
            "errors": self.errors,
            "history": self.history,
            "processes": [
                {**one["process"], "at": one["at"], "store": one["store"], "near": one["cache"]["near"]}
                for one in self.processes
            ],
            "strangers": self.strangers,
        }


def party_as_dict(party: Party) -> dict[str, Any]:
    """A holder or waiter as plain JSON."""
    return {
        "ticket": party.ticket,
        "state": "holds" if party.holding else "waits",
        "seconds": round(party.seconds, 3),
        "groups": {group: Mode(mode).name for group, mode in party.wants},
        **{key: party.owner.get(key, "") for key in ("view", "label", "host", "pid", "thread", "trace")},
    }


def in_the_way(party: Party, groups: Sequence[str]) -> bool:
    """Would whoever wants to write these wait for this one? Also one that has, or wants, what is above or below."""
    return bool(conflicts(party.wants, conf.settings().plan((), tuple(groups)).wants))


def look() -> Fleet:
    """How it is just now. Never raises for a store that is down or wrongly configured: `Fleet.store_error` says so."""
    told: Mapping[str, bytes] = {}
    parties: list[Party] = []
    shared, error = False, ""
    try:
        store = runtime.store()
        shared = store.shared
        parties = store.parties()
        if shared:
            told = store.announced()
    except (StoreUnavailable, ImproperlyConfigured) as failure:
        parties, error = [], str(failure)
    # The page's charts need samples; where nobody publishes, those who look take them.
    own = here.document(sample=not shared and here.sample_due())
    names = [name for name in told if name.startswith(PREFIX) and name != PREFIX + here.process_id() and told[name]]
    found = [document for name in names if (document := read(told[name])) is not None]
    return together([own, *found], parties, shared=shared, store_error=error, strangers=len(names) - len(found))


def read(text: bytes) -> dict[str, Any] | None:
    """A document that some process has published; None if it is none of this version."""
    try:
        document: dict[str, Any] = json.loads(text)
        form.check(document)
    except (ValueError, RecursionError):
        return None
    return document if document["version"] == here.VERSION else None


def together(
    documents: Iterable[dict[str, Any]],
    parties: list[Party],
    *,
    shared: bool = True,
    store_error: str = "",
    strangers: int = 0,
) -> Fleet:
    """Add up what processes say: documents as `here` makes and `read` returns them."""
    processes = sorted(documents, key=lambda one: (one["process"]["host"], one["process"]["pid"]))
    pools = [{**pool, "process": one["process"]["id"]} for one in processes for pool in one["pools"]]
    views = _views(processes)
    return Fleet(
        shared=shared,
        store_error=store_error,
        processes=processes,
        strangers=strangers,
        parties=parties,
        pools=pools,
        totals=_totals(processes, pools, views),
        pool_wait=_wait(pools),
        groups=_groups(processes),
        views=views,
        errors=_errors(processes),
        history=_history(processes),
    )


def _wait(pools: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    every, zeros = Histogram(), 0
    for pool in pools:
        one = Histogram.from_json(pool["wait"])
        every.take(one)
        zeros += max(0, pool["wait"]["count"] - one.count)
    return every.as_json(zeros)


def _views(processes: Iterable[Mapping[str, Any]]) -> list[CacheStats]:
    by_name: dict[str, list[CacheStats]] = {}
    for process in processes:
        for view in process["cache"]["views"]:
            stats = CacheStats.from_dict(view)
            by_name.setdefault(stats.view, []).append(stats)
    found = [total(name, several) for name, several in by_name.items()]
    return sorted(found, key=lambda one: (-(one.hits + one.collapsed + one.misses), one.view))


def _totals(
    processes: list[dict[str, Any]], pools: list[dict[str, Any]], views: Iterable[CacheStats]
) -> dict[str, Any]:
    everything = total("", views)
    return {
        "processes": len(processes),
        **{name: sum(pool[name] for pool in pools) for name in _COUNTED},
        **{name: sum(pool["stats"][name] for pool in pools) for name in ("requests_num", "requests_errors")},
        "hits": everything.hits + everything.collapsed,
        "misses": everything.misses,
        "hit_ratio": everything.hit_ratio,
        # View by view: what one view costs says nothing of what a hit of another saves.
        "saved_seconds": sum(view.saved_seconds for view in views),
    }


def _groups(processes: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    merged = merge({"groups": one["groups"]} for one in processes)["groups"]
    waited = sum(group["wait"]["total"] for group in merged)
    return [
        {**group, "rank": rank, "share": group["wait"]["total"] / waited if waited else 0.0}
        for rank, group in enumerate(merged, 1)
    ]


def _errors(processes: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = [{**error, "process": one["process"]["id"]} for one in processes for error in one["errors"]]
    return sorted(found, key=lambda error: -error["at"])[:ERRORS]


def _history(processes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums, the newest samples one above the other: they differ by less than one interval."""
    sums: list[list[int]] = []
    every = 0.0
    for one in processes:
        history = one["history"]
        every = max(every, history["every"])
        for back, row in enumerate(reversed(history["rows"])):
            if back == len(sums):
                sums.append([0] * len(here.COLUMNS))
            sums[back] = [a + b for a, b in zip(sums[back], row, strict=True)]
    return {"every": every, "columns": list(here.COLUMNS), "rows": sums[::-1]}
