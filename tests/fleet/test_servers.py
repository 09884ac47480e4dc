"""The ways in which a site may have its Redis: through django-redis's options, Sentinel, a cluster."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from redis.crc import key_slot

from demo_site.servers import HOST, free_port
from pooling import StoreUnavailable, locked, runtime
from pooling.store._scripts import encode
from pooling.store.memory import MemoryStore
from pooling.store.redis import RedisStore
from tests.servers import PrivateRedis

from .conftest import DEADLINE, in_thread, request, store_at, until
from .several import cluster, is_master, through, watched_over


@pytest.fixture(autouse=True)
def fresh_runtime() -> Iterator[None]:
    runtime.reset_runtime()
    yield
    runtime.reset_runtime()


def configured(location: Any, **options: Any) -> Any:
    cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location, "OPTIONS": options}
    return override_settings(CACHES={"default": cache}, POOLING={"STORE_BUDGET": 10.0})


def works() -> bool:
    """Can groups be locked, and is it a Redis store that does it?"""
    assert isinstance(runtime.store(), RedisStore)
    with locked(writes=["a"], atomic=False) as held:
        held.check()
        return len(runtime.store().parties()) == 1


def contend(store: RedisStore, other: RedisStore) -> None:
    """One store waits for the other's groups and gets them; an entry of one is there for the other."""
    held, asked = store.acquire(request("a", "b")), request("b", watches=("U:b",))
    assert other.acquire(asked) is None
    waiting = in_thread(other.wait, asked.ticket, DEADLINE)
    assert store.release(held.ticket, ("U:b",))
    grant = waiting()
    assert grant.token > held.token
    assert store.put("k", b"body", 60, ["U:b"], grant.vector)
    assert other.fetch("k", ["U:b"]).entry == b"body"
    assert other.release(asked.ticket)


def test_options_of_django_redis_are_taken_over(tmp_path):
    # A database each, since django-redis has one pool for each URL, with the options that were the first to come.
    with PrivateRedis(tmp_path / "redis", options=["--requirepass", "right"]) as server:

        def url(db: int) -> str:
            return f"redis://{HOST}:{server.port}/{db}"

        with configured(url(7), PASSWORD="right"):
            assert works()
        with redis.Redis(port=server.port, password="right", db=7) as client:
            assert client.exists("{pooling}:seq")
            client.execute_command("ACL", "SETUSER", "site", "on", ">secret", "~*", "&*", "+@all")
        with configured(url(1), USERNAME="site", PASSWORD="secret"):
            assert works()
        with configured(f"unix://{server.socket}?db=3", PASSWORD="right"):
            assert works()
        with configured([url(2), "redis://127.0.0.1:1/0"], PASSWORD="right"):
            assert works()  # the first one is where is written
        herd = {"CLIENT_CLASS": "django_redis.client.HerdClient", "SOCKET_TIMEOUT": 100, "SOCKET_CONNECT_TIMEOUT": 100}
        with configured(url(4), PASSWORD="right", **herd):
            assert works()
            assert runtime.store()._wire.connect(5.0)._connection.socket_timeout <= 5.0
        with configured(url(5), PASSWORD="wrong"), pytest.raises(StoreUnavailable, match="password"):
            works()


def test_tls(tmp_path):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*make, *names], check=True, capture_output=True)
    with PrivateRedis(tmp_path / "probe") as probe:
        port = probe.port
    tls = ["--tls-port", str(port), "--tls-cert-file", str(cert), "--tls-key-file", str(key)]
    with PrivateRedis(tmp_path / "redis", options=[*tls, "--tls-auth-clients", "no"]):
        url = f"rediss://127.0.0.1:{port}/"
        with configured(url + "0", CONNECTION_POOL_KWARGS={"ssl_ca_certs": str(cert)}):
            assert works()
        with configured(url + "1"), pytest.raises(StoreUnavailable, match="certificate"):
            works()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"CLIENT_CLASS": "django_redis.client.ShardClient"}, "spreads the keys over several servers"),
        ({"CLIENT_CLASS": "no.such.Client"}, "cannot be imported"),
        ({"CLIENT_CLASS": "tests.fleet.test_servers.Foreign"}, "is no DefaultClient"),
    ],
)
def test_clients_that_cannot_keep_locks_are_refused(options, says):
    with configured("redis://127.0.0.1:1/0", **options):
        with pytest.raises(ImproperlyConfigured, match=says):
            runtime.store()
        assert [message.id for message in run_checks(tags=["pooling"])].count("pooling.E004") == 1


