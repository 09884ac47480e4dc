"""The exposition as Prometheus reads it, and by the rules that its own linter has."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import Client, RequestFactory
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from pooling import group, locked
from pooling.cache import stats
from pooling.contrib._labels import GroupLabels
from pooling.contrib.prometheus import BOUNDS, Collector, metrics
from pooling.locks import stats as lock_stats
from pooling.status import here
from tests.app.models import Account, Note

from ..waiting import in_queue
from . import site
from .site import SECRET

pytestmark = pytest.mark.django_db(transaction=True)
UNITS = ("_seconds", "_bytes")


@pytest.fixture(autouse=True)
def from_nothing(fresh: None) -> None:
    for one in stats._tallies.values():
        one.start_over()
    lock_stats.process.start_over()


@pytest.fixture
def registry() -> CollectorRegistry:
    made = CollectorRegistry(auto_describe=True)
    made.register(Collector())
    return made


def scrape(registry: CollectorRegistry) -> dict[str, Any]:
    return {family.name: family for family in parse(generate_latest(registry).decode())}


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    found = registry.get_sample_value(name, labels)
    assert found is not None, (name, labels)
    return found


def test_pools(registry: CollectorRegistry) -> None:
    connection.close()
    Note.objects.exists()
    before = value(registry, "pooling_pool_requests_total", pool="default")
    assert value(registry, "pooling_pool_connections", pool="default", state="busy") == 1
    connection.close()
    Note.objects.exists()
    connection.close()
    assert value(registry, "pooling_pool_requests_total", pool="default") == before + 1
    assert value(registry, "pooling_pool_connections", pool="default", state="busy") == 0
    assert value(registry, "pooling_pool_connections", pool="default", state="idle") >= 1
    assert value(registry, "pooling_pool_up", pool="default") == 1
    assert value(registry, "pooling_pool_max_connections", pool="default") >= 1
    assert value(registry, "pooling_pool_wait_seconds_count", pool="default") == before + 1


def test_groups_count_by_what_was_declared(registry: CollectorRegistry) -> None:
    for pk in (1, 2):
        site.pay(RequestFactory().get("/"), pk=pk)
    with locked(writes=[group("accounts", SECRET)], atomic=False):
        pass
    assert value(registry, "pooling_lock_hold_seconds_count", group="accounts/{*}") == 3
    assert value(registry, "pooling_lock_writes_total", group="accounts/{*}") == 3
    assert value(registry, "pooling_lock_hold_seconds_count", group="rates") == 2
    assert value(registry, "pooling_lock_wait_seconds_sum", group="accounts/{*}") == 0
    assert value(registry, "pooling_lock_wait_seconds_bucket", group="accounts/{*}", le=str(BOUNDS[0])) == 3
    assert SECRET not in generate_latest(registry).decode()


def test_waits_are_in_their_buckets(registry: CollectorRegistry) -> None:
    for seconds in (0.0, 0.0001, 0.003, 0.003, 1000.0):
        lock_stats.process.held((), ("accounts/7",), seconds, 0.5)
    family = scrape(registry)["pooling_lock_wait_seconds"]
    found = {
        sample.labels["le"]: sample.value
        for sample in family.samples
        if sample.labels.get("group") == "accounts/{*}" and "le" in sample.labels
    }
    assert list(found) == [*map(str, BOUNDS), "+Inf"]
    assert [found[str(BOUNDS[at])] for at in (0, 1, 2, len(BOUNDS) - 1)] == [2, 2, 4, 4]
    assert found["+Inf"] == 5
    assert value(registry, "pooling_lock_wait_seconds_sum", group="accounts/{*}") == pytest.approx(1000.0061)


def test_a_real_wait(registry: CollectorRegistry) -> None:
    account = Account.objects.create()
    with locked(writes=[f"accounts/{account.pk}"], atomic=False):
        thread = threading.Thread(target=Client().get, args=(f"/pay/{account.pk}/",))
        thread.start()
        in_queue(f"accounts/{account.pk}")
    thread.join(20)
    assert value(registry, "pooling_lock_wait_seconds_sum", group="accounts/{*}") > 0


def test_cached_views(registry: CollectorRegistry) -> None:
    note = Note.objects.create(text=SECRET)
    for _ in range(3):
        Client().get(f"/note/{note.pk}/")
    Client().post(f"/note/{note.pk}/")
    view = "tests.contrib.site.note"
    found = {
        result: value(registry, "pooling_cache_requests_total", view=view, result=result)
        for result in ("hit", "stale", "collapsed", "miss", "bypass", "error")
    }
    assert found == {"hit": 2, "stale": 0, "collapsed": 0, "miss": 1, "bypass": 1, "error": 0}
    assert value(registry, "pooling_cache_compute_seconds_count", view=view) == 1
    assert value(registry, "pooling_cache_compute_seconds_sum", view=view) > 0
    assert value(registry, "pooling_cache_stored_bytes_total", view=view) > len(SECRET)
    assert value(registry, "pooling_cache_near_pages") == 1
    assert value(registry, "pooling_store_up", kind="memory") == 1


def test_names_follow_the_rules(registry: CollectorRegistry) -> None:
    Client().get(f"/note/{Note.objects.create().pk}/")
    found = scrape(registry)
    assert len(found) > 20
    for name, family in found.items():
        assert re.fullmatch(r"pooling_[a-z]+(_[a-z]+)*", name), name
        assert family.documentation.endswith("."), name
        assert family.type in ("gauge", "counter", "histogram", "summary"), name
        timed = any(word in name for word in ("seconds", "bytes", "milliseconds", "ms"))
        assert not timed or name.endswith(UNITS), name
        for sample in family.samples:
            assert (family.type == "counter") is sample.name.endswith("_total"), sample.name
            assert set(sample.labels) <= {"pool", "state", "group", "view", "result", "kind", "version", "le"}
    samples = [(sample.name, tuple(sorted(sample.labels.items()))) for f in found.values() for sample in f.samples]
    assert len(samples) == len(set(samples))


def test_it_is_described_without_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pooling.status.here.document", None)
    described = {family.name for family in Collector().describe()}
    monkeypatch.undo()
    assert described == {family.name for family in Collector().collect()}


def test_the_whole_fleet_has_a_label_for_each_process() -> None:
    registry = CollectorRegistry()
    registry.register(Collector(whole_fleet=True))
    Note.objects.exists()
    labels = {"process": here.process_id(), "pool": "default", "state": "busy"}
    assert value(registry, "pooling_pool_connections", **labels) >= 1


def test_each_metric_is_told_in_the_manual() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "howto" / "monitoring.md").read_text("utf-8")
    rows = re.findall(r"^\| (`pooling_.*?) \|", page, re.MULTILINE)
    told = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(told) == sorted(family.name for family in Collector().describe())


# -- labels


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("accounts/7", "accounts/{*}"),
        ("accounts/7/cards/9", "accounts/{*}"),
        ("accounts/{*}", "accounts/{*}"),
        ("accounts/7/{*}", "accounts/{*}"),
        ("accounts", "accounts"),
        ("rates", "rates"),
        ("catalog/books", "catalog/books"),
        ("catalog/books/7", "catalog/books/{*}"),
        ("catalog/films", "catalog/{*}"),
        ("elsewhere/7/8", "elsewhere/{*}"),
        ("{*}", "{*}"),
        ("//page", "{*}"),
    ],
)
def test_labels_of_groups(name: str, label: str) -> None:
    @locked(reads=["catalog/books", "catalog/books/{pk}"])
    def declares(request: Any, pk: int) -> HttpResponse:
        return HttpResponse()

    assert GroupLabels().of(name) == label
    assert declares


def test_a_template_that_begins_with_an_argument_makes_no_label_of_its_values() -> None:
    @locked(reads=["{tenant}/notes"])
    def declares(request: Any, tenant: str) -> HttpResponse:
        return HttpResponse()

    labels = GroupLabels()
    assert labels.of(f"{SECRET}/notes") == "{*}"
    assert labels.of("accounts/7") == "accounts/{*}"
    assert declares


def test_labels_are_bounded() -> None:
    labels = GroupLabels(limit=3)
    found = {labels.of(f"top{number}") for number in range(10)}
    assert len(found) == 4
    assert "{*}" in found
    assert labels.of("top0") == "top0"


# -- the view


@pytest.fixture
def one_metric() -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(Collector())
    return made


def ask(view: Any, **headers: str) -> HttpResponse:
    answer: HttpResponse = view(RequestFactory().get("/metrics", headers=headers))
    return answer


def test_metrics_for_those_with_the_token(one_metric: CollectorRegistry) -> None:
    view = metrics(token=SECRET, registry=one_metric)
    assert ask(view).status_code == 401
    assert ask(view, Authorization="Bearer other").status_code == 401
    answer = ask(view, Authorization=f"Bearer {SECRET}")
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    assert {family.name for family in parse(answer.content.decode())} >= {"pooling_pool_requests"}
    with pytest.raises(ValueError, match="empty"):
        metrics(token="")


def test_openmetrics_for_who_asks_for_it(one_metric: CollectorRegistry) -> None:
    site.pay(RequestFactory().get("/"), pk=1)
    view = metrics(token=None, registry=one_metric)
    answer = ask(view, Accept="application/openmetrics-text; version=1.0.0")
    assert answer["Content-Type"].startswith("application/openmetrics-text")
    assert {family.name for family in openmetrics(answer.content.decode())} >= {"pooling_lock_hold_seconds"}
