"""What probes are told, and that a process which was unfit is found fit again without any visitor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import caches
from django.db import OperationalError, connection, connections
from django.test import Client

from pooling import runtime
from pooling.errors import StoreUnavailable
from pooling.status import health, here

from .. import servers, stores
from ..waiting import until

PATHS = ("/pooling/health/", "/pooling/health/ready/", "/pooling/health/live/")


@pytest.fixture(autouse=True)
def routes(settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = "tests.status.bare_urls"
    yield
    assert health._trying.acquire(timeout=30)  # no try outlives its test
    health._trying.release()


def ask(path: str = "/pooling/health/") -> int:
    answer = Client().get(path)
    assert answer.json() == {"status": "ok" if answer.status_code == 200 else "unavailable"}
    assert answer.status_code in (200, 503)
    return answer.status_code


def fails(use: Callable[[], object]) -> None:
    """Use it until that fails: a dead server may be noticed one use later."""

    def failed() -> bool:
        try:
            use()
        except (OperationalError, StoreUnavailable):
            return True
        return False

    until(failed)


def test_it_asks_nobody_and_needs_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither middleware nor view of it touches the database (pytest-django would refuse it) or the store."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("the store was asked")

    for name in ("parties", "load", "fetch", "epochs"):
        monkeypatch.setattr(type(runtime.store()), name, refuse)
    for path in PATHS:
        answer = Client().get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert "no-store" in answer.headers["Cache-Control"]
        assert not answer.cookies
        assert Client().head(path).status_code == 200
        assert Client().post(path).status_code == 405


def test_a_database_that_is_down_and_comes_back(
    private_mariadb: servers.PrivateDatabase, django_db_blocker: Any
) -> None:
    settings = {**connection.settings_dict, "HOST": private_mariadb.host, "PORT": str(private_mariadb.port)}
    settings |= {"USER": private_mariadb.user, "PASSWORD": private_mariadb.password, "NAME": ""}
    connections.settings["unfit"] = settings
    wrapper: Any = connections["unfit"]
    with django_db_blocker.unblock():
        wrapper.ensure_connection()
        wrapper.close()
        assert ask() == 200
        private_mariadb.kill()
        fails(wrapper.ensure_connection)
        assert [ask(path) for path in PATHS] == [503, 503, 200]
        private_mariadb.start()
        until(lambda: ask() == 200)
        wrapper.pool.suspend()
        assert ask() == 503
        wrapper.pool.resume()
        assert ask() == 200
        wrapper.pool.close()
        assert ask() == 200  # as that of a process which has not used it yet
        wrapper.close()
        wrapper._drop_pool(wrapper._pool_key(wrapper.get_connection_params()))
    del connections["unfit"], connections.settings["unfit"]
    assert all(pool.name != "unfit" for pool in here.pools())


def test_a_store_that_is_down_and_comes_back(settings: Any, private_redis: servers.PrivateRedis) -> None:
    settings.CACHES = stores.caches(private_redis.url)
    runtime.reset_runtime()
    store = runtime.store()
    store.epochs(["a"])
    assert ask() == 200
    private_redis.kill()
    fails(lambda: store.epochs(["a"]))
    assert [ask(path) for path in PATHS] == [503, 503, 200]
    settings.POOLING = {"ON_STORE_DOWN": "fence"}
    assert ask() == 200
    settings.POOLING = {"ENABLED": False}
    assert ask() == 200
    settings.POOLING = {}
    private_redis.start()
    until(lambda: ask() == 200)
    runtime.reset_runtime()


def test_settings_that_are_wrong_are_unfit(settings: Any) -> None:
    settings.POOLING = {"CACHE_ALIAS": "nothing"}
    assert "nothing" not in caches.settings
    assert ask() == 503
    assert ask("/pooling/health/live/") == 200
