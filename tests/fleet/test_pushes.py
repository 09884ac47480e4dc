"""Epochs that are known without asking: told by the server, and relied on only while it is surely heard."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from pooling import StoreUnavailable
from pooling.store import _push
from pooling.store._resp3 import Failure, Incomplete, Push, parse
from pooling.store._scripts import encode
from pooling.store.redis import RedisStore
from tests.proxy import Proxy
from tests.servers import PrivateRedis

from .conftest import request, store_at, until

NAMES = ["D:a", "U:a/é"]
LONG = 60.0  # seconds; no heartbeat falls into a test by chance


@pytest.fixture
def near(private_redis: PrivateRedis) -> Iterator[RedisStore]:
    made = store_at(private_redis.url, heartbeat=LONG)
    yield made
    made.close()


@pytest.fixture
def proxy(private_redis: PrivateRedis) -> Iterator[Proxy]:
    with Proxy(private_redis.host, private_redis.port) as made:
        yield made


def learn(store: RedisStore, names: list[str] = NAMES) -> tuple[bytes, ...]:
    """Ask until the answer is also known without asking. The first times the words of their making come after it."""

    def known() -> tuple[bytes, ...] | None:
        vector = store.epochs(names)
        return vector if store.known(names) == vector else None

    return until(known)


def forgotten(store: RedisStore, names: list[str] = NAMES) -> None:
    until(lambda: store.known(names) is None)


def test_no_thread_and_no_connection_until_somebody_wants_to_know(near, client):
    near.epochs(NAMES)
    assert near._pushes._thread is None
    before = len(client.client_list())
    assert near.known(NAMES) is None
    learn(near)
    assert len(client.client_list()) == before + 1
    near.close()
    until(lambda: near._pushes._thread is None)
    assert near.known(NAMES) is None


def test_it_ends_when_nobody_asks_any_more_and_starts_again(private_redis, client, monkeypatch):
    monkeypatch.setattr(_push, "_IDLE", 0.05)
    near = store_at(private_redis.url, heartbeat=0.03)
    learn(near)
    until(lambda: near._pushes._thread is None)
    assert not client.client_list(_type="pubsub")
    learn(near)
    near.close()


def test_the_server_bounds_what_it_keeps_for_who_does_not_read(near, client):
    learn(near)
    assert len(client.client_list(_type="pubsub")) == 1


@pytest.mark.parametrize("write", ["invalidate", "release", "grant", "other_prefix"])
def test_a_write_elsewhere_is_told(near, private_redis, write):
    other = store_at(private_redis.url, **({"prefix": "other"} if write == "other_prefix" else {}))
    vector = learn(near)
    if write == "release":
        asked = request("a")
        other.acquire(asked)
        other.release(asked.ticket, ("D:a",))
    elif write == "grant":
        other.acquire(request("a", renews=("D:a",)))
    else:
        other.invalidate(["D:a"])
    if write == "other_prefix":
        client_of(other).set(near.tag + "v:D:b", "x")  # is told after it
        learn(near, ["D:b"])
        assert near.known(NAMES) == vector
    else:
        forgotten(near)
        assert near.known(NAMES[1:]) == vector[1:]
        assert learn(near) != vector
    other.close()


def client_of(store: RedisStore) -> redis.Redis:
    driver = store._wire.driver
    return redis.Redis(host=driver._kwargs["host"], port=driver._kwargs["port"])


@pytest.mark.parametrize("how", ["flushdb", "delete", "expire", "swap"])
def test_epochs_that_go_otherwise_are_told(near, client, how):
    vector = learn(near)
    key = encode(near._epochs + NAMES[0])
    if how == "flushdb":
        client.flushdb()
    elif how == "delete":
        client.delete(key)
    elif how == "expire":
        until(lambda: client.pexpire(key, 300) and learn(near) and 0 < client.pttl(key) <= 300)
    else:
        client.set(key, b"another")
    forgotten(near)
    assert near.epochs(NAMES) != vector


def test_an_evicted_epoch_is_told(tmp_path):
    options = ["--maxmemory", "3mb", "--maxmemory-policy", "volatile-lru"]
    with PrivateRedis(tmp_path / "redis", options=options) as server:
        near = store_at(server.url, heartbeat=LONG)
        learn(near)
        number = 0
        with redis.Redis.from_url(server.url) as client:
            while client.exists(encode(near._epochs + NAMES[0])):
                number += 1
                near.put(f"k{number}", b"x" * 20_000, 60, [], ())
        forgotten(near)
        near.close()


# -- what this process writes


def write_by_release(store: RedisStore) -> None:
    asked = request("a")
    store.acquire(asked)
    store.release(asked.ticket, tuple(NAMES))


WRITES = {
    "invalidate": lambda store: store.invalidate(NAMES),
    "release": write_by_release,
    "later": lambda store: store.later(None, NAMES),
    "clear": lambda store: store.clear(),
}


@pytest.mark.parametrize("how", WRITES)
def test_who_writes_sees_it_at_once(near, how, monkeypatch):
    monkeypatch.setattr(near._pushes, "_told", lambda push: None)  # the server's word is late
    vector = learn(near)
    WRITES[how](near)
    assert near.known(NAMES[:1]) is near.known(NAMES[1:]) is None
    assert all(new != old for new, old in zip(near.epochs(NAMES), vector, strict=True))


def test_a_write_that_may_have_been_done_counts_as_done(near, private_redis):
    learn(near)
    private_redis.kill(signal.SIGSTOP)
    near._wire.budget = 0.05
    near._wire.close()
    try:
        with pytest.raises(StoreUnavailable):
            near.invalidate(NAMES)
        assert near.known(NAMES[:1]) is None
    finally:
        private_redis.kill(signal.SIGCONT)


def test_a_change_that_is_told_while_another_reads_is_not_overwritten(near, private_redis, monkeypatch):
    """The answer with the old values is held up until the word of the change has come."""
    other = store_at(private_redis.url)
    learn(near)
    real = near._fetch

    def held_up(key, names):
        found = real(key, names)
        number = near._known._number
        other.invalidate(NAMES)
        until(lambda: near._known._number >= number + 2)
        return found

    monkeypatch.setattr(near, "_fetch", held_up)
    old = near.epochs(NAMES)
    assert near.known(NAMES[:1]) is near.known(NAMES[1:]) is None
    monkeypatch.undo()
    assert near.epochs(NAMES) != old
    other.close()


# -- what happens to the connection


def through(proxy: Proxy, **options: object) -> RedisStore:
    return store_at(f"redis://{proxy.host}:{proxy.port}/0", **options)


@pytest.mark.parametrize("reset", [False, True])
def test_with_the_connection_all_is_forgotten_and_it_comes_back(proxy, reset):
    near = through(proxy, heartbeat=LONG)
    learn(near)
    proxy.refuse()
    proxy.cut(reset=reset)
    forgotten(near, NAMES[:1])
    with pytest.raises(StoreUnavailable):
        near.epochs(NAMES)
    assert near.known(NAMES) is None
    proxy.listen()

    def again() -> bool:
        try:
            return bool(learn(near))
        except StoreUnavailable:
            return False

    until(again)
    near.close()


def test_what_is_known_comes_from_the_server_that_tells_of_its_changes(proxy, private_redis, tmp_path, monkeypatch):
    """A failover while the connection is made anew: in between somebody asks the last master, which answers still."""
    with PrivateRedis(tmp_path / "next") as following:
        near = through(proxy, heartbeat=LONG)
        old = learn(near)
        ask, answered = _push._Talk.ask, []

        def meanwhile(talk, request, seconds):
            ask(talk, request, seconds)
            if b"TRACKING" in request:
                proxy.target = (private_redis.host, private_redis.port)
                answered.append(near.epochs(NAMES))
                proxy.target = (following.host, following.port)

        monkeypatch.setattr(_push._Talk, "ask", meanwhile)
        proxy.target = (following.host, following.port)
        proxy.cut()
        until(lambda: answered)
        assert answered == [old]
        until(lambda: near.known([]) == ())
        vector = learn(near)
        assert vector != old
        with contextlib.closing(store_at(following.url)) as other:
            assert other.epochs(NAMES) == vector
            other.invalidate(NAMES)
            forgotten(near)
        near.close()


class Clock:
    """`time.monotonic`, set forward at will."""

    later = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.later


@pytest.mark.parametrize("fault", ["no way", "no way back", "server hangs"])
def test_a_connection_that_is_dead_without_a_sign_is_relied_on_for_one_heartbeat(proxy, private_redis, fault):
    """The way is cut without a FIN, something is written elsewhere, and a heartbeat later nothing old is answered."""
    clock = Clock()
    near = through(proxy, heartbeat=LONG, clock=clock)
    vector = learn(near)
    sent = clock()  # the last request was sent before this
    if fault == "server hangs":
        private_redis.kill(signal.SIGSTOP)
    else:
        proxy.stall(up=fault == "no way")
        with redis.Redis.from_url(private_redis.url) as other:
            other.delete(*[encode(near._epochs + name) for name in NAMES])
    try:
        assert near.known(NAMES) == vector  # nobody could know
        clock.later += sent + LONG - clock()
        assert near.known(NAMES) is None
    finally:
        private_redis.kill(signal.SIGCONT)
    near.close()


def test_an_answer_that_comes_late_prolongs_nothing(proxy, monkeypatch):
    """Relied on is for a heartbeat from when the request was sent, not from when the answer came."""
    until_when: list[float] = []
    near = through(proxy, heartbeat=LONG)
    trust = near._known.trust
    monkeypatch.setattr(near._known, "trust", lambda until: (until_when.append(until), trust(until)))
    proxy.delay = 0.1
    before = time.monotonic()
    near.known(NAMES)
    until(lambda: until_when)
    came = time.monotonic()
    assert before + LONG < until_when[0] <= came + LONG - 0.2
    near.close()


def test_a_silent_connection_is_replaced(proxy):
    near = through(proxy, heartbeat=0.3)
    until(lambda: near.known([]) == ())
    (link,) = proxy.links
    learn(near)
    accepted = proxy.accepted
    link.forgotten = True
    until(lambda: proxy.accepted > accepted and near.known([]) == ())
    near.close()


def test_a_word_that_comes_with_the_answer_is_told_before_the_answer_counts():
    """So it is after this process was stopped: all that came meanwhile is there at once."""
    told: list[Push] = []
    talk = _push._Talk(Pieces([b":0\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n"]), time.monotonic, told.append)
    talk.ask(b"", 5.0)
    assert told == [Push([b"invalidate", [b"a"]])]


class Pieces:
    """A socket from which these pieces come, one after the other."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def settimeout(self, seconds: float | None, /) -> None:
        pass

    def sendall(self, data: bytes, /) -> None:
        pass

    def recv(self, size: int, /) -> bytes:
        return self.pieces.pop(0)


