"""The levels of `locked_cache` through whole views: what each asks of Redis, and when each sees a write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.views.decorators.vary import vary_on_headers

from pooling import StoreUnavailable, invalidate, locked, locked_cache, runtime
from pooling.groups import read_epochs
from pooling.store._scripts import encode
from pooling.store.redis import RedisStore
from tests.proxy import Proxy
from tests.servers import PrivateRedis

from .conftest import store_at, until

LEVELS = ("remote", "validated", "near")
BODY = b"x" * 10_000
EPOCHS = read_epochs(["shop/books"])
made: Counter[str] = Counter()


def page(level: str | None, *, varies: bool = False) -> Any:
    def view(request: HttpRequest) -> HttpResponse:
        made[str(level)] += 1
        return HttpResponse(b"%d %b" % (made[str(level)], BODY))

    view.__qualname__ = f"view_{level}_{varies}"
    inner = vary_on_headers("Accept-Language")(view) if varies else view
    return locked_cache(300, reads=["shop/books"], level=level)(inner)


@pytest.fixture(autouse=True)
def site(private_redis: PrivateRedis) -> Iterator[None]:
    made.clear()
    with configured(private_redis.url):
        yield


class configured:
    """The site has its Redis there; no heartbeat falls into a test by chance."""

    def __init__(self, url: str, **pooling: Any) -> None:
        cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}
        pooling = {"STORE_BUDGET": 10.0, "NEAR_HEARTBEAT": 60.0, **pooling}
        self.settings = override_settings(CACHES={"default": cache}, POOLING=pooling)

    def __enter__(self) -> None:
        self.settings.enable()
        runtime.reset_runtime()

    def __exit__(self, *exc: object) -> None:
        self.settings.disable()
        runtime.reset_runtime()


def get(view: Any, **headers: str) -> tuple[bytes, str]:
    """The number that the page was made with, and how it was come by."""
    response = view(RequestFactory().get("/page", **headers))
    assert response.status_code == 200
    return response.content.partition(b" ")[0], response["Cache-Status"].split("; ttl")[0]


HIT = "pooling; hit"


def warm(view: Any, **headers: str) -> bytes:
    """Ask until the page is in memory and its epochs are known."""
    store = runtime.store()

    def known() -> bool:
        return get(view, **headers)[1] == HIT and store.known(EPOCHS) is not None

    until(known)
    return get(view, **headers)[0]


def commands(client: redis.Redis) -> dict[str, int]:
    found = {name.removeprefix("cmdstat_"): stat["calls"] for name, stat in client.info("commandstats").items()}
    return {name: calls for name, calls in found.items() if name != "info"}


@pytest.mark.parametrize(("level", "asked"), [("remote", {"mget": 20}), ("validated", {"mget": 20}), ("near", {})])
def test_commands_for_twenty_hits(level: str, asked: dict[str, int], client: redis.Redis) -> None:
    view = page(level)
    warm(view)
    before = commands(client)
    for _ in range(20):
        assert get(view) == (b"1", HIT)
    after = commands(client)
    assert {name: calls - before.get(name, 0) for name, calls in after.items() if calls != before.get(name, 0)} == asked


def test_what_comes_from_the_server_for_a_validated_hit_is_small(private_redis: PrivateRedis) -> None:
    with Proxy(private_redis.host, private_redis.port) as proxy:
        with configured(f"redis://{proxy.host}:{proxy.port}/0"):
            for level, most in (("validated", 200), ("near", 0)):
                view = page(level)
                warm(view)
                before = sum(link.down for link in proxy.links)
                assert get(view)[1] == HIT
                assert sum(link.down for link in proxy.links) - before <= most
            view = page("remote")
            warm(view)
            before = sum(link.down for link in proxy.links)
            assert get(view)[1] == HIT
            assert sum(link.down for link in proxy.links) - before > len(BODY)


def test_the_body_is_taken_from_memory_unless_the_level_is_remote(client: redis.Redis) -> None:
    for level in LEVELS:
        view = page(level)
        warm(view)
        for key in client.scan_iter(encode(runtime.store()._entries) + b"*"):
            client.delete(key)
        assert get(view)[1] == ("pooling; fwd=uri-miss; stored" if level == "remote" else HIT)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("how", ["invalidate", "locked", "view"])
def test_this_process_sees_its_own_write_at_once(level: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.store()._pushes, "_told", lambda push: None)  # the server's word is late
    view = page(level)
    warm(view)
    for number in range(2, 6):
        if how == "invalidate":
            invalidate("shop")
        elif how == "view":
            view.invalidate()
        else:
            with locked(writes=["shop/books"], atomic=False):
                pass
        assert get(view)[0] == b"%d" % number
        warm(view)


@pytest.mark.parametrize("level", LEVELS)
def test_a_write_of_another_process_is_seen(level: str, private_redis: PrivateRedis) -> None:
    other = store_at(private_redis.url, prefix="pooling")
    view = page(level)
    warm(view)
    other.invalidate(["U:shop/books"])
    if level == "near":
        until(lambda: get(view)[0] == b"2")
    assert get(view)[0] == b"2"
    other.close()


def test_a_page_made_without_the_lost_lock_is_gone_before_its_writer_answers(
    private_redis: PrivateRedis, client: redis.Redis
) -> None:
    """Redis forgets the lock of a writer, whose process then has a call that fails; another stores what was there
    before the COMMIT."""
    with Proxy(private_redis.host, private_redis.port) as proxy, configured(f"redis://{proxy.host}:{proxy.port}/0"):
        here, elsewhere = runtime.store(), store_at(private_redis.url, prefix="pooling")
        assert isinstance(here, RedisStore)
        here._wire.breaker._clock = lambda: 0.0

        @locked(writes=["shop/books"], atomic=False)
        def write() -> tuple[bytes, ...]:
            client.flushall()
            vector = elsewhere.epochs(EPOCHS)
            assert elsewhere.put("page", b"old", 60, EPOCHS, vector)
            proxy.refuse()
            proxy.cut()
            with pytest.raises(StoreUnavailable):
                here.epochs(EPOCHS)
            proxy.listen()
            return vector

        old = write()
        assert elsewhere.fetch("page", EPOCHS).vector != old
        elsewhere.close()


@pytest.mark.parametrize("level", ["near", "validated"])
def test_a_newer_page_of_another_process_replaces_the_one_in_memory(level: str, client: redis.Redis) -> None:
    view = page(level)
    warm(view)
    mine = runtime._bodies
    invalidate("shop/books")
    runtime._bodies = None  # as in another process, which makes the page anew
    assert get(view)[0] == b"2"
    runtime._bodies = mine
    assert get(view) == (b"2", HIT)
    assert warm(view) == b"2"


def test_a_hold_asks_for_the_versions_that_its_own_grant_has_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.store()._pushes, "_told", lambda push: None)  # the server's word is late
    view = page("near")
    warm(view)
    with locked(writes=["shop/books"], atomic=False):
        assert get(view)[0] == b"2"


def test_flushdb_makes_all_pages_misses(client: redis.Redis) -> None:
    views = [page(level) for level in LEVELS]
    for view in views:
        warm(view)
    client.flushdb()
    until(lambda: runtime.store().known(EPOCHS) is None)
    assert [get(view)[0] for view in views] == [b"2", b"2", b"2"]


def test_a_page_that_varies_is_found_in_memory_by_the_headers_it_names(client: redis.Redis) -> None:
    view = page("near", varies=True)
    for language, number in (("de", b"1"), ("en", b"2")):
        assert warm(view, HTTP_ACCEPT_LANGUAGE=language) == number
    before = commands(client)
    for language, number in (("de", b"1"), ("en", b"2")):
        assert get(view, HTTP_ACCEPT_LANGUAGE=language) == (number, HIT)
    assert commands(client) == before
    assert get(view, HTTP_ACCEPT_LANGUAGE="fr")[0] == b"3"


def test_a_page_in_memory_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    from pooling.cache import near

    view = page("near")
    warm(view)
    now = near.time.time()
    monkeypatch.setattr("pooling.cache.near.time.time", lambda: now + 300)
    assert get(view)[0] == b"2"


def test_without_memory_for_pages_every_hit_fetches_them(private_redis: PrivateRedis, client: redis.Redis) -> None:
    with configured(private_redis.url, NEAR_CACHE_BYTES=0):
        view = page("near")
        warm(view)
        before = commands(client)
        assert get(view) == (b"1", HIT)
        assert commands(client).get("mget", 0) == before.get("mget", 0) + 1
        assert len(runtime.bodies()) == 0


def test_the_level_is_validated_if_none_is_named() -> None:
    view = page(None)
    warm(view)
    assert len(runtime.bodies()) == 1
    assert isinstance(runtime.store(), RedisStore)
