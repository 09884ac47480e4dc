"""ETag and 304, Age, Cache-Control and Vary: what a browser is told (RFC 9110 section 13, RFC 9111)."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from pooling import invalidate, locked
from pooling.cache import answers, validators

from . import http_views, views

pytestmark = pytest.mark.django_db(transaction=True)
ALTERING = {"Age", "Cache-Status"}


def state(response: Any) -> str:
    return str(response["Cache-Status"])


def plain(response: Any) -> dict[str, str]:
    return {name: value for name, value in response.items() if name not in ALTERING}


@pytest.mark.parametrize("url", ["/http/page", "/http/personal", "/http/own_etag", "/varying", "/notes"])
def test_a_hit_has_the_headers_of_the_miss_and_its_age(url: str) -> None:
    client = Client()
    miss, hit = client.get(url), client.get(url)
    assert ("stored" in state(miss), "hit" in state(hit)) == (True, True)
    assert plain(hit) == plain(miss)
    assert miss["ETag"]
    assert "Age" not in miss
    assert int(hit["Age"]) >= 0


def test_age_is_the_seconds_since_the_page_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    client.get("/http/page")
    now = answers.time.time()
    monkeypatch.setattr(answers.time, "time", lambda: now + 42.5)
    assert client.get("/http/page")["Age"] == "42"
    monkeypatch.setattr(answers.time, "time", lambda: now - 42.5)  # made by a machine whose clock is ahead
    assert client.get("/http/page")["Age"] == "0"


def test_if_none_match_is_answered_without_the_body_and_with_what_a_304_carries() -> None:
    client = Client()
    first = client.get("/http/page")
    again = client.get("/http/page", headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "hit" in state(again)
    assert {"ETag", "Cache-Control", "Age"} <= set(again.headers)
    assert not {"X-Made", "Content-Type", "Content-Length"} & set(again.headers)
    assert views.calls["page"] == 1


MATCHING = ["{}", '"other", {}', '{},"x"', "*", " {} ", "strong"]
NOT_MATCHING = ['"other"', "", "other", 'W/"pooling-', "{}x", '"*"']


@pytest.mark.parametrize("method", ["get", "head"])
@pytest.mark.parametrize("value", MATCHING + NOT_MATCHING)
def test_how_tags_are_compared(value: str, method: str) -> None:
    client = Client()
    tag = client.get("/http/page")["ETag"]
    sent = tag.removeprefix("W/") if value == "strong" else value.format(tag)
    response = getattr(client, method)("/http/page", headers={"If-None-Match": sent})
    assert response.status_code == (304 if value in MATCHING else 200)
    if response.status_code == 200:
        assert response.content == (http_views.TEXT.encode() if method == "get" else b"")


def test_a_page_made_anew_that_came_out_the_same_is_not_sent_again() -> None:
    client = Client()
    tag = client.get("/http/page")["ETag"]
    invalidate("x")
    again = client.get("/http/page", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    assert state(again) == "pooling; fwd=stale; stored"
    assert client.get("/http/page").content == http_views.TEXT.encode()  # what was stored is whole
    assert views.calls["page"] == 2


def test_a_write_changes_the_tag() -> None:
    from tests.app.models import Note

    note = Note.objects.create(text="one")
    client, url = Client(), f"/note/{note.pk}"
    tag = client.get(url)["ETag"]
    client.post(url, {"text": "two"})
    for _ in "miss", "hit":
        again = client.get(url, headers={"If-None-Match": tag})
        assert (again.status_code, again.content) == (200, b"two")


def test_modified_since_counts_only_without_tags() -> None:
    client, url = Client(), f"/http/headers?Last-Modified={http_views.MODIFIED}"
    later, earlier = "Thu, 22 Oct 2015 07:28:00 GMT", "Tue, 20 Oct 2015 07:28:00 GMT"

    def ask(**headers: str) -> int:
        return client.get(url, headers={k.replace("_", "-"): v for k, v in headers.items()}).status_code

    tag = client.get(url)["ETag"]
    assert ask(If_Modified_Since=later) == 304
    assert ask(If_Modified_Since=http_views.MODIFIED) == 304
    assert ask(If_Modified_Since=earlier) == 200
    assert ask(If_Modified_Since="yesterday") == 200
    assert ask(If_Modified_Since=later, If_None_Match='"other"') == 200
    assert ask(If_Modified_Since=earlier, If_None_Match=tag) == 304
    assert ask(If_Unmodified_Since=earlier) == 412
    assert ask(If_Match='"other"') == 412
    assert ask(If_Match="*", If_None_Match=tag) == 304


def test_a_views_own_tag_is_kept_and_its_condition_does_not_make_the_page_a_304_for_all() -> None:
    client = Client()
    first = client.get("/http/own_etag", headers={"If-None-Match": '"its, own"'})
    assert (state(first), first["ETag"]) == ("pooling; fwd=uri-miss; stored", '"its, own"')
    assert client.get("/http/own_etag").content == http_views.TEXT.encode()
    assert views.calls["own_etag"] == 1
    assert client.get("/http/own_etag", headers={"If-None-Match": "*"}).status_code == 304


def test_the_view_makes_a_whole_page_whatever_this_visitor_has() -> None:
    headers = {"If-None-Match": '"x"', "If-Modified-Since": http_views.MODIFIED, "Range": "bytes=0-1", "If-Range": "x"}
    request = RequestFactory().get("/", headers=headers)
    assert http_views.conditions(request).content == b"[]"
    assert request.META["HTTP_IF_NONE_MATCH"] == '"x"'
    assert request.headers["Range"] == "bytes=0-1"


def test_an_answer_that_is_not_stored_is_compared_by_its_own_tag() -> None:
    client = Client()
    response = client.get("/http/uncached", headers={"If-None-Match": '"mine"'})
    assert (response.status_code, response.content) == (304, b"")
    assert "touched cookie:a" in state(response)
    assert "Cache-Control" not in response


@pytest.mark.parametrize("stored", [False, True])
def test_an_async_view_compares_as_well(stored: bool) -> None:
    from asgiref.sync import async_to_sync

    from tests.app.models import Note

    note = Note.objects.create(text="one")

    async def ask(**headers: str) -> Any:
        return await AsyncClient().get(f"/async_note/{note.pk}", headers=headers)

    tag = async_to_sync(ask)()["ETag"]
    if not stored:
        invalidate("notes")
    response = async_to_sync(ask)(**{"If-None-Match": tag})
    assert (response.status_code, response.content) == (304, b"")


@pytest.fixture
def middleware(request: pytest.FixtureRequest, settings: Any) -> None:
    known = {
        "gzip": "django.middleware.gzip.GZipMiddleware",
        "conditional": "django.middleware.http.ConditionalGetMiddleware",
        "common": "django.middleware.common.CommonMiddleware",
    }
    settings.MIDDLEWARE = [*(known[name] for name in request.param.split()), *settings.MIDDLEWARE]


@pytest.mark.parametrize(
    "middleware",
    ["gzip", "conditional", "common", "gzip conditional common", "conditional gzip common"],
    indirect=True,
)
def test_middleware_around_works_as_it_does(middleware: None) -> None:
    client = Client(headers={"Accept-Encoding": "gzip"})
    tags = set()
    for _ in "miss", "hit":
        response = client.get("/http/page")
        zipped = response.get("Content-Encoding") == "gzip"
        body = gzip.decompress(response.content) if zipped else response.content
        assert body == http_views.TEXT.encode()
        tags.add(response["ETag"])
        again = client.get("/http/page", headers={"If-None-Match": response["ETag"]})
        assert (again.status_code, again.content, again["ETag"]) == (304, b"", response["ETag"])
    assert len(tags) == 1
    assert views.calls["page"] == 1


def test_a_decorator_that_changes_the_bytes_does_not_make_the_tag_a_lie() -> None:
    zipping, client = Client(headers={"Accept-Encoding": "gzip"}), Client()
    zipped = zipping.get("/http/gzip")
    assert (zipped["Content-Encoding"], zipped["ETag"][:2]) == ("gzip", "W/")
    assert client.get("/http/gzip").content == http_views.TEXT.encode()


def test_cache_control_lets_a_browser_keep_the_page_and_ask() -> None:
    client = Client()
    assert client.get("/http/page")["Cache-Control"] == "no-cache"
    assert client.get("/http/headers?Cache-Control=max-age%3D60")["Cache-Control"] == "max-age=60"
    assert "Cache-Control" not in client.get("/http/headers?Expires=Wed, 21 Oct 2015 07:28:00 GMT")


def test_a_page_of_ones_own_is_for_the_browser_alone() -> None:
    client = Client()
    for _ in "miss", "hit":
        response = client.get("/http/personal")
        assert response["Cache-Control"] == "no-cache, private"
        assert {name.strip().lower() for name in response["Vary"].split(",")} == {"cookie", "x-kind"}
    for control, expected in (("max-age=60", "max-age=60, private"), ("max-age=60, public", "max-age=60, public")):
        for _ in "miss", "hit":
            assert client.get("/http/minute", {"control": control})["Cache-Control"] == expected


def test_our_vary_is_not_a_second_key() -> None:
    one, two = Client(), Client()
    two.cookies["beside"] = "x"
    assert "stored" in state(one.get("/http/personal"))
    assert "hit" in state(two.get("/http/personal"))


def test_the_browsers_of_two_users_do_not_confirm_each_others_pages() -> None:
    tags = []
    for name in ("ann", "bob"):
        client = Client()
        client.force_login(User.objects.create_user(name))
        assert (
            client.get("/mine", headers={"If-None-Match": ", ".join(tags) or '"x"'}).content == f"for {name}".encode()
        )
        tags.append(client.get("/mine")["ETag"])
    assert len(set(tags)) == 2


@pytest.mark.parametrize("kind", ["cookie", "set_cookie", "no-store", "404", "streaming"])
def test_nothing_is_added_to_what_is_not_stored(kind: str) -> None:
    response = Client().get(f"/answer/{kind}")
    assert "ETag" not in response
    assert response.get("Cache-Control", "") == ("no-store" if kind == "no-store" else "")


def test_with_etags_off_nothing_is_added(settings: Any) -> None:
    settings.POOLING = {"ETAGS": False}
    client = Client()
    for _ in "miss", "hit":
        response = client.get("/http/page", headers={"If-None-Match": "*"})
        assert response.content == http_views.TEXT.encode()
        assert not {"ETag", "Cache-Control", "Vary"} & set(response.headers)
    assert "Age" in response
    # The view's own tag is its own business.
    assert client.get("/http/own_etag", headers={"If-None-Match": "*"}).status_code == 304


def test_a_page_around_a_page_has_a_tag_of_its_own() -> None:
    client = Client()
    inner = http_views.page(RequestFactory().get("/http/around"))
    for _ in "miss", "hit":
        outer = client.get("/http/around", headers={"If-None-Match": inner["ETag"]})
        assert (outer.content, outer["Cache-Control"]) == (http_views.TEXT.encode() + b"1", "no-cache")
        assert outer["ETag"] not in ("", inner["ETag"])
    assert "hit" in state(outer)


def test_a_hit_inside_a_hold_says_nothing_about_the_page_around_it() -> None:
    factory = RequestFactory()
    views.plain(factory.get("/plain"))
    with locked(reads=["x"]):
        response = views.plain(factory.get("/plain", headers={"If-None-Match": "*"}))
    assert response.content == b"plain 1"
    assert not {"ETag", "Cache-Control"} & set(response.headers)


@given(st.binary(max_size=50), st.binary(max_size=50), st.sampled_from(["text/html", "text/plain"]))
def test_two_answers_have_one_tag_only_if_they_are_equal(one: bytes, two: bytes, kind: str) -> None:
    tags = [validators.etag(HttpResponse(body, content_type=kind)) for body in (one, two)]
    assert (tags[0] == tags[1]) == (one == two)
    assert validators.etag(HttpResponse(one, content_type="text/css")) != tags[0]
    assert validators.etag(HttpResponse(one, content_type=kind, headers={"Date": "x", "Expires": "y"})) == tags[0]
    assert validators.etag(HttpResponse(one, content_type=kind, headers={"Link": "x"})) != tags[0]


def test_the_key_is_that_of_a_page_whatever_its_validators() -> None:
    factory = RequestFactory()
    plain = http_views.page.key(factory.get("/http/page"))
    assert http_views.page.key(factory.get("/http/page", headers={"If-None-Match": "*"})) == plain
