"""A call of the store has one deadline for all of it, however little comes in however often."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from pooling import StoreUnavailable
from pooling.store import _bounded
from pooling.store._bounded import Bounded
from tests.proxy import Proxy
from tests.servers import PrivateRedis

from .conftest import store_at, until

ENTRY = b"x" * 400
BUDGET, DRIP = 0.5, 0.02  # seconds; the entry alone takes many times the budget


@pytest.fixture
def proxy(private_redis: PrivateRedis) -> Iterator[Proxy]:
    with Proxy(private_redis.host, private_redis.port) as made:
        yield made


@pytest.fixture
def behind(proxy: Proxy) -> Iterator[Any]:
    store = store_at(f"redis://{proxy.host}:{proxy.port}/0", budget=BUDGET)
    yield store
    store.close()


def fetched(store: Any) -> bytes | None:
    try:
        return store.fetch("k", ["U:a"]).entry
    except StoreUnavailable:
        return None


def put(store: Any) -> bool:
    try:
        return store.put("k", ENTRY, 60, [], ())
    except StoreUnavailable:
        return False


def test_an_answer_that_drips_in_is_given_up_and_never_taken_for_the_next(proxy, behind):
    until(lambda: put(behind))
    until(lambda: fetched(behind) == ENTRY)
    (link,) = proxy.links
    before = link.down
    proxy.drip = DRIP
    with pytest.raises(StoreUnavailable, match=r"no answer in time.*STORE_BUDGET"):
        behind.fetch("k", ["U:a"])
    assert 0 < link.down - before < len(ENTRY)  # it was still coming
    assert not behind._wire._idle
    proxy.drip = 0.0
    until(lambda: fetched(behind) == ENTRY)
    assert proxy.accepted > 1


def test_a_greeting_that_drips_in_is_given_up(proxy, behind):
    behind._wire._checked = True  # or else the version is asked for, which alone would take too long
    proxy.drip = 2 * BUDGET / 10  # so that no single step takes too long
    with pytest.raises(StoreUnavailable, match=r"STORE_BUDGET"):
        behind.load("k")
    assert not behind._wire._idle
    proxy.drip = 0.0
    until(lambda: put(behind))
    assert fetched(behind) == ENTRY


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(_bounded, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_what_is_there_is_not_read_after_the_deadline(pair, clock):
    bounded = Bounded(pair[0], 0.0)
    pair[1].sendall(b"abc")
    bounded.begin(8.0)
    assert bounded.recv(1) == b"a"
    clock[0] += 7.0
    assert bounded.recv(1) == b"b"
    assert pair[0].gettimeout() == 1.0
    clock[0] += 1.0
    for operation in (lambda: bounded.recv(1), lambda: bounded.recv_into(bytearray(1)), lambda: bounded.sendall(b"x")):
        with pytest.raises(TimeoutError):
            operation()
    bounded.begin(8.0)
    assert bounded.recv(1) == b"c"
    assert pair[0].gettimeout() == 8.0


def test_calls_of_one_length_set_the_time_out_once(pair, clock):
    class Counting:
        def __init__(self) -> None:
            self.times: list[float] = []

        def settimeout(self, seconds: float) -> None:
            self.times.append(seconds)

        def recv(self, size: int) -> bytes:
            return b"x"

    sock = Counting()
    bounded = Bounded(sock, 0.0)
    for _ in range(5):
        bounded.begin(8.0)
        clock[0] += 0.01
        bounded.recv(1)
    assert len(sock.times) == 1


def test_a_look_without_waiting_stays_one(pair, clock):
    bounded = Bounded(pair[0], 0.0)
    bounded.begin(8.0)
    bounded.settimeout(0)
    with pytest.raises(BlockingIOError):
        bounded.recv(1)
    bounded.settimeout(30)  # what the library would allow is more than what is left
    pair[1].sendall(b"a")
    assert bounded.recv(1) == b"a"
    assert pair[0].gettimeout() == 8.0