class Foreign:
    pass


def test_each_alias_has_its_store_and_they_keep_it(private_redis):
    with configured(private_redis.url):
        first = runtime.store()
        with override_settings(POOLING={"STORE_BUDGET": 10.0, "KEY_PREFIX": "other"}):
            assert runtime.store() is not first
            assert runtime.store().tag == "{other}:"
        assert runtime.store() is first
    assert isinstance(runtime.store(), MemoryStore)


@pytest.mark.parametrize("prefix", ["a}b", "{", "}", "%7D", "é", "a b*?[x]"])
def test_any_prefix_makes_one_hash_tag_and_clears_only_its_own(private_redis, prefix):
    mine, other = store_at(private_redis.url, prefix=prefix), store_at(private_redis.url, prefix=prefix + "2")
    contend(mine, mine)
    (vector,) = other.epochs(["U:a"])
    with redis.Redis.from_url(private_redis.url) as client:
        keys = [key for key in client.scan_iter() if key.startswith(encode(mine.tag))]
    assert len(keys) >= 3
    assert len({key_slot(key) for key in keys}) == 1
    assert {key_slot(encode(mine.tag[1:-2]))} == {key_slot(key) for key in keys}
    mine.clear()
    assert mine.fetch("k", []).entry is None
    assert other.epochs(["U:a"]) == (vector,)
    mine.close()
    other.close()


# -- checks


def deploy_ids() -> list[str | None]:
    return [message.id for message in run_checks(tags=["pooling"], include_deployment_checks=True)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("policy", "warned"),
    [("allkeys-lru", True), ("allkeys-random", True), ("volatile-lru", False), ("noeviction", False)],
)
def test_a_policy_that_evicts_locks_is_warned_of(private_redis, policy, warned):
    with redis.Redis.from_url(private_redis.url) as client:
        client.config_set("maxmemory-policy", policy)
    with configured(private_redis.url):
        assert deploy_ids().count("pooling.W004") == warned
        assert "pooling.W003" not in deploy_ids()
        assert "pooling.W005" not in deploy_ids()


@pytest.mark.django_db
def test_a_server_that_cannot_be_used_is_warned_of_before_a_deployment_only(private_redis):
    private_redis.stop()
    with configured(private_redis.url):
        assert deploy_ids().count("pooling.W005") == 1
        assert "pooling.W005" not in [message.id for message in run_checks(tags=["pooling"])]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("rights", "warned", "usable"),
    [
        ("~* +@all", [], True),
        ("~* +@all -info", ["pooling.W004"], True),
        ("~* +@all -@scripting", ["pooling.W005"], False),
        ("~other* +@all", ["pooling.W005"], False),
    ],
)
def test_a_user_with_too_few_rights_is_warned_of(private_redis, caplog, rights, warned, usable):
    with redis.Redis.from_url(private_redis.url) as client:
        client.execute_command("ACL", "SETUSER", "weak", "on", ">pw", *rights.split())
    with configured(private_redis.url.replace("redis://", "redis://weak:pw@")):
        assert [name for name in deploy_ids() if name in ("pooling.W004", "pooling.W005")] == warned
        if usable:
            assert works()
            return
        for _ in range(2):
            with (
                pytest.raises(StoreUnavailable, match="the user's rights in Redis"),
                locked(writes=["a"], atomic=False),
            ):
                raise AssertionError("must not be entered")
        # It was refused, so nothing is to be given back; said in one line, since each request may come to it.
        assert all(record.exc_info is None for record in caplog.records)


