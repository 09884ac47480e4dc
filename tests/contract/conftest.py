"""The stores that the contract suite runs against. A new store adds a harness here, and nothing else."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Protocol

import pytest
import redis

from pooling.store._driver import RedisDriver
from pooling.store.memory import MemoryStore
from pooling.store.protocol import Store
from pooling.store.redis import RedisStore

_numbers = itertools.count()


class Harness(Protocol):
    """One kind of store under test."""

    store: Store

    def elapse(self, seconds: float) -> None:
        """Make the store believe that so many seconds have passed, for leases, patience and times to live."""

    def at_rest(self) -> int:
        """How many records of locks (not epochs, not entries) the store keeps now."""

    def close(self) -> None: ...


class MemoryHarness:
    def __init__(self) -> None:
        self.now = 1000.0
        self.store = MemoryStore(clock=lambda: self.now, entry_bytes=100_000)

    def elapse(self, seconds: float) -> None:
        self.now += seconds

    def at_rest(self) -> int:
        table = self.store._table
        return len(table.tickets) + len(table._nodes) + len(table.woken)

    def close(self) -> None:
        self.store.close()


# Moves everything that the store has written down back in time: the scripts have Redis's clock and no other.
AGE = b"""
local held, wait, lease, info, seq = unpack(KEYS)
local by = tonumber(ARGV[1])
local found = redis.call('ZRANGE', lease, 0, -1, 'WITHSCORES')
for i = 1, #found, 2 do
  redis.call('ZADD', lease, found[i + 1] - by, found[i])
end
local records = redis.call('HGETALL', info)
for i = 1, #records, 2 do
  local record = cmsgpack.unpack(records[i + 1])
  record.since = record.since - by
  redis.call('HSET', info, records[i], cmsgpack.pack(record))
end
for _, key in ipairs(redis.call('KEYS', ARGV[2])) do
  local left = redis.call('PTTL', key)
  if left >= 0 then
    redis.call('PEXPIRE', key, math.max(left - by / 1000, 0))
  end
end
"""
TABLE = ("held", "wait", "lease", "info", "seq")


class RedisHarness:
    def __init__(self, url: str) -> None:
        self.later = 0.0
        self.client = redis.Redis.from_url(url)
        prefix = f"contract {next(_numbers)}"
        self.store = RedisStore(RedisDriver(self.client), prefix=prefix, budget=5.0, clock=self.clock)

    def clock(self) -> float:
        return time.monotonic() + self.later

    def elapse(self, seconds: float) -> None:
        self.later += seconds
        keys = [self.store.tag + name for name in TABLE]
        self.client.eval(AGE, len(keys), *keys, int(seconds * 1e6), self.store.tag + "*")

    def at_rest(self) -> int:
        """Keys besides the one that tokens are counted in, and requests that this process thinks wait."""
        tag = self.store.tag
        keys = {key.decode().removeprefix(tag) for key in self.client.scan_iter(tag + "*", count=1000)}
        left = [key for key in keys if key != "seq" and key[:2] not in ("v:", "e:")]
        return len(left) + len(self.store._mail._pending) + len(self.store._mail._early)

    def close(self) -> None:
        self.store.close()
        for key in self.client.scan_iter(self.store.tag + "*", count=1000):
            self.client.delete(key)
        self.client.close()


@pytest.fixture(params=["memory", "redis"])
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    if request.param == "memory":
        made: Harness = MemoryHarness()
    else:
        made = RedisHarness(request.getfixturevalue("redis_url"))
    yield made
    made.close()


@pytest.fixture
def store(harness: Harness) -> Store:
    return harness.store
