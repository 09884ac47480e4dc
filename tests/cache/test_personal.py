"""Whatever of its visitor a page shows, in whatever way it got at it, is not shown to the next one."""

from __future__ import annotations

import http.client
import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.utils import timezone, translation

from pooling import locked_cache

from . import http_views, views

pytestmark = pytest.mark.django_db(transaction=True)
HEADERS = {"User-Agent": "a", "X-Forwarded-Host": "evil", "HX-Request": "true", "Accept-Language": "de"}


def state(response: Any) -> str:
    return str(response["Cache-Status"])


@pytest.mark.parametrize("how", http_views.SNEAKING)
def test_what_a_page_read_of_its_visitor_is_not_stored(how: str) -> None:
    client = Client(headers=HEADERS)
    client.force_login(User.objects.create_user("ann"))
    client.cookies["a"] = "1"
    client.cookies["csrftoken"] = "a" * 32
    for _ in range(2):
        assert "touched " in state(client.get(f"/http/sneaking/{how}"))


@pytest.mark.parametrize("how", http_views.ASYNC_SNEAKING)
def test_nor_in_an_async_view(how: str) -> None:
    async def ask() -> str:
        return state(await AsyncClient().get(f"/http/async_sneaking/{how}"))

    for _ in range(2):
        assert "touched " in async_to_sync(ask)()


@pytest.mark.parametrize("what", http_views.HARMLESS)
def test_what_is_the_same_for_all_is_stored(what: str) -> None:
    client = Client(headers=HEADERS)
    assert "stored" in state(client.get(f"/http/harmless/{what}?a=1"))
    assert "hit" in state(client.get(f"/http/harmless/{what}?a=1"))


@pytest.mark.parametrize("vary", ["Accept, User-Agent", "user-agent", "Cookie, User-Agent"])
def test_a_header_that_vary_names_may_be_read(vary: str) -> None:
    @locked_cache(60, reads=["x"])
    def view(request: Any) -> HttpResponse:
        cookie = request.COOKIES.get("a") if "Cookie" in vary else ""
        return HttpResponse(f"{request.headers['User-Agent']} {cookie}", headers={"Vary": vary})

    for agent in ("one", "two"):
        for expected in ("stored", "hit"):
            response = view(RequestFactory().get("/", headers={"User-Agent": agent, "Cookie": f"a={agent}"}))
            assert response.content.startswith(agent.encode())
            assert expected in state(response)


def test_a_header_that_vary_no_longer_names_is_undeclared() -> None:
    named = ["X-A"]

    @locked_cache(60, reads=["x"])
    def view(request: Any) -> HttpResponse:
        return HttpResponse(request.headers["X-A"], headers={"Vary": ", ".join(named)} if named else {})

    assert "stored" in state(view(RequestFactory().get("/", headers={"X-A": "1"})))
    named.clear()
    assert "touched header:x-a" in state(view(RequestFactory().get("/", headers={"X-A": "2"})))


def test_the_host_that_counts_is_the_one_in_the_key(settings: Any) -> None:
    def ask(**headers: str) -> str:
        return state(http_views.harmless(RequestFactory().get("/", headers=headers), "host"))

    settings.USE_X_FORWARDED_HOST = True
    assert "stored" in ask(**{"X-Forwarded-Host": "a"})
    assert "stored" in ask(**{"X-Forwarded-Host": "b"})
    assert "hit" in ask(**{"X-Forwarded-Host": "a"})

    @locked_cache(60, reads=["x"])
    def view(request: Any) -> HttpResponse:
        return HttpResponse(request.META["HTTP_HOST"])

    response = view(RequestFactory().get("/", headers={"X-Forwarded-Host": "a", "Host": "evil"}))
    assert "touched header:host" in state(response)


def test_language_and_time_zone_are_in_the_key_where_the_project_uses_them(settings: Any) -> None:
    def key(language: str) -> str:
        with translation.override(language):
            return str(http_views.page.key(RequestFactory().get("/http/page")))

    for settings.USE_I18N in (True, False, True):
        assert (key("de") != key("fr")) is settings.USE_I18N
    for settings.USE_TZ in (True, False, True):
        with timezone.override("Asia/Tokyo"):
            there = key("de")
        assert (key("de") != there) is settings.USE_TZ


