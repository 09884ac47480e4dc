"""The trace of who holds: where it comes from, and where it is shown."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from opentelemetry import trace as telemetry

from pooling import locked, locked_cache, runtime
from pooling.errors import LockTimeout
from pooling.trace import LONGEST, trace_of

from .test_command import run

pytestmark = pytest.mark.django_db(transaction=True)

ID = "4bf92f3577b34da6a3ce929d0e0e4736"


def request(**headers: str) -> HttpRequest:
    return RequestFactory().get("/", headers=headers)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, ""),
        ({"traceparent": f"00-{ID}-00f067aa0ba902b7-01"}, ID),
        ({"traceparent": f"01-{ID}-00f067aa0ba902b7-01-later"}, ID),
        ({"traceparent": f"00-{ID}-00f067aa0ba902b7-01", "x-request-id": "r1"}, ID),
        ({"traceparent": f"ff-{ID}-00f067aa0ba902b7-01", "x-request-id": "r1"}, "r1"),
        ({"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01", "x-request-id": "r1"}, "r1"),
        ({"traceparent": f"00-{ID}", "x-request-id": "r1"}, "r1"),
        ({"x-request-id": "Root=1-67891233-abcdef012345678912345678"}, "Root=1-67891233-abcdef012345678912345678"),
        ({"x-request-id": "a\x1b[31m\r\nb\u00e9<i>"}, "a31mbi"),
        ({"x-request-id": "x" * 100_000}, "x" * LONGEST),
    ],
)
def test_what_a_header_says(headers: dict[str, str], found: str) -> None:
    assert trace_of(request(**headers)) == found


def test_the_span_of_opentelemetry_comes_first() -> None:
    context = telemetry.SpanContext(int(ID, 16), 1, is_remote=False)
    with telemetry.use_span(telemetry.NonRecordingSpan(context)):
        assert trace_of(request(**{"x-request-id": "r1"})) == ID
        assert trace_of(None) == ID
    assert trace_of(request(**{"x-request-id": "r1"})) == "r1"
    assert trace_of("no request") == ""


def test_opentelemetry_is_not_loaded_for_it() -> None:
    code = "import sys; from pooling.trace import trace_of; trace_of(); assert 'opentelemetry' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_holder_is_shown_with_its_trace() -> None:
    entered, go = threading.Event(), threading.Event()

    @locked(writes=["a"], atomic=False)
    def view(request: HttpRequest) -> HttpResponse:
        entered.set()
        go.wait(30)
        return HttpResponse()

    thread = threading.Thread(target=view, args=(request(**{"x-request-id": "r1"}),))
    thread.start()
    try:
        assert entered.wait(30)
        assert " trace r1 " in run("locks")[1]
        assert '"trace": "r1"' in run("locks", "--json")[1]
        with pytest.raises(LockTimeout, match=", trace r1\\)"), locked(reads=["a"], wait=0):
            pass
    finally:
        go.set()
        thread.join(30)


def test_without_a_trace_nothing_is_kept_or_shown() -> None:
    with locked(writes=["a"], atomic=False):
        (party,) = runtime.store().parties()
        assert "trace" not in party.owner
        assert "trace" not in run("locks")[1]


def test_a_page_does_not_depend_on_the_trace_of_a_lock_inside_it() -> None:
    made: list[Any] = []

    @locked(reads=["a"], atomic=False)
    def inner(request: HttpRequest) -> str:
        made.append(runtime.store().parties()[0].owner.get("trace"))
        return "page"

    @locked_cache(60, reads=["a"])
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(inner(request))

    @locked_cache(60, reads=["b"])
    def alone(request: HttpRequest) -> HttpResponse:
        with locked(reads=["b/1"], atomic=False):
            return HttpResponse("page")

    for name in ("r1", "r2"):
        assert view(request(**{"x-request-id": name})).content == b"page"
        assert alone(request(**{"x-request-id": name})).content == b"page"
    assert made == ["r1"]
