"""Metrics and spans for OpenTelemetry: `instrument`, called once in each process, behind the site's own set-up.

Names are those of the semantic conventions for pools of database clients, where these have any; all else begins with
``pooling.``. Attributes are names of pools, of views and of groups as they are declared, never values or statements.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.metrics import CallbackOptions, Histogram, MeterProvider, Observation, get_meter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider, get_tracer

from .. import moments
from .._forks import after_in_child
from ..cache.stats import cache_stats
from ..moments import Checkout, LockHeld, LockWaited, Moment, PageAwaited
from ..status import here
from ._labels import GroupLabels
from ._results import results

POOL = "db.client.connection.pool.name"
STATE = "db.client.connection.state"
ERROR = "error.type"
VIEW = "pooling.view"
GROUP = "pooling.group"
GROUPS = "pooling.groups"
RESULT = "pooling.result"
# The bounds that the conventions give for durations of database clients, in seconds.
BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)

Observations = Callable[[CallbackOptions], Iterable[Observation]]

_mutex = threading.Lock()
_on: list[Callable[[], None]] = []  # what switches it off again


def instrument(
    *,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
    metrics: bool = True,
    spans: bool = True,
) -> None:
    """Tell OpenTelemetry of pools, locks and cached pages, from now on and until `uninstrument`.

    ``meter_provider``, ``tracer_provider``  None: the ones that the site has set.
    ``metrics``  gauges and counters are read when they are exported; a checkout, a wait and the end of a hold are
                 recorded when they happen.
    ``spans``    only of what is slow anyway: waits for groups, for connections, and for another request's page; and
                 the making of a page after a miss, with what happens in it below it.

    RuntimeError if it is on already.
    """
    with _mutex:
        if _on:
            raise RuntimeError("pooling.contrib.opentelemetry is on already. Call uninstrument() before.")
        labels = GroupLabels()
        if metrics:
            _on.append(_measure(meter_provider, labels))
        if spans:
            _on.append(_trace(tracer_provider, labels))


def uninstrument() -> None:
    """Tell it nothing any more. Nothing happens if it is not on."""
    with _mutex:
        while _on:
            _on.pop()()


# -- metrics


def _measure(provider: MeterProvider | None, labels: GroupLabels) -> Callable[[], None]:
    meter = get_meter("pooling", meter_provider=provider)
    active = [True]  # OpenTelemetry keeps callbacks for ever

    def while_on(observe: Callable[[], Iterable[Observation]]) -> list[Observations]:
        return [lambda options: observe() if active else ()]

    def pools(read: Callable[[Any], Iterable[tuple[int, dict[str, str]]]]) -> list[Observations]:
        def observe() -> Iterator[Observation]:
            # Several have one name where an alias has changed.
            sums: dict[tuple[tuple[str, str], ...], int] = {}
            for pool in here.pools():
                for number, attributes in read(pool.snapshot()):
                    key = tuple({POOL: pool.name, **attributes}.items())
                    sums[key] = sums.get(key, 0) + number
            for key, number in sums.items():
                yield Observation(number, dict(key))

        return while_on(observe)

    gauge = meter.create_observable_up_down_counter
    gauge(
        "db.client.connection.count",
        pools(lambda one: [(one.idle, {STATE: "idle"}), (one.busy, {STATE: "used"})]),
        "{connection}",
        "The number of connections that are currently in state described by the state attribute.",
    )
    for name, read, unit, text in (
        ("max", lambda one: one.max_size, "{connection}", "The maximum number of open connections allowed."),
        ("idle.max", lambda one: one.max_size, "{connection}", "The maximum number of idle open connections allowed."),
        ("idle.min", lambda one: one.min_size, "{connection}", "The minimum number of idle open connections allowed."),
        ("pending_requests", lambda one: one.waiting, "{request}", "Current pending requests for an open connection."),
    ):
        gauge(f"db.client.connection.{name}", pools(_only(read)), unit, text)

    def cache() -> Iterator[Observation]:
        labels.refresh()
        for view in cache_stats().values():
            for result, number in results(view.as_dict()).items():
                yield Observation(number, {VIEW: view.view, RESULT: result})

    meter.create_observable_counter(
        "pooling.cache.requests", while_on(cache), "{request}", "Requests to cached views, by what became of them."
    )

    def histogram(name: str, text: str) -> Histogram:
        return meter.create_histogram(name, "s", text, explicit_bucket_boundaries_advisory=BOUNDS)

    timeouts = meter.create_counter(
        "db.client.connection.timeouts", "{timeout}", "Requests for a connection that timed out."
    )
    wait_time = histogram("db.client.connection.wait_time", "The time it took to obtain a connection from the pool.")
    lock_wait = histogram("pooling.lock.wait_time", "The time that was waited for a group, where it was waited for.")
    lock_hold = histogram("pooling.lock.hold_time", "The time for which a group was held.")

    def record(moment: Moment) -> None:
        match moment:
            case Checkout():
                attributes = {POOL: moment.pool}
                wait_time.record(moment.seconds, attributes)
                if moment.error in ("PoolTimeout", "PoolFull"):
                    timeouts.add(1, attributes)
            case LockWaited() | LockHeld():
                times = lock_wait if isinstance(moment, LockWaited) else lock_hold
                for label in _labels_of(moment, labels):
                    times.record(moment.seconds, {GROUP: label})

    moments.listen(record)

    def off() -> None:
        active.clear()
        moments.unlisten(record)

    return off


def _only(read: Callable[[Any], int]) -> Callable[[Any], Iterable[tuple[int, dict[str, str]]]]:
    return lambda snapshot: [(read(snapshot), {})]


# -- spans


def _trace(provider: TracerProvider | None, labels: GroupLabels) -> Callable[[], None]:
    tracer = get_tracer("pooling", tracer_provider=provider)

    def record(moment: Moment) -> None:
        match moment:
            case Checkout() if moment.waited:
                _past(tracer, "pooling.connection.wait", moment.seconds, {POOL: moment.pool}, moment.error)
            case LockWaited():
                about = {VIEW: moment.view, GROUPS: _labels_of(moment, labels)}
                error = "" if moment.granted else "LockTimeout"
                _past(tracer, "pooling.lock.wait", moment.seconds, about, error)
            case PageAwaited():
                _past(tracer, "pooling.page.wait", moment.seconds, {VIEW: moment.view}, "")

    @contextmanager
    def page(view: str) -> Iterator[None]:
        # What an exception says may have values in it: only its class is told.
        with tracer.start_as_current_span(
            "pooling.page.make", attributes={VIEW: view}, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except BaseException as error:
                _failed(span, type(error).__name__)
                raise

    moments.listen(record)
    moments.surround(page)

    def off() -> None:
        moments.unlisten(record)
        moments.unsurround(page)

    return off


def _past(tracer: Tracer, name: str, seconds: float, about: dict[str, Any], error: str) -> None:
    """A span of what is over just now, below whatever span is the current one."""
    end = time.time_ns()
    span = tracer.start_span(name, kind=SpanKind.INTERNAL, attributes=about, start_time=end - int(seconds * 1e9))
    if error:
        _failed(span, error)
    span.end(end)


def _failed(span: Span, error: str) -> None:
    span.set_attribute(ERROR, error)
    span.set_status(Status(StatusCode.ERROR))


def _labels_of(moment: LockWaited | LockHeld, labels: GroupLabels) -> list[str]:
    return list(dict.fromkeys(labels.of(group) for group in (*moment.writes, *moment.reads)))


def _after_fork_in_child() -> None:
    global _mutex
    _mutex = threading.Lock()  # another thread may have had it at the moment of the fork


after_in_child(_after_fork_in_child)