def test_a_user_who_may_not_be_told_is_answered_after_asking(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(_push, "_FIRST_PAUSE", 0.001)
    with PrivateRedis(tmp_path / "redis") as server:
        with redis.Redis(port=server.port) as client:
            client.execute_command("ACL", "SETUSER", "site", "on", ">x", "~*", "+@all", "-client|tracking")
        near = store_at(f"redis://site:x@127.0.0.1:{server.port}/0")

        def warned() -> bool:
            assert near.known(NAMES) is None
            return "treated as 'validated' for the present" in caplog.text

        until(warned)
        assert "client|tracking" in caplog.text
        near.close()


def test_a_user_without_channels_is_told_all_the_same(tmp_path):
    with PrivateRedis(tmp_path / "redis") as server:
        with redis.Redis(port=server.port) as client:
            client.execute_command("ACL", "SETUSER", "site", "on", ">x", "~*", "resetchannels", "+@all")
        near = store_at(f"redis://site:x@127.0.0.1:{server.port}/0")
        learn(near)
        near.close()


def test_a_replica_is_not_relied_on(private_redis, tmp_path):
    with PrivateRedis(tmp_path / "replica") as replica:
        near = store_at(replica.url, heartbeat=0.3)
        learn(near)
        with redis.Redis(port=replica.port) as client:
            client.replicaof(private_redis.host, private_redis.port)
        forgotten(near, [])
        near.close()


def test_a_forked_child_knows_nothing_and_learns_for_itself(near, private_redis, client):
    vector = learn(near)
    (mine,) = client.client_list(_type="pubsub")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            knew = near.known(NAMES)
            learnt = learn(near)
            os.write(writing, repr((knew, learnt)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == repr((None, vector))
    assert os.waitpid(child, 0)[1] == 0
    assert near.known(NAMES) == vector  # the parent's connection is as it was
    until(lambda: [one["id"] for one in client.client_list(_type="pubsub")] == [mine["id"]])
    other = store_at(private_redis.url)
    other.invalidate(NAMES)
    forgotten(near)
    other.close()


def test_threads_start_one_connection(near, client):
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        near.known(NAMES)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    learn(near)
    assert len(client.client_list(_type="pubsub")) == 1


# -- the protocol


MESSAGES: list[tuple[bytes, object]] = [
    (b"+OK\r\n", b"OK"),
    (b":12\r\n", b"12"),
    (b"$3\r\na\r\n\r\n", b"a\r\n"),
    (b"$-1\r\n", None),
    (b"_\r\n", None),
    (b"-NOPERM no\r\n", Failure("NOPERM no")),
    (b"%1\r\n+a\r\n*2\r\n:1\r\n_\r\n", [b"a", [b"1", None]]),
    (b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n", Push([b"invalidate", [b"k"]])),
    (b">2\r\n$10\r\ninvalidate\r\n_\r\n", Push([b"invalidate", None])),
]


@pytest.mark.parametrize(("data", "message"), MESSAGES)
def test_a_message_is_read_whole_or_not_at_all(data, message):
    assert parse(data + b"+next", 0) == (message, len(data))
    for at in range(len(data)):
        with pytest.raises(Incomplete):
            parse(data[:at])


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n", b"$x\r\n", b"*1\r\n" * 20])
def test_another_protocol_is_no_message(data):
    with pytest.raises(ValueError, match=r"begins with|invalid literal"):
        parse(data)
