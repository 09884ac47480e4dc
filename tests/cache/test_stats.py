"""What is counted of each cached view."""

from __future__ import annotations

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory

import pooling
from pooling import locked_cache
from pooling.cache import answers, stats
from pooling.cache.stats import LABELS, CacheStats, Tally, total
from pooling.flights import flights
from tests.app.models import Note

from . import views

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def from_nothing() -> None:
    for one in stats._tallies.values():
        one.start_over()


def get(**more: Any) -> Any:
    return RequestFactory().get("/x", **more)


def test_hits_misses_and_what_is_stored() -> None:
    note = Note.objects.create(text="four")
    client, url = Client(), f"/note/{note.pk}"
    for _ in range(3):
        client.get(url)
    client.post(url, {"text": "fifty"})
    client.get(url)
    counted = views.note.stats()
    assert counted == pooling.cache_stats()["tests.cache.views.note"]
    assert (counted.hits, counted.hits_by) == (2, {"fresh": 2})
    assert (counted.misses, counted.misses_by) == (2, {"uri-miss": 1, "stale": 1})
    assert (counted.stored, counted.stored_bytes, counted.not_stored) == (2, 9, {})
    assert counted.bypassed == {"method": 1}
    assert counted.hit_ratio == 0.5
    assert counted.computed == 2
    assert counted.compute_seconds > 0
    assert counted.saved_seconds == pytest.approx(counted.compute_seconds)


def test_an_answer_without_a_body_is_stored_with_one() -> None:
    client = Client()
    tag = client.get("/plain")["ETag"]
    stats.tally("tests.cache.views.plain").start_over()
    assert client.get("/plain", headers={"If-None-Match": tag}).status_code == 304
    assert (views.plain.stats().hits, views.plain.stats().not_modified) == (1, 1)
    note = Note.objects.create(text="four")
    tag = client.get(f"/note/{note.pk}")["ETag"]
    views.note.invalidate(pk=note.pk)
    assert client.get(f"/note/{note.pk}", headers={"If-None-Match": tag}).status_code == 304
    counted = views.note.stats()
    assert (counted.stored, counted.stored_bytes, counted.not_modified) == (2, 8, 1)


def test_why_not_stored() -> None:
    client = Client(raise_request_exception=False)
    for kind in ("user", "user", "set_cookie", "503"):
        client.get(f"/answer/{kind}")
    client.head("/answer/x")
    counted = views.answer.stats()
    assert counted.not_stored == {"touched user": 2, "Set-Cookie": 1, "status 503": 1, "method HEAD": 1}
    assert (counted.stored, counted.misses, counted.hits) == (0, 5, 0)
    client.get("/zero"), client.get("/zero")
    assert views.zero.stats().bypassed == {"timeout 0": 2}
    assert views.zero.stats().hit_ratio is None


def test_exceptions_are_no_answers() -> None:
    @locked_cache(60, reads=["x"])
    def broken(request: Any) -> HttpResponse:
        raise KeyError("mine")

    with pytest.raises(KeyError):
        broken(get())
    assert (broken.stats().failed, broken.stats().misses, broken.stats().computed) == (1, 0, 0)


def test_those_who_wait_for_one_that_computes() -> None:
    inside, go = threading.Event(), threading.Event()

    @locked_cache(60, reads=["x"])
    def slow(request: Any) -> HttpResponse:
        inside.set()
        assert go.wait(30)
        return HttpResponse("x")

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(slow, get())]
        assert inside.wait(30)
        answers += [pool.submit(slow, get()) for _ in range(3)]
        while flights.waiting() < 3:
            assert not go.wait(0.01)
        go.set()
        assert {answer.result(30).content for answer in answers} == {b"x"}
    counted = slow.stats()
    assert (counted.misses, counted.collapsed, counted.waits, counted.computed) == (1, 3, 3, 1)
    assert counted.wait_seconds > 0
    assert counted.hit_ratio == 0.75