@pytest.mark.parametrize(
    ("location", "says"), [("http://127.0.0.1/0", "the following schemes"), ("", r"string\. Correct LOCATION")]
)
def test_an_address_that_is_none_is_an_error_of_the_check(location, says):
    with configured(location):
        (message,) = (found for found in run_checks(tags=["pooling"]) if found.id == "pooling.E004")
        assert re.search(says, message.msg)
        assert "'default'" in message.msg
        with pytest.raises(ImproperlyConfigured, match=says), locked(writes=["a"], atomic=False):
            raise AssertionError("must not be entered")


def test_a_database_that_is_not_there_is_not_asked_for_by_each_request(private_redis):
    with configured(f"{private_redis.url.rsplit('/', 1)[0]}/99"):
        with pytest.raises(StoreUnavailable, match="DB index is out of range") as first:
            runtime.store().epochs(["U:a"])
        assert first.value.asked
        with pytest.raises(StoreUnavailable, match="not asked again") as second:
            runtime.store().epochs(["U:a"])
        assert not second.value.asked


def test_a_full_memory_is_told_by_that_name(private_redis):
    with configured(private_redis.url), redis.Redis.from_url(private_redis.url) as client:
        client.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailable, match=r"memory is full.*volatile-lru"), locked(writes=["a"], atomic=False):
            raise AssertionError("must not be entered")
        client.config_set("maxmemory", 0)
        assert works()


def test_evicted_epochs_come_back_different(tmp_path):
    options = ["--maxmemory", "3mb", "--maxmemory-policy", "volatile-lru"]
    with PrivateRedis(tmp_path / "redis", options=options) as server:
        store = store_at(server.url)
        held = store.acquire(request("a"))
        seen = {store.epochs(["U:a"])}
        number = 0
        with redis.Redis.from_url(server.url) as client:
            while client.exists(encode(store._epochs + "U:a")):
                number += 1
                store.put(f"k{number}", b"x" * 20_000, 60, [], ())
        assert store.epochs(["U:a"]) not in seen
        assert store.renew([held.ticket], 30) == [True]  # the table has no expiry: it is never taken
        store.close()


# -- more than one server


def test_a_cluster_of_three(tmp_path):
    with cluster(tmp_path, 3) as nodes:
        clients = [redis.Redis(port=node.port) for node in nodes]
        for prefix in ("one", "two", "three", "four", "five"):  # their slots are on different nodes
            stores = [store_at(node.url, prefix=prefix) for node in nodes]
            for store, other in zip(stores, stores[1:] + stores[:1], strict=True):
                contend(store, other)
            for store in stores:
                store.close()
        with configured(nodes[0].url):
            assert works()
        used = [client.dbsize() for client in clients]
        assert all(used), used
        for client in clients:
            client.close()


def test_a_node_that_one_was_sent_to_and_that_is_gone_is_forgotten(private_redis):
    store = store_at(private_redis.url)
    store._wire.driver.redirect(HOST, free_port())
    assert store.epochs(["U:a"])
    assert store._wire.driver.name() == f"{HOST}:{private_redis.port}/0"
    store.close()


def test_sentinel_fails_over_and_tokens_go_on_growing(tmp_path):
    with watched_over(tmp_path) as (master, replica, sentinel), configured("redis://shop/0", **through(sentinel)):
        until(lambda: attempt(works))
        store = runtime.store()
        before = store.acquire(request("b"))
        master.kill()
        until(lambda: is_master(sentinel, replica))
        until(lambda: attempt(works))
        assert store.acquire(request("c")).token > before.token


def attempt(function: Any) -> bool:
    try:
        return bool(function())
    except StoreUnavailable:
        return False
