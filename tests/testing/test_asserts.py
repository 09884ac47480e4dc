"""Each assertion on each kind of answer, and what it says when it fails. The answers are those of real views."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory, TestCase

from pooling import invalidate, locked, locked_cache
from pooling.testing import assertCached, assertNotCached, assertNotStored, assertStale, assertStored

from ..cache.views import FORBIDDEN

pytestmark = pytest.mark.django_db  # sessions and users

ALL: dict[str, Callable[[Any], None]] = {
    "assertCached": assertCached,
    "assertNotCached": assertNotCached,
    "assertStale": assertStale,
    "assertStored": assertStored,
    "assertNotStored": assertNotStored,
}


def get(path: str = "/plain", **headers: str) -> Any:
    return Client(raise_request_exception=False).get(path, headers=headers)


def complaint(check: Callable[..., None], *args: Any, **kwargs: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        check(*args, **kwargs)
    return str(caught.value)


def written() -> None:
    with TestCase.captureOnCommitCallbacks(execute=True):
        invalidate("x")


def old_page() -> Any:
    """One that is served because its view fails."""
    fails = []

    @locked_cache(300, reads=["x"], stale_if_error=60)
    def page(request: Any) -> HttpResponse:
        if fails:
            raise RuntimeError("as it must")
        return HttpResponse("x")

    page(RequestFactory().get("/"))
    written()
    fails.append(1)
    response = page(RequestFactory().get("/"))
    assert response["Cache-Status"] == 'pooling; fwd=stale; detail="the view failed"'
    return response


def fresh() -> Any:
    get()
    return get()


KINDS: dict[str, tuple[Callable[[], Any], set[str]]] = {
    "hit": (fresh, {"assertCached"}),
    "old": (old_page, {"assertStale"}),
    "stored": (get, {"assertNotCached", "assertStored"}),
    "not stored": (lambda: get("/answer/user"), {"assertNotCached", "assertNotStored"}),
    "bypassed": (lambda: get("/zero"), {"assertNotCached", "assertNotStored"}),
    "posted": (lambda: Client().post("/plain"), {"assertNotCached", "assertNotStored"}),
    "of another view": (lambda: get("/nowhere"), set()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_which_assertions_hold(kind: str) -> None:
    make, holding = KINDS[kind]
    response = make()
    for name, check in ALL.items():
        if name in holding:
            check(response)
        else:
            said = complaint(check, response)
            assert said.startswith("Expected ")
            told = response.get("Cache-Status")
            assert f"Cache-Status: {told}\n" in said if told else "Its status is 404." in said


def test_a_page_that_another_request_made_meanwhile_is_cached() -> None:
    response = HttpResponse(headers={"Cache-Status": "pooling; fwd=uri-miss; collapsed"})
    assertCached(response)
    assert "it was cached" in complaint(assertNotCached, response)


@pytest.mark.parametrize("kind", FORBIDDEN)
def test_why_an_answer_was_not_stored_comes_with_what_would_change_it(kind: str) -> None:
    response = get(f"/answer/{kind}")
    assertNotStored(response)
    reason, advice = complaint(assertStored, response).split("\n")
    assert reason.startswith("Expected stored, but it was made and not stored. Cache-Status: pooling; fwd=uri-miss; ")
    assert len(advice) > 20


@pytest.mark.parametrize(
    ("path", "headers", "reason", "advice"),
    [
        ("/answer/user", {}, "touched user", "vary_on=['user']"),
        ("/answer/set_cookie", {}, "Set-Cookie", "one visitor's"),
        ("/answer/404", {}, "status 404", "Only answers with status 200"),
        ("/answer/never", {}, "Cache-Control", "never_cache"),
        ("/answer/star", {}, "Vary: *", "Name the headers"),
        ("/answer/streaming", {}, "streaming", "complete response"),
        ("/answer/session_set", {}, "session", "vary_on=['session']"),
        ("/zero", {}, "timeout 0", "stores nothing"),
        ("/plain", {"Authorization": "Basic eA=="}, "Authorization", "'header:Authorization' to vary_on"),
    ],
)
def test_the_reason_is_part_of_the_words(path: str, headers: dict[str, str], reason: str, advice: str) -> None:
    response = get(path, **headers)
    assertNotStored(response, reason)
    assertNotStored(response, reason=reason)
    assert advice in complaint(assertStored, response)
    assert "Expected not stored because of 'fragments', but it was not stored because of " in complaint(
        assertNotStored, response, "fragments"
    )


def test_a_page_above_the_limit(settings: Any) -> None:
    settings.POOLING = {"ENTRY_BYTES": 3}
    response = get()
    assertNotStored(response, "above ENTRY_BYTES 3")
    assert "Raise POOLING['ENTRY_BYTES']" in complaint(assertStored, response)


def test_inside_a_lock() -> None:
    with locked(reads=["x"], atomic=False):
        response = get()
    assertNotStored(response, "inside a lock")
    assert "outside of `locked`" in complaint(assertStored, response)


def test_head_and_other_methods() -> None:
    response = Client().head("/plain")
    assertNotStored(response, "method HEAD")
    assert "Ask with GET" in complaint(assertStored, response)
    assert "Only GET and HEAD" in complaint(assertCached, Client().post("/plain"))
    assertNotStored(Client().post("/plain"), "method")


def test_what_was_expected_to_be_cached() -> None:
    assert "Ask for it twice" in complaint(assertCached, get())
    written()
    assert "has been written since" in complaint(assertCached, get())
    get("/varying", **{"X-Kind": "a"})
    assert "other values of the headers" in complaint(assertCached, get("/varying", **{"X-Kind": "b"}))
    said = complaint(assertCached, get("/answer/user"))
    assert "Nor was it stored now: Declare it, vary_on=['user']" in said
    assert "an old page (the view failed); see assertStale" in complaint(assertCached, old_page())
    assert "stores nothing" in complaint(assertCached, get("/zero"))


def test_what_was_expected_to_be_made_or_old() -> None:
    response = fresh()
    for check in (assertNotCached, assertStale):
        assert "captureOnCommitCallbacks(execute=True)" in complaint(check, response)
    assert "stale_if_error=" in complaint(assertStale, response)
    assert "an earlier request" in complaint(assertStored, response)
    assert "an earlier request" in complaint(assertNotStored, response)


def test_where_no_cached_view_has_answered(settings: Any) -> None:
    assert "such as a redirect to a login" in complaint(assertStored, get("/nowhere"))
    foreign = HttpResponse(headers={"Cache-Status": "CDN; hit"})
    assert complaint(assertCached, foreign).endswith("Its status is 200. Cache-Status: CDN; hit")
    settings.POOLING = {"ENABLED": False}
    assert "POOLING['ENABLED'] False" in complaint(assertNotStored, get())


def test_a_message_of_ones_own() -> None:
    for check in ALL.values():
        assert complaint(check, HttpResponse(), msg="the third visit").startswith("the third visit: Expected ")
    assert complaint(assertCached, get(), msg="the first").startswith("the first: Expected cached, but")


def test_what_is_no_response() -> None:
    waiting = AsyncClient().get("/plain")
    with pytest.raises(TypeError, match="must be awaited"):
        assertCached(waiting)
    assertStored(asyncio.run(waiting))
    with pytest.raises(TypeError, match="A response is needed"):
        assertCached(None)