def test_async_views() -> None:
    async def twice() -> None:
        note = await Note.objects.acreate(text="one")
        for _ in range(2):
            await AsyncClient().get(f"/async_note/{note.pk}")

    async_to_sync(twice)()
    counted = views.async_note.stats()
    assert (counted.hits, counted.misses, counted.computed) == (1, 1, 1)
    assert counted.compute_seconds > 0


def test_two_decorations_of_one_view_are_one_view() -> None:
    one = locked_cache(60, reads=["x"])(views.Bare.as_view())
    two = locked_cache(60, reads=["y"])(views.Bare.as_view())
    assert one.stats().view == two.stats().view == "tests.cache.views.View.as_view.<locals>.view@tests.cache.views.Bare"


def told(*parts: str, detail: str | None = None, status: int = 200) -> HttpResponse:
    response = HttpResponse("body", status=status)
    answers.status(response, *parts, detail=detail)
    return response


def test_kinds_of_hits_are_told_by_the_detail_and_304_beside() -> None:
    tally = Tally("v")
    for detail in (None, "near", "near", "stale"):
        tally.note(told("hit", "ttl=3", detail=detail))
    tally.note(told("hit", "ttl=3", status=304))
    assert tally.stats().hits_by == {"fresh": 2, "near": 2, "stale": 1}
    assert tally.stats().not_modified == 1


def test_reasons_are_bounded_and_an_errors_text_is_none() -> None:
    tally = Tally("v")
    for number in range(100):
        tally.note(told("fwd=uri-miss", detail=f"touched cookie:{number}"))
        tally.note(told("fwd=bypass", detail=f"store down: {number}"))
    counted = tally.stats()
    assert len(counted.not_stored) == LABELS + 1
    assert counted.not_stored["other"] == 100 - LABELS
    assert sum(counted.not_stored.values()) == counted.misses == 100
    assert counted.bypassed == {"store down": 100}


def test_an_answer_that_was_told_nothing_is_not_counted(settings: Any) -> None:
    settings.POOLING = {"ENABLED": False}
    views.plain(get())
    assert views.plain.stats() == CacheStats("tests.cache.views.plain")


def test_no_count_is_lost_among_threads() -> None:
    tally, hit, stored = Tally("v"), told("hit", "ttl=1"), told("fwd=uri-miss", "stored")
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def work(_: int) -> None:
            for _ in range(2000):
                tally.note(hit)
                tally.note(stored)
                tally.computed(0.5, 4)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
    finally:
        sys.setswitchinterval(before)
    counted = tally.stats()
    assert (counted.hits, counted.misses, counted.stored, counted.computed) == (16000,) * 4
    assert counted.stored_bytes == 64000
    assert counted.compute_seconds == 8000.0


def test_a_forked_child_counts_for_itself() -> None:
    tally = stats.tally("forked")
    tally.note(told("hit"))
    with tally._mutex:  # another thread may have it at the moment of the fork
        child = os.fork()
        if not child:
            try:
                signal.alarm(30)  # a lock that is the parent's would be waited for for ever
                tally.note(told("hit"))
                os._exit(tally.stats().hits)
            finally:
                os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert tally.stats().hits == 1


def test_sums_and_plain_types() -> None:
    one = CacheStats("v", hits=1, hits_by={"fresh": 1}, computed=1, compute_seconds=0.5, not_stored={"Set-Cookie": 2})
    two = CacheStats("v", hits=3, hits_by={"fresh": 1, "near": 2}, computed=1, compute_seconds=1.5)
    both = total("v", [one, two])
    assert (both.hits, both.hits_by, both.not_stored) == (4, {"fresh": 2, "near": 2}, {"Set-Cookie": 2})
    assert both.saved_seconds == 4.0
    assert CacheStats.from_dict(both.as_dict()) == both
    assert total("v", []) == CacheStats("v")
    for bad in ({"hits": "x"}, {"hits_by": {"a": "b"}}, {"computed": []}):
        with pytest.raises((TypeError, ValueError)):
            CacheStats.from_dict(bad)