def test_what_changes_a_page_beside_its_address_goes_past_the_cache() -> None:
    factory = RequestFactory()
    assert "stored" in state(http_views.page(factory.get("/http/page")))
    for extra, why in (
        ({"CONTENT_LENGTH": "3"}, "has a body"),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, "has a body"),
        ({"CONTENT_TYPE": "text/html; charset=latin-1"}, "encoding of its own"),
    ):
        response = http_views.page(factory.get("/http/page", **extra))
        assert (response.content, why in state(response)) == (http_views.TEXT.encode(), True)
    for same in ({"CONTENT_LENGTH": "0"}, {"CONTENT_LENGTH": ""}, {"CONTENT_TYPE": "text/html; charset=UTF-8"}):
        assert "hit" in state(http_views.page(factory.get("/http/page", **same)))


@pytest.mark.parametrize("vary_on", [[], ["header:Content-Type"]])
def test_what_django_makes_of_the_content_type_is_seen_where_it_is_declared(vary_on: list[str]) -> None:
    @locked_cache(300, reads=["x"], vary_on=vary_on)
    def typed(request: HttpRequest) -> HttpResponse:
        return HttpResponse(f"{request.content_type} {sorted(request.content_params)}")

    factory = RequestFactory()
    for kind in ("application/json; q=1", "", "text/csv"):
        request = factory.get("/typed", **({"CONTENT_TYPE": kind} if kind else {}))
        wanted = f"{request.content_type} {sorted(request.content_params)}" if vary_on else " []"
        assert typed(request).content.decode() == wanted
        assert request.content_type == kind.partition(";")[0]


def test_bytes_of_the_query_that_are_escaped_alike_have_pages_of_their_own() -> None:
    """``get_full_path()`` makes one of them; the view sees two."""
    client = Client()
    raw = client.get("/http/headers", QUERY_STRING="X-A=\xc3").content
    assert raw == http_views.TEXT.encode()
    assert "stored" in state(client.get("/http/headers", QUERY_STRING="X-A=%C3%83"))


def test_a_page_above_the_limit_is_not_stored(settings: Any) -> None:
    settings.POOLING = {"ENTRY_BYTES": 1000}
    client = Client()
    assert "stored" in state(client.get("/http/large/1000"))
    for _ in range(2):
        response = client.get("/http/large/1001")
        assert (len(response.content), "1001 bytes, above ENTRY_BYTES 1000" in state(response)) == (1001, True)


def test_by_default_a_huge_page_is_delivered_and_not_stored() -> None:
    response = Client().get("/http/large/20000000")
    assert (len(response.content), "above ENTRY_BYTES" in state(response)) == (20_000_000, True)


def test_reads_that_name_no_group_store_nothing() -> None:
    client = Client()
    for _ in range(2):
        response = client.get("/http/groupless")
        assert (response.content, "reads name no group" in state(response)) == (b"page", True)
    assert views.calls["groupless"] == 2


@pytest.mark.parametrize("url", ["/mine", "/answer/user", "/http/personal"])
def test_two_users_over_http_at_the_same_time(url: str, live_server: Any) -> None:
    """With browsers that keep what they got and ask for it by its tag."""
    wrong: list[str] = []
    start = threading.Barrier(4)

    def browse(name: str, session: str | None) -> None:
        connection = http.client.HTTPConnection(live_server.thread.host, live_server.thread.port, timeout=60)
        kept: tuple[str, bytes] = "", b""
        start.wait(60)
        for _ in range(12):
            headers = {"Cookie": f"sessionid={session}"} if session else {}
            if kept[0]:
                headers["If-None-Match"] = kept[0]
            connection.request("GET", url, headers=headers)
            response = connection.getresponse()
            body = response.read()
            if response.status == 304:
                body = kept[1]
            elif tag := response.headers.get("ETag"):
                kept = tag, body
            if not body.endswith(name.encode()) or response.status not in (200, 304):
                wrong.append(f"{name}: {response.status} {body!r}")
        connection.close()

    visitors: list[tuple[str, str | None]] = [("AnonymousUser", None)]
    for name in ("ann", "bob", "eve"):
        user, session = User.objects.create_user(name), SessionStore()
        session["_auth_user_id"] = str(user.pk)
        session["_auth_user_backend"] = django_settings.AUTHENTICATION_BACKENDS[0]
        session["_auth_user_hash"] = user.get_session_auth_hash()
        session.save()
        visitors.append((name, session.session_key))
    threads = [threading.Thread(target=browse, args=visitor) for visitor in visitors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sum(views.calls.values()) == (48 if url == "/answer/user" else 4)
