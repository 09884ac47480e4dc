"""Both stores for tests that go through the settings: a fixture asks `use` for one."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import redis

from pooling import fences, runtime
from pooling.store.redis import RedisStore

KINDS = ("memory", "redis")


class PatientRedisStore(RedisStore):
    """With a budget that a busy machine does not exceed either."""

    def __init__(self, driver: Any, *, prefix: str, budget: float, heartbeat: float) -> None:
        super().__init__(driver, prefix=prefix, budget=max(budget, 10.0), heartbeat=heartbeat)


def parametrize(metafunc: pytest.Metafunc, fixture: str) -> None:
    """Run each test with each kind, except those with settings of their own and those of a TestCase."""
    if metafunc.cls is None and "settings" not in inspect.signature(metafunc.function).parameters:
        metafunc.parametrize(fixture, KINDS, indirect=True)


def kind(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", KINDS[0])


def caches(url: str) -> dict[str, Any]:
    return {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}}


def use(which: str, settings: Any, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """An empty store of this kind is that of the site, until the test ends."""
    if which == "redis":
        with redis.Redis.from_url(url) as client:
            client.flushdb()
        monkeypatch.setattr(runtime, "RedisStore", PatientRedisStore)
        settings.CACHES = caches(url)
    fences.forget()  # their rows went with the last test's
    runtime.reset_runtime()
