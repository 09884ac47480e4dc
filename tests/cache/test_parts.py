"""Frames, keys, rules and arguments, each by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from pooling import GroupError, locked_cache
from pooling.cache import answers, frame, keys, storable
from pooling.cache.options import FOREVER, CacheOptions
from pooling.cache.tracking import Tracker
from pooling.cache.vary import VaryOn

line = st.text(st.characters(exclude_characters="\r\n\x00", max_codepoint=255), max_size=20)
name = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=20)
pages = st.builds(
    frame.Page,
    status=st.integers(100, 599),
    reason=line,
    headers=st.lists(st.tuples(name, line), max_size=4).map(tuple),
    body=st.binary(max_size=200),
    vector=st.lists(st.binary(max_size=8), max_size=4).map(tuple),
    created=st.floats(0, 1e12),
    ttl=st.floats(0, 1e9),
    cost=st.floats(0, 1e9),
    failed=st.floats(0, 1e12),
    reads=st.lists(st.sampled_from(["a", "a/b", "catalog/7", "%2F"]), max_size=3, unique=True).map(tuple),
)
marks = st.builds(frame.VaryMark, st.lists(line, min_size=1, max_size=3).map(tuple)) | st.builds(
    frame.SkipMark, st.text(max_size=20)
)


@given(pages | marks)
def test_a_frame_comes_back_as_it_was(value: frame.Frame) -> None:
    assert frame.decode(frame.encode(value)) == value


@given(st.binary(max_size=300))
def test_foreign_bytes_are_a_miss(data: bytes) -> None:
    assert frame.decode(data) is None
    assert frame.decode(frame.MAGIC + data) is None


@given(pages, st.data())
def test_a_damaged_frame_is_a_miss(page: frame.Page, data: st.DataObject) -> None:
    whole = frame.encode(page)
    at = data.draw(st.integers(0, len(whole) - 1))
    assert frame.decode(whole[:at]) is None
    assert frame.decode(whole + b"x") is None
    flipped = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    assert frame.decode(flipped) is None


def poisoned(header: object, body: bytes = b"") -> bytes:
    """A frame that is whole but whose header somebody else wrote."""
    head = json.dumps(header).encode() if not isinstance(header, bytes) else header
    lengths = frame._LENGTHS.pack(len(head), len(body))
    crc = frame.zlib.crc32(lengths + head + body)
    return frame._HEAD.pack(frame.MAGIC, frame.VERSION, crc, len(head), len(body)) + head + body


GOOD = {
    "kind": "page",
    "status": 200,
    "reason": "OK",
    "headers": [["A", "b"]],
    "vector": ["00"],
    "created": 1,
    "ttl": 2,
    "cost": 0.5,
    "failed": 0,
}


def test_the_helper_makes_good_frames() -> None:
    assert isinstance(frame.decode(poisoned(GOOD)), frame.Page)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "else"},
        {"status": "200"},
        {"status": True},
        {"status": 99},
        {"reason": None},
        {"reason": "a\r\nB: c"},
        {"headers": {"A": "b"}},
        {"headers": [["A", "b\r\nSet-Cookie: c"]]},
        {"headers": [["A"]]},
        {"headers": [["", "b"]]},
        {"headers": [["A b", "c"]]},
        {"headers": [["\xc4", "c"]]},
        {"headers": [["A", "\u0100"]]},
        {"headers": [["A", "\ud800"]]},
        {"reason": "\u0100"},
        {"status": 10**4000},
        {"created": 10**400},
        {"vector": [["0" * 10000]]},
        {"headers": [[["A"], "b"]]},
        {"headers": [["A", 1]]},
        {"headers": ["AB"]},
        {"vector": ["0"]},
        {"vector": [0]},
        {"vector": None},
        {"created": float("nan")},
        {"created": float("inf")},
        {"ttl": -1},
        {"ttl": None},
        {"ttl": True},
        {"cost": -1},
        {"cost": "1"},
        {"failed": None},
    ],
)
def test_a_poisoned_header_is_a_miss(change: dict[str, Any]) -> None:
    assert frame.decode(poisoned({**GOOD, **change})) is None


@pytest.mark.parametrize("header", [[], 3, None, b"{", b"\xff", b"[" * 100_000, {"kind": "vary", "names": []}])
def test_a_header_of_another_shape_is_a_miss(header: object) -> None:
    assert frame.decode(poisoned(header)) is None


def test_another_version_and_another_type_are_misses() -> None:
    whole = frame.encode(frame.SkipMark("x"))
    assert frame.decode(whole[:4] + bytes([frame.VERSION + 1]) + whole[5:]) is None
    assert frame.decode("text") is None  # type: ignore[arg-type]
    assert frame.decode(None) is None


parts = st.recursive(
    st.none() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=8,
)


def plainly(part: Any) -> Any:
    return [plainly(item) for item in part] if isinstance(part, tuple) else part


@given(parts, parts)
def test_no_two_parts_share_an_encoding(one: Any, two: Any) -> None:
    assert (keys.encode(one) == keys.encode(two)) == (one == two)


def decode(data: bytes) -> tuple[Any, bytes]:
    """The inverse of `keys.encode`: that there is one shows that nothing is lost."""
    kind, rest = data[:1], data[1:]
    if kind == b"n":
        return None, rest
    size, rest = rest.split(b":", 1)
    if kind == b"l":
        items = []
        for _ in range(int(size)):
            item, rest = decode(rest)
            items.append(item)
        return tuple(items), rest
    value, rest = rest[: int(size)], rest[int(size) :]
    return (value.decode("utf-8", "surrogatepass") if kind == b"s" else value), rest


@given(parts)
def test_an_encoding_can_be_undone(part: Any) -> None:
    assert decode(keys.encode(part)) == (part, b"")


BASE: dict[str, Any] = {"scheme": "http", "host": "a", "path": "/", "view": "v"}


def base_key(*, view: str, key_prefix: str | None = None, **rest: Any) -> str:
    return keys.Keys(view, key_prefix).base(**rest)


@pytest.mark.parametrize(
    "change",
    [
        {"scheme": "https"},
        {"host": "b"},
        {"path": "/?"},
        {"view": "w"},
        {"arguments": (("1",), {})},
        {"arguments": ((1,), {})},
        {"arguments": ((), {"a": 1})},
        {"arguments": (([],), {})},
        {"key_prefix": ""},
        {"key_prefix": "x"},
        {"locale": ("de", None)},
        {"locale": (None, "de")},
        {"vary_on": [("cookie:a", None)]},
        {"vary_on": [("cookie:a", "")]},
        {"vary_on": [("cookie:a", "x"), ("cookie:b", "y")]},
        {"vary_on": [("cookie:a", "xcookie:b"), ("y", None)]},
    ],
)
def test_every_part_of_a_key_counts(change: dict[str, Any]) -> None:
    assert base_key(**{**BASE, **change}) != base_key(**BASE)
    assert base_key(**{**BASE, **change}) == base_key(**{**BASE, **change})


def test_second_level_keys() -> None:
    values = [None, "", "a", "a\nb"]
    found = {keys.vary_key("k", [("accept", value)]) for value in values}
    assert len(found) == len(values)
    assert keys.vary_key("k", [("A", "1"), ("b", "2")]) == keys.vary_key("k", [("b", "2"), ("a", "1")])
    assert keys.vary_key("k", [("a", None)]) != keys.vary_key("l", [("a", None)])


def test_directives() -> None:
    assert storable.directives('max-age=3, Private="a, no-store" , x') == {"max-age", "private", "x"}
    assert storable.directives("") == frozenset()
    assert storable.why_not("GET", HttpResponse(headers={"Cache-Control": 'ext="private"'})) is None
    assert storable.why_not("POST", HttpResponse()) == "method POST"
    assert storable.why_not("GET", None) == "not an HttpResponse"
    assert storable.vary_names("Accept, cookie,,ACCEPT ") == ("accept", "cookie")


def test_cache_status_is_quoted_and_appended() -> None:
    response = HttpResponse(headers={"Cache-Status": "edge; hit"})
    answers.status(response, "fwd=uri-miss", detail='a "b" \\ ü\n')
    assert response["Cache-Status"] == 'edge; hit, pooling; fwd=uri-miss; detail="a \\"b\\" \\\\ ??"'


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"timeout": "300"}, TypeError, "timeout"),
        ({"timeout": True}, TypeError, "timeout"),
        ({"timeout": float("nan")}, ValueError, "timeout"),
        ({"timeout": lambda request: None}, TypeError, "first argument"),
        ({"vary_on": "user"}, TypeError, "list"),
        ({"vary_on": ["usr"]}, ValueError, "Did you mean 'user'"),
        ({"vary_on": ["Cookie"]}, ValueError, "cookie:NAME"),
        ({"vary_on": ["cookie:"]}, ValueError, "names no cookie"),
        ({"vary_on": ["header:a b"]}, ValueError, "names no header"),
        ({"vary_on": [3]}, TypeError, "callable"),
        ({"vary_on": ["cookie:*"]}, ValueError, "Name each"),
        ({"level": "nearest"}, ValueError, "Meant 'near'"),
        ({"stale": "x"}, TypeError, "stale"),
        ({"stale": -1}, ValueError, "stale"),
        ({"stale": float("inf")}, ValueError, "stale"),
        ({"stale_if_error": True}, TypeError, "stale_if_error"),
        ({"stale_if_error": -1}, ValueError, "stale_if_error"),
        ({"key_prefix": 3}, TypeError, "key_prefix"),
        ({"cache": "defualt"}, ImproperlyConfigured, "Did you mean 'default'"),
        ({"cache": 3}, TypeError, "alias"),
        ({"reads": [], "writes": ["x"]}, TypeError, "nothing that the page"),
        ({"reads": []}, TypeError, "no groups"),
        ({"reads": "x"}, TypeError, "list"),
        ({"reads": ["a//b"]}, GroupError, "empty level"),
        ({"wait": -1}, ImproperlyConfigured, "wait"),
        ({"wait": True}, ImproperlyConfigured, "wait"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    values = {"timeout": 300, "reads": ["x"], **arguments}
    with pytest.raises(error, match=words):
        locked_cache(values.pop("timeout"), **values)


@pytest.mark.parametrize(
    ("timeout", "seconds"), [(None, FOREVER), (0, 0.0), (-5, 0.0), (1.5, 1.5), (float("inf"), FOREVER)]
)
def test_timeouts(timeout: float | None, seconds: float) -> None:
    assert CacheOptions.parse(timeout, (), None, None, None, None).timeout == seconds


def test_another_store_than_that_of_the_locks_is_refused(settings: Any) -> None:
    memory = "django.core.cache.backends.locmem.LocMemCache"
    settings.CACHES = {
        "default": {"BACKEND": memory},
        "other": {"BACKEND": memory, "LOCATION": "b"},
        "db": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "t"},
    }
    for alias, words in (("other", "share one store"), ("db", "cannot keep locks")):
        view = locked_cache(300, reads=["x"], cache=alias)(lambda request: HttpResponse())
        with pytest.raises(ImproperlyConfigured, match=words):
            view(RequestFactory().get("/"))


class Session(dict[str, Any]):
    accessed = modified = False


def tracked(request: Any, use: Any) -> set[str]:
    with Tracker(request) as tracker:
        use(request)
    return tracker.touched


@pytest.mark.parametrize(
    ("use", "touched"),
    [
        (lambda request: None, set()),
        (lambda request: request.META["HTTP_HOST"], set()),
        (lambda request: request.GET, set()),
        (lambda request: request.session, set()),
        (lambda request: request.session.get("a"), {"session:a"}),
        (lambda request: request.session["a"], {"session:a"}),
        (lambda request: request.session.pop("a"), {"session"}),
        (lambda request: "a" in request.session, {"session:a"}),
        (lambda request: bool(request.session), {"session"}),
        (lambda request: [*request.session], {"session"}),
        (lambda request: setattr(request.session, "modified", True), {"session"}),
        (lambda request: request.seen_before.__setattr__("accessed", True), {"session"}),
        (lambda request: request.user, set()),
        (lambda request: request.user.upper(), {"user"}),
        (lambda request: setattr(request, "user", "eve"), {"user"}),
        (lambda request: request.headers.get("Cookie"), {"header:cookie"}),
        (lambda request: request.headers["cookie"], {"header:cookie"}),
        (lambda request: dict(request.headers), {"header:*", "header:cookie"}),
        (lambda request: request.META["HTTP_COOKIE"], {"header:cookie"}),
        (lambda request: request.META.get("HTTP_COOKIE"), {"header:cookie"}),
        (lambda request: dict(request.META), {"header:*", "header:cookie", "header:x-a", "meta:REMOTE_ADDR"}),
        (lambda request: {**request.META}, {"header:*", "header:cookie", "header:x-a", "meta:REMOTE_ADDR"}),
        (lambda request: request.META.copy(), {"header:*"}),
        (lambda request: [*request.META], {"header:*"}),
        (lambda request: [*request.META.keys()], {"header:*"}),
        (lambda request: [*request.META.values()], {"header:*"}),
        (lambda request: request.environ.get("HTTP_COOKIE"), {"header:cookie"}),
        (lambda request: request.headers.get("Accept"), {"header:accept"}),
        (lambda request: request.headers["x_a"], {"header:x-a"}),
        (lambda request: "HTTP_ACCEPT" in request.META, {"header:accept"}),
        (lambda request: request.accepts("text/html"), {"header:accept"}),
        (lambda request: request.META.get("HTTP_X_A"), {"header:x-a"}),
        (lambda request: request.META.setdefault("HTTP_X_A", ""), {"header:x-a"}),
        (lambda request: request.META.pop("HTTP_X_A"), {"header:x-a"}),
        (lambda request: request.META["REMOTE_ADDR"], {"meta:REMOTE_ADDR"}),
        (lambda request: request.META.get("REMOTE_USER"), {"meta:REMOTE_USER"}),
        (lambda request: request.META.get("SSL_CLIENT_S_DN"), {"meta:SSL_CLIENT_S_DN"}),
        (lambda request: request.META.get("CSRF_COOKIE"), {"csrf"}),
        (lambda request: request.META.get("HTTP_X_FORWARDED_HOST"), {"header:x-forwarded-host"}),
        (lambda request: request.content_type, set()),
        (lambda request: request.META.get("CONTENT_TYPE"), {"header:content-type"}),
        (lambda request: request.headers.get("Authorization"), set()),
        (lambda request: (request.get_host(), request.scheme, request.build_absolute_uri()), set()),
        (lambda request: (request.META["PATH_INFO"], request.META["QUERY_STRING"], request.method), set()),
        (lambda request: request.get_signed_cookie("a", None), {"cookie:a"}),
        (lambda request: request.META.update(X="1"), set()),
        (lambda request: request.COOKIES["a"], {"cookie:a"}),
        (lambda request: "b" in request.COOKIES, {"cookie:b"}),
        (lambda request: request.COOKIES.get("b"), {"cookie:b"}),
        (lambda request: dict(request.COOKIES), {"cookie:*"}),
        (lambda request: {**request.COOKIES}, {"cookie:*"}),
        (lambda request: [*request.COOKIES.items()], {"cookie:*"}),
        (lambda request: len(request.COOKIES), {"cookie:*"}),
        (lambda request: request.COOKIES == {}, {"cookie:*"}),
        (lambda request: bool(request.COOKIES), {"cookie:*"}),
        (lambda request: request.META.update(CSRF_COOKIE_NEEDS_UPDATE=True), {"csrf"}),
    ],
)
def test_tracking(use: Any, touched: set[str]) -> None:
    request: Any = RequestFactory().get("/", headers={"cookie": "a=1", "host": "h", "x-a": "1"})
    request.session = request.seen_before = Session(a=1)
    request.user = user = "ann"
    cookies, session = request.COOKIES, request.session
    found = tracked(request, use)
    assert found == touched or (touched & {"cookie:*", "header:*"} and found > touched)
    assert request.COOKIES is cookies
    assert request.session is session
    assert request.user in (user, "eve")


def test_vary_on_is_a_set_of_items() -> None:
    one, two = VaryOn.parse(["user", "header:X-A", "user"]), VaryOn.parse(("header:x-a", "user"))
    assert one == two
