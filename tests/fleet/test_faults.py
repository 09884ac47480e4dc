"""The server is restarted, wiped, hung, or its answers do not arrive."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from pooling import LockLost, StoreUnavailable
from pooling.groups import Mode, plan, write_epochs
from pooling.locks import LockManager
from pooling.store._breaker import Breaker
from pooling.store._driver import RedisDriver
from pooling.store._scripts import ACQUIRE
from pooling.store._wire import Refused, Wire, check_version
from pooling.store.redis import RedisStore
from tests.proxy import Proxy
from tests.servers import PrivateRedis

from .conftest import DEADLINE, at_rest, in_thread, request, store_at, until


@pytest.fixture
def proxy(private_redis: PrivateRedis) -> Iterator[Proxy]:
    with Proxy(private_redis.host, private_redis.port) as made:
        yield made


@pytest.fixture
def cut_off(proxy: Proxy) -> Iterator[RedisStore]:
    """A store whose way to the server can be cut."""
    made = store_at(f"redis://{proxy.host}:{proxy.port}/0")
    yield made
    made.close()


def lose_the_answer(proxy: Proxy, came: Any) -> None:
    """Cut the connection when the server has done what it was asked, and before its answer is through."""
    until(came)
    proxy.cut()
    proxy.go_on()


def test_a_reply_that_is_lost_after_an_acquire_makes_no_second_holder(cut_off, proxy, store, client):
    cut_off.release(cut_off.acquire(request("a")).ticket)  # the connection is there
    asked = request("b", watches=("U:b",))
    proxy.stall(up=False)
    acquiring = in_thread(cut_off.acquire, asked)
    lose_the_answer(proxy, lambda: client.exists("{fleet}:held"))
    grant = acquiring()
    assert grant is not None
    assert [party.ticket for party in store.parties()] == [asked.ticket]
    assert store.acquire(asked) == grant
    store.release(asked.ticket)
    client.delete(*client.scan_iter("{fleet}:v:*"))
    assert at_rest(client)


def test_a_reply_that_is_lost_after_queueing_makes_no_ghost(cut_off, proxy, store, client):
    held = store.acquire(request("a"))
    cut_off.renew(["nobody"], 1)
    asked = request("a")
    proxy.stall(up=False)
    acquiring = in_thread(cut_off.acquire, asked)
    lose_the_answer(proxy, lambda: client.exists("{fleet}:wait"))
    assert acquiring() is None
    assert len(store.parties()) == 2
    store.release(held.ticket)
    assert cut_off.wait(asked.ticket, DEADLINE) is not None
    cut_off.release(asked.ticket)
    assert at_rest(client)


def test_a_reply_that_is_lost_after_a_release_frees_once(cut_off, proxy, store, client):
    store.release("nobody")  # the server knows the script
    held = cut_off.acquire(request("a"))
    proxy.stall(up=False)
    releasing = in_thread(cut_off.release, held.ticket)
    lose_the_answer(proxy, lambda: not client.exists("{fleet}:held"))
    releasing()
    assert at_rest(client)


def test_a_grant_that_is_lost_on_the_way_is_found_in_the_table(cut_off, proxy, store, client, monkeypatch):
    monkeypatch.setattr("pooling.store._mailbox.LOOK_EVERY", 1000.0)  # not found by looking now and then
    held = store.acquire(request("a", lease=1000.0))
    asked = request("a", patience=1000.0)
    assert cut_off.acquire(asked) is None
    waiting = in_thread(cut_off.wait, asked.ticket, 1000.0)
    until(lambda: client.info("clients")["blocked_clients"])  # its mailbox is being waited at
    proxy.stall(up=False)
    store.release(held.ticket)
    lose_the_answer(proxy, lambda: not client.exists(cut_off._mail.name))
    assert waiting().ticket == asked.ticket


def test_a_grant_may_come_before_the_word_that_one_must_wait(cut_off, store, client, monkeypatch):
    monkeypatch.setattr("pooling.store._mailbox.LOOK_EVERY", 1000.0)
    held = [store.acquire(request(group, lease=1000.0)) for group in "ab"]
    assert cut_off.acquire(request("a", patience=1000.0)) is None  # its mailbox is being waited at from now on
    run = cut_off._wire.run

    def slowly(script: Any, *arguments: Any, **more: Any) -> Any:
        answer = run(script, *arguments, **more)
        if script is ACQUIRE:
            store.release(held[1].ticket)
            until(lambda: cut_off._mail._early)
        return answer

    monkeypatch.setattr(cut_off._wire, "run", slowly)
    asked = request("b", patience=1000.0)
    assert (cut_off.acquire(asked) or in_thread(cut_off.wait, asked.ticket, 1000.0)()) is not None
    cut_off.release(asked.ticket)
    assert not cut_off._mail._early


def test_who_died_long_ago_in_nobodys_way_is_cleared_away(store, client):
    store.acquire(request("elsewhere", ticket="dead"))
    client.zadd("{fleet}:lease", {"dead": 1})
    store.release(store.acquire(request("a")).ticket)
    assert at_rest(client)


def test_a_mailbox_that_is_gone_is_only_a_hint_less(store, client, monkeypatch):
    monkeypatch.setattr("pooling.store._mailbox.LOOK_EVERY", 0.05)
    held, asked = store.acquire(request("a")), request("a")
    other = store_at(f"redis://127.0.0.1:{client.connection_pool.connection_kwargs['port']}/0")
    assert store.acquire(asked) is None
    store._mail.deliver = lambda messages: None  # whatever comes is dropped
    other.release(held.ticket)
    assert store.wait(asked.ticket, DEADLINE) is not None
    other.close()


def test_the_scripts_are_sent_again_when_the_server_forgot_them(store, client):
    held, asked = store.acquire(request("a")), request("a")
    client.script_flush()
    assert store.acquire(asked) is None
    client.script_flush()
    assert store.release(held.ticket)
    client.script_flush()
    assert store.wait(asked.ticket, 0) is not None
    client.script_flush()
    assert store.renew([asked.ticket], 5) == [True]
    client.script_flush()
    vector = store.epochs(["U:a"])
    client.script_flush()
    assert store.put("k", b"x", 5, ["U:a"], vector)


def test_a_wiped_table_loses_the_holders_and_who_waits_asks_again(store, client):
    holding, waiting = LockManager(store), LockManager(store)
    group = plan([], ["a"], {})
    held = holding.acquire(group)

    def wait() -> int:
        second = waiting.acquire(group, wait=DEADLINE)
        waiting.release(second)
        return second.fence

    result = in_thread(wait)
    until(lambda: len(store.parties()) == 2)
    client.flushall()
    with pytest.raises(LockLost):
        held.check()
    assert result() > held.fence  # though nobody knows the last token any more
    assert holding.release(held) is False


@pytest.mark.parametrize("part", ["held", "lease", "info"])
def test_a_part_of_the_table_that_is_gone_locks_nobody_out(store, client, part):
    store.acquire(request("a", "b"))
    client.delete(f"{{fleet}}:{part}")
    for group in "ab":
        asked = request(group)
        grant = store.acquire(asked) or store.wait(asked.ticket, DEADLINE)
        assert grant is not None
        store.release(asked.ticket)


def test_flushdb_under_the_cache_revives_nothing(store, client):
    vector = store.epochs(["U:a"])
    assert store.put("k", b"old", 60, ["U:a"], vector)
    client.flushdb()
    assert store.put("k", b"old", 60, ["U:a"], vector) is False
    assert store.fetch("k", ["U:a"]).vector != vector


def test_after_a_restart_the_first_request_succeeds(store, private_redis):
    vector = store.epochs(["U:a"])
    private_redis.restart()
    assert store.epochs(["U:a"]) != vector
    assert store.acquire(request("a")) is not None


def test_who_waits_is_told_that_the_server_is_gone(store, private_redis, caplog):
    group = plan([], ["a"], {})
    store.acquire(request("a"))
    waiting = LockManager(store)
    result = in_thread(lambda: waiting.acquire(group, wait=DEADLINE))
    until(lambda: store._mail._pending)
    private_redis.kill()
    until(lambda: "No grants of locks can arrive" in caplog.text)
    with pytest.raises(StoreUnavailable):
        result()
    private_redis.start()
    until(lambda: succeeds(lambda: store.release(store.acquire(request("b")).ticket)))


def succeeds(function: Any) -> bool:
    try:
        function()
    except StoreUnavailable:
        return False
    return True


class Counting(RedisDriver):
    """Counts how often it connects."""

    connects = 0

    def connect(self, timeout: float) -> Any:
        self.connects += 1
        return super().connect(timeout)


def test_a_hung_server_is_asked_once_and_then_only_by_a_probe(private_redis):
    driver = Counting(redis.Redis.from_url(private_redis.url))
    store = RedisStore(driver, prefix="fleet", budget=0.25)
    until(lambda: succeeds(lambda: store.release(store.acquire(request("a")).ticket)))
    private_redis.kill(signal.SIGSTOP)
    clock = [0.0]
    store._wire.breaker._clock = lambda: clock[0]
    try:
        with pytest.raises(StoreUnavailable, match=r"no answer in time.*STORE_BUDGET"):
            store.epochs(["U:a"])
        before = driver.connects
        calls = [
            lambda: store.acquire(request("a")),
            lambda: store.release("t"),
            lambda: store.renew(["t"], 1),
            lambda: store.wait("t", 5),
            lambda: store.parties(),
            lambda: store.fetch("k", ["U:a"]),
            lambda: store.put("k", b"", 1, [], ()),
            lambda: store.delete("k"),
            lambda: store.clear(),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailable, match="not asked again"):
                call()
        assert driver.connects == before
        clock[0] += 1  # half open
        with pytest.raises(StoreUnavailable, match="no answer in time"):
            store.epochs(["U:a"])
        for call in (lambda: store.epochs(["U:a"]), lambda: store.invalidate(["U:a"])):
            with pytest.raises(StoreUnavailable, match="not asked again"):
                call()
        assert driver.connects == before + 1
    finally:
        private_redis.kill(signal.SIGCONT)

    def later() -> bool:
        clock[0] += 5
        return succeeds(lambda: store.epochs(["U:a"]))

    until(later)
    assert not store._wire.breaker.open
    store.close()


@pytest.mark.parametrize("tell", ["invalidate", "release"])
def test_what_was_written_is_told_although_one_call_has_just_failed(cut_off, proxy, store, tell):
    """Others reach the server all the time, and pages that they find must not be older than a write that was answered.
    One failure does not mean that it is down; two do, and then nobody waits for it."""
    clock = [0.0]
    cut_off._wire.breaker._clock = lambda: clock[0]
    held = cut_off.acquire(request("a"))
    before = store.epochs(["U:a"])

    def written() -> None:
        if tell == "release":
            assert cut_off.release(held.ticket, ("U:a",))
        else:
            cut_off.invalidate(["U:a"])

    def fails() -> bool:
        proxy.refuse()
        proxy.cut()
        try:
            return not succeeds(lambda: cut_off.renew([held.ticket], 30))
        finally:
            proxy.listen()

    assert fails()
    with pytest.raises(StoreUnavailable, match="not asked again"):
        cut_off.epochs(["U:a"])
    written()
    assert store.epochs(["U:a"]) != before
    clock[0] += 1.0  # half open
    assert fails()
    with pytest.raises(StoreUnavailable, match="not asked again"):
        written()


def test_only_one_request_probes(private_redis):
    breaker = Breaker(clock=lambda: clock[0])
    clock = [0.0]
    breaker.failure("It is down.", False)
    with pytest.raises(StoreUnavailable, match="It is down"):
        breaker.enter()
    clock[0] = 1.0
    assert breaker.enter() is True
    with pytest.raises(StoreUnavailable, match="until the request that tries it"):
        breaker.enter()
    breaker.interrupted(True)
    assert breaker.enter() is True
    breaker.failure("Still down.", True)
    with pytest.raises(StoreUnavailable, match="Still down"):
        breaker.enter()
    clock[0] = 10.0
    breaker.success(breaker.enter())
    assert breaker.enter() is False


def test_a_dead_server_and_no_server_are_reported_alike(private_redis, store):
    store.epochs(["U:a"])
    private_redis.kill()
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{private_redis.port}/0"):
        store.epochs(["U:a"])


def test_an_interrupted_call_leaves_no_answer_for_the_next(store, monkeypatch):
    store.epochs(["U:a"])
    (line,) = store._wire._idle

    def interrupted(words: bytes) -> Any:
        line._connection.send_packed_command((words,), check_health=False)
        raise KeyboardInterrupt

    monkeypatch.setattr(line, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.fetch("k", ["U:a"])
    assert not store._wire._idle
    assert store.acquire(request("a")) is not None


def test_a_connection_in_use_when_all_are_closed_is_not_used_again(store, monkeypatch):
    store.epochs(["U:a"])
    (line,) = store._wire._idle
    ask = line.ask

    def closing_meanwhile(words: bytes) -> Any:
        answer = ask(words)
        store._wire.close()
        return answer

    monkeypatch.setattr(line, "ask", closing_meanwhile)
    store.epochs(["U:a"])
    assert not store._wire._idle
    assert line._connection._sock is None
    store.epochs(["U:a"])
    assert store._wire._idle[0] is not line


def test_a_connection_is_not_shared_by_threads(store):
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(50):
                body = f"{number}.{turn}".encode()
                store.put(f"k{number}", body, 60, [], ())
                assert store.fetch(f"k{number}", []).entry == body
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert errors == []


def test_hundreds_of_groups_at_once(store, client):
    groups = [f"top{n % 7}/é{n}" for n in range(2500)]
    epochs = write_epochs(groups)
    asked = request(*groups, renews=epochs, watches=epochs)
    grant = store.acquire(asked)
    assert len(grant.vector) == len(epochs)
    second = request(*groups)
    assert store.acquire(second) is None
    (party, _) = store.parties(["top1/é1"])
    assert dict(party.wants)["top1/é1"] is Mode.X
    store.release(asked.ticket, epochs)
    assert store.wait(second.ticket, DEADLINE) is not None
    store.release(second.ticket)
    store.clear()
    assert at_rest(client)


def test_a_wrong_password_is_said(tmp_path):
    with PrivateRedis(tmp_path / "redis", options=["--requirepass", "right"]) as server:
        for url in (server.url, server.url.replace("//", "//:wrong@")):
            with pytest.raises(StoreUnavailable, match="Correct the user and the password in CACHES"):
                store_at(url).epochs(["U:a"])
        store = store_at(server.url.replace("//", "//:right@"))
        assert store.epochs(["U:a"])
        store.close()


def test_a_user_without_the_rights_is_told_so(private_redis, client):
    client.execute_command("ACL", "SETUSER", "poor", "on", ">secret", "~*", "+get")
    store = store_at(private_redis.url.replace("//", "//poor:secret@"))
    with pytest.raises(StoreUnavailable, match="may not do this"):
        store.acquire(request("a"))
    store.close()


def test_a_server_that_became_a_replica_is_left_for_whoever_is_the_master(private_redis, client, tmp_path):
    """Behind a name or an address that moves, a connection that was kept would lead to the old one for ever."""
    with Proxy(private_redis.host, private_redis.port) as proxy, PrivateRedis(tmp_path / "other") as other:
        store = store_at(f"redis://{proxy.host}:{proxy.port}/0")
        assert store.acquire(request("a")) is not None
        client.replicaof(other.host, other.port)
        proxy.target = (other.host, other.port)
        assert store.acquire(request("b")) is not None
        client.replicaof("NO", "ONE")
        store.close()


def test_a_full_server_says_so_and_takes_no_one_in(private_redis, client):
    store = store_at(private_redis.url)
    held = store.acquire(request("b"))
    client.config_set("maxmemory", "1")
    with pytest.raises(StoreUnavailable, match="memory"):
        store.acquire(request("a"))
    client.config_set("maxmemory", "0")
    assert store.acquire(request("a")) is not None  # the server was there all the time: no pause
    assert store.release(held.ticket)
    store.close()


@pytest.mark.parametrize(("version", "fits"), [("4.0.14", False), ("5.0.3", True), ("7.0.15", True), ("10.0", True)])
def test_a_server_too_old_is_refused(version, fits):
    info = f"# Server\r\nredis_version:{version}\r\nredis_mode:standalone\r\n"
    if fits:
        check_version(info)
    else:
        with pytest.raises(Refused, match=r"Redis 4\.0\.14; at least 5\.0"):
            check_version(info)


def test_the_version_is_asked_once(private_redis, client):
    wire = Wire(RedisDriver(redis.Redis.from_url(private_redis.url)), 5.0)
    client.config_resetstat()
    for _ in range(3):
        wire.connect(5.0).close()
    assert client.info("commandstats")["cmdstat_info"]["calls"] == 1


def test_what_could_not_be_released_is_released_when_the_server_is_back(private_redis, client, caplog):
    store = store_at(private_redis.url, budget=0.5)
    manager = LockManager(store)
    held = until(lambda: attempt(lambda: manager.acquire(plan([], ["a"], {}), lease=1000)))
    private_redis.kill(signal.SIGSTOP)
    assert manager.release(held) is False
    assert "as soon as the store answers" in caplog.text
    private_redis.kill(signal.SIGCONT)
    until(lambda: not client.exists("{fleet}:held"))
    until(lambda: not store._owed.due)
    store.close()


def attempt(function: Any) -> Any:
    try:
        return function()
    except StoreUnavailable:
        return None


def test_what_is_owed_comes_before_everything_else(store, monkeypatch):
    monkeypatch.setattr("pooling.store._owed._PAUSE", 1000.0)
    held = store.acquire(request("a"))
    (vector,) = store.epochs(["U:a"])
    store.later(held.ticket, ["U:a"])
    grant = store.acquire(request("a", watches=("U:a",)))
    assert grant is not None
    assert grant.vector != (vector,)
    store.later(None, ["U:a"])
    assert store.fetch("k", ["U:a"]).vector != grant.vector


def test_as_long_as_it_is_owed_nothing_is_asked(store, private_redis, monkeypatch):
    monkeypatch.setattr("pooling.store._owed._PAUSE", 1000.0)
    held = store.acquire(request("a"))
    private_redis.kill()
    with pytest.raises(StoreUnavailable) as first:
        store.release(held.ticket)
    assert first.value.asked
    store.later(held.ticket)
    with pytest.raises(StoreUnavailable) as second:
        store.acquire(request("b"))
    assert not second.value.asked
    private_redis.start()
    until(lambda: succeeds(lambda: store.epochs(["U:a"])))
    assert not store._owed.due


def test_renewing_goes_on_after_an_outage(private_redis, store, caplog):
    caplog.set_level(logging.ERROR)
    now = [0.0]
    manager = LockManager(store, clock=lambda: now[0])
    held = manager.acquire(plan([], ["a"], {}), lease=30)
    private_redis.kill(signal.SIGSTOP)
    store._wire.budget = 0.1
    store._wire.close()
    now[0] += 11
    manager._renewer.step()
    assert "could not be renewed" in caplog.text
    private_redis.kill(signal.SIGCONT)
    store._wire.budget = 10.0

    def renewed() -> bool:
        now[0] += 4
        manager._renewer.step()
        return not store._wire.breaker.open

    until(renewed)
    held.check()
    manager.release(held)
