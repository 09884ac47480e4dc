"""Metrics for Prometheus: ``REGISTRY.register(Collector())``, once in each process, such as in an app's `ready`.

    from prometheus_client import REGISTRY
    from pooling.contrib.prometheus import Collector

Counters are read when they are scraped, so nothing is paid for between scrapes. Labels are names of pools, of views and
of groups as they are declared, see `pooling.contrib._labels`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from prometheus_client import REGISTRY, exposition
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector as _Collector
from prometheus_client.registry import CollectorRegistry

from ..locks import stats as locks
from ..status import fleet, here
from ._labels import GroupLabels
from ._results import results

# Powers of two microseconds, where the buckets of our own histograms end.
_ENDS = range(8, 28, 2)
BOUNDS = tuple((2**end) / 1e6 for end in _ENDS)  # seconds

_POOL_COUNTERS = {
    "requests_num": ("requests", "Connections asked for.", 1),
    "requests_errors": ("request_errors", "Connections asked for in vain.", 1),
    "usage_ms": ("usage_seconds", "Time that connections were lent.", 1000),
    "returns_bad": ("returns_bad", "Connections that came back unusable.", 1),
    "connections_num": ("connects", "Attempts to connect.", 1),
    "connections_ms": ("connect_seconds", "Time spent in attempts to connect that succeeded.", 1000),
    "connections_errors": ("connect_errors", "Attempts to connect that failed.", 1),
    "connections_lost": ("connections_lost", "Connections found dead, or never given back.", 1),
}


class Collector(_Collector):
    """What this process knows of its pools, locks and cached pages.

    ``whole_fleet``  all processes that publish to the store, each under a label ``process``, as the status page has
                     them: for a site of which a scrape reaches any one worker. Of groups each process publishes the
                     100 that were waited for longest. False: this process only, everything that it has counted.
    """

    def __init__(self, *, whole_fleet: bool = False) -> None:
        self._whole_fleet = whole_fleet
        self._labels = GroupLabels()

    def collect(self) -> Iterable[Metric]:
        if self._whole_fleet:
            return _Families(("process",), self._labels).fill(fleet.look().processes)
        # All groups: of those that were waited for longest others come first from time to time.
        return _Families((), self._labels).fill([{**here.document(), "groups": locks.snapshot()["groups"]}])

    def describe(self) -> Iterable[Metric]:
        """The names, for the registry, which asks as soon as this is registered: perhaps before there are settings."""
        return _Families(("process",) if self._whole_fleet else (), self._labels).all()


class _Families:
    """The metrics of one scrape. ``common`` are the names of the labels that all of them have."""

    def __init__(self, common: tuple[str, ...], labels: GroupLabels) -> None:
        self._common = common
        self._labels = labels
        self._found: list[Metric] = []
        gauge, counter, histogram, summary = (
            self._maker(kind)
            for kind in (GaugeMetricFamily, CounterMetricFamily, HistogramMetricFamily, SummaryMetricFamily)
        )
        self.connections = gauge("pool_connections", "Connections by state.", "pool", "state")
        self.least = gauge("pool_min_connections", "Connections that the pool keeps.", "pool")
        self.most = gauge("pool_max_connections", "Connections that the pool may have.", "pool")
        self.waiting = gauge("pool_waiting_requests", "Requests that wait for a connection.", "pool")
        self.up = gauge("pool_up", "0 while the pool cannot reach its server.", "pool")
        self.counted = {
            key: (counter(f"pool_{name}", text, "pool"), unit) for key, (name, text, unit) in _POOL_COUNTERS.items()
        }
        self.pool_wait = histogram("pool_wait_seconds", "Time until a connection was had, or not.", "pool")
        self.lock_wait = histogram("lock_wait_seconds", "Time until a group was had, or not.", "group")
        self.lock_hold = histogram("lock_hold_seconds", "Time for which a group was held.", "group")
        self.timeouts = counter("lock_timeouts", "Requests for a group that gave up.", "group")
        self.writes = counter("lock_writes", "Holds that wrote a group.", "group")
        self.requests = counter("cache_requests", "Requests to cached views, by what became of them.", "view", "result")
        self.not_stored = counter("cache_not_stored", "Pages that were made and not stored.", "view")
        self.stored = counter("cache_stored_bytes", "Bytes of pages that were stored.", "view")
        self.compute = summary("cache_compute_seconds", "Time to make pages after a miss.", "view")
        self.page_wait = summary("cache_wait_seconds", "Waits for another request that made the same page.", "view")
        self.near_bytes = gauge("cache_near_bytes", "Bytes of pages in the process's memory.")
        self.near_limit = gauge("cache_near_limit_bytes", "Bytes of pages that may be there.")
        self.near_pages = gauge("cache_near_pages", "Pages in the process's memory.")
        self.store = gauge("store_up", "0 while the store cannot be reached.", "kind")
        self.info = gauge("info", "Always 1; the version is a label.", "version")

    def _maker(self, kind: Any) -> Callable[..., Any]:
        def make(name: str, text: str, *labels: str) -> Any:
            family = kind(f"pooling_{name}", text, labels=(*self._common, *labels))
            self._found.append(family)
            return family

        return make

    def all(self) -> list[Metric]:
        return self._found

    def fill(self, documents: Iterable[Mapping[str, Any]]) -> list[Metric]:
        self._labels.refresh()
        for document in documents:
            mine = [str(document["process"]["id"])] if self._common else []
            self._pools(mine, document["pools"])
            self._groups(mine, document["groups"])
            self._pages(mine, document["cache"])
            store = document["store"]
            self.store.add_metric([*mine, store["kind"] or "none"], int(store["state"] == "up"))
            self.info.add_metric([*mine, document["process"]["pooling"]], 1)
        return self._found

    def _pools(self, mine: list[str], pools: Iterable[Mapping[str, Any]]) -> None:
        # Several have one name where an alias has changed: a metric must not come twice.
        for name, several in _by(pools, lambda pool: str(pool["name"])).items():
            labels = [*mine, name]
            for state in ("idle", "busy", "connecting"):
                self.connections.add_metric([*labels, state], sum(pool[state] for pool in several))
            for family, key in ((self.least, "min"), (self.most, "max"), (self.waiting, "waiting")):
                family.add_metric(labels, sum(pool[key] for pool in several))
            self.up.add_metric(labels, int(all(pool["state"] != "down" for pool in several)))
            for key, (family, unit) in self.counted.items():
                family.add_metric(labels, sum(pool["stats"][key] for pool in several) / unit)
            _add(self.pool_wait, labels, [pool["wait"] for pool in several])

    def _groups(self, mine: list[str], groups: Iterable[Mapping[str, Any]]) -> None:
        for label, several in _by(groups, lambda group: self._labels.of(str(group["group"]))).items():
            labels = [*mine, label]
            _add(self.lock_wait, labels, [group["wait"] for group in several])
            _add(self.lock_hold, labels, [group["hold"] for group in several])
            self.timeouts.add_metric(labels, sum(group["timeouts"] for group in several))
            self.writes.add_metric(labels, sum(group["writes"] for group in several))

    def _pages(self, mine: list[str], cache: Mapping[str, Any]) -> None:
        for view in cache["views"]:
            labels = [*mine, view["view"]]
            for result, number in results(view).items():
                self.requests.add_metric([*labels, result], number)
            self.not_stored.add_metric(labels, sum(view["not_stored"].values()))
            self.stored.add_metric(labels, view["stored_bytes"])
            self.compute.add_metric(labels, view["computed"], view["compute_seconds"])
            self.page_wait.add_metric(labels, view["waits"], view["wait_seconds"])
        near = cache["near"]
        self.near_bytes.add_metric(mine, near["bytes"])
        self.near_limit.add_metric(mine, near["limit"])
        self.near_pages.add_metric(mine, near["entries"])


def _by(items: Iterable[Mapping[str, Any]], key: Callable[[Any], str]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for item in items:
        found.setdefault(key(item), []).append(item)
    return found


def _add(family: HistogramMetricFamily, labels: list[str], several: list[Mapping[str, Any]]) -> None:
    """The sum of histograms of ours as one of Prometheus's. Who did not wait is in ``count`` but in no bucket of ours,
    and in the first one of Prometheus's."""
    buckets: dict[int, int] = {}
    for one in several:
        for bucket, number in one["buckets"].items():
            buckets[int(bucket)] = buckets.get(int(bucket), 0) + number
    count = sum(one["count"] for one in several)
    zeros = count - sum(buckets.values())
    ends = [zeros + sum(number for bucket, number in buckets.items() if bucket < 2 * end) for end in _ENDS]
    told = [(repr(bound), number) for bound, number in zip(BOUNDS, ends, strict=True)]
    family.add_metric(labels, [*told, ("+Inf", count)], sum(one["total"] for one in several))


def metrics(*, token: str | None, registry: CollectorRegistry = REGISTRY) -> Callable[[HttpRequest], HttpResponse]:
    """A view for ``/metrics``, for a site that has none: ``path("metrics", metrics(token=environ["METRICS_TOKEN"]))``.

    It answers those who send ``Authorization: Bearer`` with this token, 401 to others. None: everybody, where only
    Prometheus can reach it. ValueError for an empty token.
    """
    if token == "":
        raise ValueError("token is empty. Give the token that Prometheus sends, or None to answer everybody.")

    def view(request: HttpRequest) -> HttpResponse:
        sent = request.headers.get("Authorization", "")
        if token is not None and not constant_time_compare(sent, f"Bearer {token}"):
            return HttpResponse(status=401, headers={"WWW-Authenticate": "Bearer"})
        encoder, kind = exposition.choose_encoder(request.headers.get("Accept", ""))
        return HttpResponse(encoder(registry), content_type=kind, headers={"Cache-Control": "no-store"})

    return view
