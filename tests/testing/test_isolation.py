"""`isolated`: nothing comes in, nothing is left, and what others have in the same Redis stays as it is."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from django.test import Client, override_settings

from pooling import cache_stats, frames, locked, runtime
from pooling.cache import stats
from pooling.store.redis import RedisStore
from pooling.testing import assertCached, assertNotCached, assertStored, isolation
from pooling.testing.isolation import assertNoLockHeld, isolated

from .. import stores


def get(path: str = "/plain") -> Any:
    return Client().get(path)


def keys(url: str) -> dict[bytes, bytes | None]:
    with redis.Redis.from_url(url) as client:
        return {key: client.dump(key) for key in client.keys("*")}


@contextmanager
def lock(*groups: str) -> Iterator[Any]:
    with locked(writes=list(groups), atomic=False) as held:
        yield held


def test_a_page_neither_comes_in_nor_goes_out() -> None:
    assertStored(get())
    with isolated():
        assertStored(get())
        assertCached(get())
    assertCached(get())
    with isolated():
        assertNotCached(get())


def test_nothing_of_it_stays_in_redis_and_nothing_else_goes(surroundings: str, redis_url: str) -> None:
    get()
    with lock("notes/1"):
        assert runtime.store().swap("of the site", b"", b"kept", 60)
        before = keys(redis_url)
        with isolated():
            get()
            assert runtime.store().swap("of the test", b"", b"gone", 60)
            with lock("notes/1"):  # that of the site is in another store
                during = keys(redis_url)
        assert keys(redis_url) == before
    if surroundings == "redis":
        assert before
        assert set(before) < set(during)
        mine = set(during) - set(before)
        assert len({key[: key.index(b"}:")] for key in mine}) == 1
        for part in (b"}:e:", b"}:v:", b"}:held", b"}:d:"):
            assert any(part in key for key in mine)


def test_locks_outside_stay_held_and_do_not_count() -> None:
    with lock("notes/1") as held:
        with isolated():
            assert runtime.store().parties() == []
        held.check()


def test_counters_warnings_and_memory_begin_anew(caplog: pytest.LogCaptureFixture) -> None:
    def warnings() -> int:
        return sum("touched user" in record.getMessage() for record in caplog.records)

    for number in (1, 2):
        with isolated():
            assert not any(one.misses or one.hits for one in cache_stats().values())
            assert len(runtime.bodies()) == 0
            get()
            get()
            assert cache_stats()["tests.cache.views.plain"].hits == 1
            get("/answer/user")
            get("/answer/user")
            assert warnings() == number
            assert len(runtime.bodies()) == 1
    stats.reset()


def test_a_lock_that_is_left_fails_and_says_whose_it_is() -> None:
    holds = lock("notes/7")
    with pytest.raises(AssertionError) as caught:
        with isolated("shop.tests.Pages.test_sale"):
            holds.__enter__()
    said = str(caught.value)
    assert said.startswith("At the end of shop.tests.Pages.test_sale a lock is still held: with locked(…) (")
    assert f"pid {os.getpid()}, MainThread" in said
    assert "has had 'notes/7' for" in said
    assert "'notes'" not in said
    with isolated():  # and the next one begins without it
        assert not frames.in_hold()
        with lock("notes/7"):
            pass


def test_an_error_of_the_test_s_own_is_the_one_to_see() -> None:
    def fail() -> None:
        with isolated():
            lock("notes/7").__enter__()
            raise RuntimeError("own error")

    with pytest.raises(RuntimeError, match="own error"):
        fail()
    frames.current.set(())


def test_a_thread_that_is_about_to_release_gets_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    go, taken = threading.Event(), threading.Event()

    def hold() -> None:
        with lock("notes/7"):
            taken.set()
            go.wait()

    thread = threading.Thread(target=hold)

    def pause(seconds: float) -> None:
        go.set()
        thread.join()

    monkeypatch.setattr(isolation.time, "sleep", pause)
    with isolated():
        thread.start()
        taken.wait()
    assert go.is_set()


def test_threads_are_inside() -> None:
    with isolated():
        get()
        found = []
        thread = threading.Thread(target=lambda: found.append(get()))
        thread.start()
        thread.join()
        assertCached(found[0])


def test_a_forked_child_is_inside(surroundings: str) -> None:
    with isolated():
        get()
        if (child := os.fork()) == 0:
            status = 3
            try:
                hit = "; hit" in get()["Cache-Status"]
                status = 0 if hit == (surroundings == "redis") else 1  # a fork has a memory of its own
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_holds_around_it_are_there_again_after_it() -> None:
    with locked(writes=["around"], atomic=False):
        held = frames.current.get()
        assert held
        with isolated(), locked(writes=["a"], atomic=False):  # not against the order: nothing is held in here
            pass
        assert frames.current.get() == held


def test_it_can_be_nested() -> None:
    with isolated():
        get()
        with isolated():
            assertStored(get())
        assertCached(get())


def test_settings_that_change_inside_stay_inside(surroundings: str, redis_url: str) -> None:
    before = keys(redis_url)
    with isolated():
        with override_settings(POOLING={"KEY_PREFIX": "other"}):
            assertStored(get())
            assertCached(get())
            during = keys(redis_url)
    assert keys(redis_url) == before
    assert any(key.startswith(b"{other-test-") for key in during) == (surroundings == "redis")


def test_settings_that_changed_inside_count_outside() -> None:
    first = runtime.manager()
    with isolated():
        pass
    assert runtime.manager() is not first
    assert runtime.manager().store is first.store


def test_a_store_that_is_gone_at_the_end(
    settings: Any, private_redis: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings.CACHES = stores.caches(private_redis.url)
    runtime.reset_runtime()
    with caplog.at_level(logging.WARNING, "pooling.locks"), isolated():
        store = runtime.store()
        assert isinstance(store, RedisStore)
        assertStored(get())
        private_redis.kill()
    assert "Whether a test has left a lock cannot be told" in caplog.text
    assert f"Keys that begin with {store.tag!r} stay in Redis" in caplog.text
    private_redis.start()
    with isolated():
        assertStored(get())


def test_asked_for_outside_of_a_test() -> None:
    assertNoLockHeld()
    with lock("notes/7"), pytest.raises(AssertionError, match=r"^A lock is still held: "):
        assertNoLockHeld()
