"""What OpenTelemetry's own SDK gets to see."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections
from django.test import Client, RequestFactory
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.metrics import db_metrics
from opentelemetry.trace import StatusCode

from pooling import locked, locked_cache, moments
from pooling.cache import stats
from pooling.contrib import opentelemetry
from tests.app.models import Account, Note

from ..waiting import in_queue, until
from . import site
from .site import SECRET

pytestmark = pytest.mark.django_db(transaction=True)
NOTE = f"{site.__name__}.note"


class Seen:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.traces = TracerProvider()
        self.traces.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader])

    def metrics(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def point(self, name: str, **attributes: str) -> Any:
        found = [
            point
            for point in self.metrics()[name].data.data_points
            if all(item in dict(point.attributes).items() for item in attributes.items())
        ]
        assert len(found) == 1, (name, attributes, found)
        return found[0]

    def spans(self, name: str) -> list[Any]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]


@pytest.fixture
def seen() -> Iterator[Seen]:
    for one in stats._tallies.values():
        one.start_over()
    made = Seen()
    opentelemetry.instrument(meter_provider=made.meters, tracer_provider=made.traces)
    yield made
    opentelemetry.uninstrument()
    made.meters.shutdown()


def test_pools_under_the_names_of_the_conventions(seen: Seen) -> None:
    connection.close()
    Note.objects.exists()
    default = {"db.client.connection.pool.name": "default"}
    used = seen.point(db_metrics.DB_CLIENT_CONNECTION_COUNT, **default, **{"db.client.connection.state": "used"})
    assert used.value == 1
    for name in (
        db_metrics.DB_CLIENT_CONNECTION_MAX,
        db_metrics.DB_CLIENT_CONNECTION_IDLE_MAX,
        db_metrics.DB_CLIENT_CONNECTION_IDLE_MIN,
        db_metrics.DB_CLIENT_CONNECTION_PENDING_REQUESTS,
    ):
        assert seen.point(name, **default).value >= 0
    assert seen.point(db_metrics.DB_CLIENT_CONNECTION_WAIT_TIME, **default).count == 1
    units = {name: metric.unit for name, metric in seen.metrics().items()}
    assert units[db_metrics.DB_CLIENT_CONNECTION_COUNT] == "{connection}"
    assert units[db_metrics.DB_CLIENT_CONNECTION_WAIT_TIME] == "s"
    connection.close()


def test_a_connection_that_was_not_to_be_had(seen: Seen) -> None:
    with moments.Recording():
        moments.tell(moments.Checkout("default", 0.5, True, "PoolTimeout"))
    assert seen.point(db_metrics.DB_CLIENT_CONNECTION_TIMEOUTS).value == 1
    (span,) = seen.spans("pooling.connection.wait")
    assert span.attributes["error.type"] == "PoolTimeout"
    assert span.status.status_code is StatusCode.ERROR
    assert span.end_time - span.start_time == pytest.approx(5e8)


def test_a_connection_that_was_waited_for(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = connection.pool  # type: ignore[attr-defined]
    connection.close()
    lent = [pool.getconn() for _ in range(pool.get_stats()["pool_max"])]

    def ask() -> None:
        Note.objects.exists()
        connections.close_all()

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: pool.get_stats()["requests_waiting"] == 1)
    for one in lent:
        pool.putconn(one)
    thread.join(20)
    (span,) = seen.spans("pooling.connection.wait")
    assert dict(span.attributes) == {"db.client.connection.pool.name": "default"}


def test_a_group_that_was_waited_for_is_below_the_span_of_its_request(seen: Seen) -> None:
    account = Account.objects.create()
    tracer = seen.traces.get_tracer("site")

    def visit() -> None:
        with tracer.start_as_current_span("request"):
            Client().get(f"/pay/{account.pk}/")
        connections.close_all()

    with locked(writes=[f"accounts/{account.pk}"], atomic=False):
        thread = threading.Thread(target=visit)
        thread.start()
        in_queue(f"accounts/{account.pk}")
    thread.join(20)
    (span,), (around,) = seen.spans("pooling.lock.wait"), seen.spans("request")
    assert span.parent.span_id == around.context.span_id
    assert dict(span.attributes) == {
        "pooling.view": f"{site.__name__}.pay",
        "pooling.groups": ("accounts/{*}", "rates"),
    }
    assert around.start_time <= span.start_time <= span.end_time <= around.end_time
    assert seen.point("pooling.lock.wait_time", **{"pooling.group": "accounts/{*}"}).count == 1
    assert seen.point("pooling.lock.hold_time", **{"pooling.group": "rates"}).count == 1


def test_the_making_of_a_page_has_what_happens_in_it_below_it(seen: Seen) -> None:
    tracer = seen.traces.get_tracer("site")

    @locked_cache(300, reads=["notes"])
    def view(request: Any) -> Any:
        with tracer.start_as_current_span("query"):
            return site.html("made")

    request = RequestFactory().get("/")
    view(request)
    (page,), (query,) = seen.spans("pooling.page.make"), seen.spans("query")
    assert query.parent.span_id == page.context.span_id
    assert page.attributes["pooling.view"].endswith("view")
    seen.exporter.clear()
    view(request)
    assert not seen.exporter.get_finished_spans()  # the usual way costs nothing


def test_an_error_is_told_by_its_class_alone(seen: Seen) -> None:
    @locked_cache(300, reads=["notes"])
    def view(request: Any) -> Any:
        raise ValueError(SECRET)

    with pytest.raises(ValueError, match=SECRET):
        view(RequestFactory().get("/"))
    (page,) = seen.spans("pooling.page.make")
    assert (page.status.status_code, page.attributes["error.type"]) == (StatusCode.ERROR, "ValueError")
    assert not page.events


def test_cached_views(seen: Seen) -> None:
    note = Note.objects.create(text="a")
    for _ in range(3):
        Client().get(f"/note/{note.pk}/")
    about = {"pooling.view": NOTE, "pooling.result": "hit"}
    assert seen.point("pooling.cache.requests", **about).value == 2


def test_nothing_secret_is_told(seen: Seen, settings: Any) -> None:
    account = Account.objects.create(name=SECRET)
    client = Client()
    client.cookies["theme"] = SECRET
    client.get(f"/pay/{account.pk}/?token={SECRET}")
    with pytest.raises(DatabaseError), connection.cursor() as cursor:
        cursor.execute("SELECT * FROM nowhere.at_all WHERE a = %s", [SECRET])
    told = repr(list(seen.metrics().values())) + repr(
        [(span.attributes, span.events) for span in seen.exporter.get_finished_spans()]
    )
    assert "accounts/{*}" in told
    for secret in (SECRET, "SELECT", "/pay/", settings.DATABASES["default"]["PASSWORD"] or SECRET):
        assert secret not in told


def test_off_is_off() -> None:
    seen = Seen()
    opentelemetry.instrument(meter_provider=seen.meters, tracer_provider=seen.traces)
    with pytest.raises(RuntimeError, match="already"):
        opentelemetry.instrument()
    opentelemetry.uninstrument()
    opentelemetry.uninstrument()
    assert not moments.listeners
    assert not moments.surroundings
    Client().get(f"/note/{Note.objects.create().pk}/")
    assert not any(metric.data.data_points for metric in seen.metrics().values())
    assert not seen.exporter.get_finished_spans()
    seen.meters.shutdown()


@pytest.mark.parametrize(("metrics", "spans"), [(True, False), (False, True)])
def test_one_without_the_other(metrics: bool, spans: bool) -> None:
    seen = Seen()
    opentelemetry.instrument(meter_provider=seen.meters, tracer_provider=seen.traces, metrics=metrics, spans=spans)
    try:
        Client().get(f"/note/{Note.objects.create().pk}/")
        assert bool(seen.metrics()) is metrics
        assert bool(seen.spans("pooling.page.make")) is spans
    finally:
        opentelemetry.uninstrument()
        seen.meters.shutdown()


def test_no_library_is_loaded_unless_it_is_asked_for() -> None:
    code = (
        "import django, sys\n"
        "from django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['pooling'], DATABASES={'default': {'ENGINE': 'pooling.backends.mysql'}})\n"
        "django.setup()\n"
        "import pooling, pooling.middleware, pooling.server_timing, pooling.contrib\n"
        "from pooling.management.commands import pooling\n"
        "sys.exit(any(one in sys.modules for one in ('opentelemetry', 'prometheus_client', 'debug_toolbar')))\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
