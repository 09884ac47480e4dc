"""What others put into the store under our keys, or what was altered on the way, is a miss: nothing is executed,
nothing fails, nothing is taken for a page."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from django.http import HttpResponse
from django.test import Client
from hypothesis import given, settings
from hypothesis import strategies as st

from pooling import runtime
from pooling.cache import answers, frame

from .. import stores
from . import views
from .test_parts import GOOD as WHOLE
from .test_parts import pages, poisoned

pytestmark = pytest.mark.django_db(transaction=True)
EXECUTED = Path(os.environ.get("TMPDIR", "/tmp")) / f"pooling-executed-{os.getpid()}"


class Bomb:
    def __reduce__(self) -> Any:
        return (EXECUTED.touch, ())


def send(found: frame.Page) -> None:
    """Make of it what a web server writes."""
    response = answers.status(answers.answer(found, "GET"), "hit")
    lines = response.serialize_headers().split(b"\r\n")
    assert len(lines) == len(response.headers)
    response.reason_phrase.encode("latin-1")


@settings(max_examples=300)
@given(pages, st.data())
def test_no_alteration_makes_another_page(page: frame.Page, data: st.DataObject) -> None:
    whole = frame.encode(page)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    altered = whole[:start] + data.draw(st.binary(max_size=20)) + whole[end:]
    assert frame.decode(altered) in ((page,) if altered == whole else (None,))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("00"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
GOOD = {name: value for name, value in WHOLE.items() if name != "kind"}


@settings(max_examples=300)
@given(st.sampled_from(["page", "vary", "skip", "else", ""]), st.data(), st.binary(max_size=20))
def test_a_whole_frame_of_anything_is_a_miss_or_can_be_sent(kind: str, data: st.DataObject, body: bytes) -> None:
    """Somebody who knows the format can store a page. He cannot store what makes a hit fail."""
    header = {"kind": kind, **GOOD, **data.draw(st.dictionaries(st.sampled_from(sorted(GOOD)), values, max_size=2))}
    found = frame.decode(poisoned(header, body))
    if isinstance(found, frame.Page):
        send(found)


@pytest.mark.parametrize("depth", [1, 500, 5000, 100_000])
def test_a_header_of_any_depth(depth: int) -> None:
    header = json.dumps({"kind": "page", **GOOD}).encode()
    assert frame.decode(poisoned(header)) is not None
    assert frame.decode(poisoned(header.replace(b'"b"', b"[" * depth + b"]" * depth))) is None
    assert frame.decode(poisoned(header.replace(b'"b"', b'{"a":' * depth + b"1" + b"}" * depth))) is None


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_lengths_that_are_not_there(head: int, body: int) -> None:
    whole = frame.encode(frame.SkipMark("x"))
    for size in (frame._HEAD.size, len(whole)):
        lying = frame._HEAD.pack(frame.MAGIC, frame.VERSION, 0, head, body) + whole[frame._HEAD.size : size]
        assert frame.decode(lying) is None


BYTES = {
    "pickle": pickle.dumps(HttpResponse("evil")),
    "bomb": pickle.dumps(Bomb()),
    "text": b"evil",
    "number": b"7",
    "empty": b"",
    "older": frame.encode(frame.SkipMark("x")).replace(frame.MAGIC + b"\x01", frame.MAGIC + b"\x00"),
}


@pytest.mark.parametrize("kind", BYTES)
def test_bytes_of_others_under_the_key_of_a_page(kind: str) -> None:
    client = Client()
    key = views.plain.key(client.get("/plain").wsgi_request)
    runtime.store().put(key, BYTES[kind], 60, (), ())
    after = client.get("/plain")
    assert (after.content, after["Cache-Status"]) == (b"plain 2", "pooling; fwd=uri-miss; stored")
    assert client.get("/plain").content == b"plain 2"
    assert not EXECUTED.exists()


TYPES: dict[str, Callable[[Any, Any], Any]] = {
    "pickle": lambda server, key: server.set(key, BYTES["bomb"]),
    "list": lambda server, key: server.rpush(key, "evil"),
    "hash": lambda server, key: server.hset(key, "evil", "evil"),
    "zset": lambda server, key: server.zadd(key, {"evil": 1}),
    "set": lambda server, key: server.sadd(key, "evil"),
    "stream": lambda server, key: server.xadd(key, {"evil": "1"}),
}


@pytest.mark.parametrize("what", [":e:page:", ":v:", ":"])
@pytest.mark.parametrize("kind", TYPES)
def test_values_of_another_type_in_redis(
    kind: str, what: str, settings: Any, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    """Under the keys of pages, of versions, and of both."""
    stores.use("redis", settings, monkeypatch, redis_url)
    client = Client()
    for url in ("/plain", "/varying"):
        client.get(url)
    runs = views.calls["plain"], views.calls["varying"]
    with redis.Redis.from_url(redis_url) as server:
        keys = [key for key in server.scan_iter() if what.encode() in key and (b":e:" in key or b":v:" in key)]
        assert keys
        for key in keys:
            server.delete(key)
            TYPES[kind](server, key)
    for url, body in (("/plain", b"plain 2"), ("/varying", b"kind None")):
        after = client.get(url)
        assert (after.status_code, after.content) == (200, body)
        assert "stored" in after["Cache-Status"]
        assert "hit" in client.get(url)["Cache-Status"]
    assert (views.calls["plain"], views.calls["varying"]) == (runs[0] + 1, runs[1] + 1)
    assert not EXECUTED.exists()
