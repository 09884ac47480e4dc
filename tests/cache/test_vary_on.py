"""What `vary_on` may name, and that no two requests which differ in it share a page."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.utils import timezone, translation
from hypothesis import given
from hypothesis import strategies as st

from pooling import locked_cache
from pooling.cache import keys
from pooling.cache.vary import VaryOn

from . import http_views, views

pytestmark = pytest.mark.django_db(transaction=True)


def state(response: Any) -> str:
    return str(response["Cache-Status"])


def visitor(**data: Any) -> Client:
    """A client with a session that has this in it."""
    client, session = Client(), SessionStore()
    session.update(data)
    session.save()
    client.cookies["sessionid"] = session.session_key
    return client


@pytest.mark.parametrize("url", ["/http/cart/cart", "/http/async_cart/cart"])
def test_one_key_of_the_session_tells_pages_apart_and_others_do_not(url: str) -> None:
    assert visitor(cart=[1], name="ann").get(url).content == b"[1]"
    assert "hit" in state(visitor(cart=[1], name="bob").get(url))
    assert visitor(cart=[2]).get(url).content == b"[2]"
    assert visitor(cart=None).get(url).content == b"None"
    assert "stored" in state(Client().get(url))  # absent is not None
    assert "hit" in state(visitor(name="eve").get(url))
    assert views.calls["cart"] == 4


@pytest.mark.parametrize("url", ["/http/cart/cart,name", "/http/async_cart/cart,name"])
def test_another_key_of_the_session_is_undeclared(url: str) -> None:
    for name in ("ann", "bob"):
        response = visitor(cart=1, name=name).get(url)
        assert response.content == f"1,{name}".encode()
        assert "touched session:name" in state(response)


def test_the_whole_session_covers_its_keys() -> None:
    client = visitor(name="ann")
    assert "stored" in state(
        client.get("/declared", headers={"cookie": f"{client.cookies.output(header='')}; csrftoken={'a' * 32}"})
    )


def test_time_zone_and_language_are_in_every_key() -> None:
    views_of = [http_views.cart, http_views.page]
    request: Any = RequestFactory().get("/x")
    request.session = SessionStore()
    for view in views_of:
        arguments = ("cart",) if view is http_views.cart else ()
        found = set()
        for zone in ("Europe/Berlin", "Asia/Tokyo"):
            for language in ("de", "fr"):
                with timezone.override(zone), translation.override(language):
                    found.add(view.key(request, *arguments))
        assert len(found) == 4


def test_of_the_query_what_is_named_counts() -> None:
    client = Client()

    def ask(query: str) -> str:
        return state(client.get(f"/http/keeping?{query}"))

    assert "stored" in ask("page=1&f_a=2&utm=x")
    for same in ("f_a=2&page=1", "page=1&utm=y&f_a=2&x", "page=%31&f_a=2"):
        assert "hit" in ask(same)
    for other in ("page=2&f_a=2", "page=1", "f_a=2", "", "page=1&f_a=2&f_a=3", "page=1&f_a=2&f_", "page=&f_a=2"):
        assert "stored" in ask(other)
    assert "stored" in ask("page=1&f_a=3&f_a=2")  # the order of one name's values counts


def test_of_the_query_what_is_named_with_a_minus_does_not_count() -> None:
    client = Client()

    def ask(query: str) -> str:
        return state(client.get(f"/http/ignoring?{query}"))

    assert "stored" in ask("q=1&utm_source=x&ref=y")
    for same in ("q=1", "utm_=&q=1", "ref=z&q=1&ref=a"):
        assert "hit" in ask(same)
    for other in ("q=2", "q=1&referer=x", "q=1&utm=x"):
        assert "stored" in ask(other)


@pytest.mark.parametrize("url", ["/http/keeping?page=2&evil=%22%3E&a=%C3%A4", "/http/ignoring?page=2&utm_evil=%22%3E"])
def test_what_does_not_count_cannot_be_shown_to_others(url: str) -> None:
    client = Client()
    first = client.get(url)
    assert "stored" in state(first)
    assert b"evil" not in first.content
    assert b"page=2" in first.content
    assert client.get(url.partition("&")[0]).content == first.content


@pytest.mark.parametrize(("url", "name"), [("/http/keeping", "q"), ("/http/ignoring", "utm_x")])
def test_a_view_that_asks_for_what_does_not_count_gets_it_and_is_not_stored(url: str, name: str) -> None:
    client = Client()
    for value in ("one", "two", None):
        response = client.get(url, {name: value} if value else {}, headers={"X-Ask": name})
        assert response.content.startswith((value or "").encode())
        assert f"touched query:{name}" in state(response)
    assert "stored" in state(client.get(url, headers={"X-Ask": "page"}))


@pytest.mark.parametrize(
    ("items", "error", "words"),
    [
        (["query:"], ValueError, "names no parameter"),
        (["query:a*b"], ValueError, "names no parameter"),
        (["-query:"], ValueError, "names no parameter"),
        (["query:a", "-query:b"], ValueError, "both"),
        (["session:"], ValueError, "Did you mean 'session"),
        (["meta:"], ValueError, "Did you mean 'meta:NAME'"),
        (["header:*"], ValueError, "Name each"),
        (["querry:a"], ValueError, "Did you mean 'query:NAME'"),
        (["time_zone"], ValueError, "Did you mean 'timezone'"),
        (["query"], ValueError, "Did you mean"),
        (["header:a\nb"], ValueError, "names no header"),
        (["cookie:a=b"], ValueError, "names no cookie"),
    ],
)
def test_items_that_make_no_sense(items: list[str], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        VaryOn.parse(items)


def test_one_item_has_one_spelling() -> None:
    assert VaryOn.parse(["header:X_Kind"]) == VaryOn.parse(["header:x-kind"]) == VaryOn.parse(["meta:HTTP_X_KIND"])


def test_a_variable_of_the_web_server() -> None:
    @locked_cache(60, reads=["x"], vary_on=["meta:REMOTE_ADDR"])
    def view(request: Any) -> HttpResponse:
        return HttpResponse(request.META["REMOTE_ADDR"])

    for address in ("10.0.0.1", "10.0.0.2"):
        for expected in ("stored", "hit"):
            response = view(RequestFactory().get("/", REMOTE_ADDR=address))
            assert (response.content, expected in state(response)) == (address.encode(), True)


@pytest.mark.parametrize(
    "value", ["x" * 1_000_000, "a\r\nSet-Cookie: b=c", "\x00", "ü\U0001f600", "\udcff", "n", "s1:x", ""]
)
def test_huge_and_strange_values_have_pages_of_their_own(value: str) -> None:
    @locked_cache(60, reads=["x"], vary_on=["header:X-A", "cookie:a"])
    def view(request: Any) -> HttpResponse:
        return HttpResponse(f"{len(request.META['HTTP_X_A'])} {len(request.COOKIES['a'])}")

    for cookie, header in ((value, "x"), ("x", value), (value, value)):
        for expected in ("stored", "hit"):
            request = RequestFactory().get("/", HTTP_X_A=header)
            request.COOKIES = {"a": cookie}
            response = view(request)
            assert (expected in state(response), response.content) == (True, f"{len(header)} {len(cookie)}".encode())
            assert "\n" not in "".join(f"{name}{text}" for name, text in response.items())


class Colour(enum.IntEnum):
    RED = 1
    BLUE = 2


class Vague:
    def __repr__(self) -> str:
        return "<the same>"


ARGUMENTS = [
    *(None, True, 1, "1", 1.0, b"1", Colour.RED, Colour.BLUE, (), [], {}, (1,), [1], ("1",), {"a": 1}, {"a": "1"}),
    *(decimal.Decimal("1"), decimal.Decimal("1.0"), uuid.UUID(int=1), datetime.date(2020, 1, 1)),
    *(datetime.datetime(2020, 1, 1), datetime.time(0), datetime.timedelta(1), ((1,), 2), (1, (2,)), User(pk=1)),
    *(User(pk=2), User(pk=None, username="x")),
]


def test_arguments_that_differ_have_keys_that_differ() -> None:
    found = {}
    for value in ARGUMENTS[:-1]:
        found[keys.Keys("").base(scheme="", host="", path="", arguments=((value,), {}))] = value
    assert len(found) == len(ARGUMENTS) - 1


@pytest.mark.parametrize("value", [Vague(), ARGUMENTS[-1], [Vague()], {1: Vague()}, type("Text", (str,), {})("x")])
def test_a_page_for_an_argument_without_a_key_is_computed_for_each(value: Any) -> None:
    ran = []

    @locked_cache(60, reads=["x"])
    def view(request: Any, what: Any) -> HttpResponse:
        ran.append(what)
        return HttpResponse("page")

    for _ in range(2):
        response = view(RequestFactory().get("/"), value)
        assert (response.content, "has no key" in state(response)) == (b"page", True)
    assert len(ran) == 2


text = st.text(max_size=4) | st.sampled_from(["a", "a=b", "&", "a&b", "\n", "%", "é", ":", "1:"])
requests = st.fixed_dictionaries(
    {
        "path": st.sampled_from(["/", "/a", "/a?", "/?b", "/a/b"]),
        "query": st.sampled_from(["", "a", "a=b", "a=b&c", "a=%26", "a=&b", "é", "%C3%83%C2%A9"])
        | st.text("ab=&?", max_size=5),
        "args": st.lists(text | st.integers(0, 2) | st.none(), max_size=2).map(tuple),
        "kwargs": st.dictionaries(st.sampled_from(["a", "b"]), text, max_size=2),
        "cookies": st.dictionaries(st.sampled_from(["a", "b"]), text, max_size=2),
        "headers": st.dictionaries(st.sampled_from(["HTTP_A", "HTTP_B"]), text, max_size=2),
    }
)


@locked_cache(60, reads=["x"], vary_on=["cookie:a", "cookie:b", "header:A", "header:B"])
def varied(request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
    raise NotImplementedError


@given(requests, requests)
def test_requests_that_differ_have_keys_that_differ(one: dict[str, Any], two: dict[str, Any]) -> None:
    found = []
    for parts in (one, two):
        request = RequestFactory().get("/", **parts["headers"])
        request.path = parts["path"]
        request.META["QUERY_STRING"] = parts["query"]
        request.COOKIES = parts["cookies"]
        found.append(varied.key(request, *parts["args"], **parts["kwargs"]))
    assert (found[0] == found[1]) == (one == two)


pairs = st.lists(st.tuples(st.sampled_from(["page", "f_a", "f_", "utm", "é"]), text), max_size=4)


@given(pairs, pairs)
def test_queries_share_a_key_only_if_the_view_sees_the_same(one: Any, two: Any) -> None:
    """And what counts is equal: names that count, with their values in order."""
    seen, found = [], []
    for given_pairs in (one, two):
        request = RequestFactory().get("/http/keeping")
        request.META["QUERY_STRING"] = urlencode(given_pairs)
        found.append(http_views.keeping.key(request))
        kept: dict[str, list[str]] = {}
        for name, value in given_pairs:
            if name == "page" or name.startswith("f_"):
                kept.setdefault(name, []).append(value)
        seen.append(kept)
    assert (found[0] == found[1]) == (seen[0] == seen[1])
