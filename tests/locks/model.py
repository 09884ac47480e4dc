"""A model of the lock table that is too slow and too simple to be wrong, and stores whose clock stands still."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import redis

from pooling.groups import Mode, compatible
from pooling.store import redis as redis_module
from pooling.store._driver import RedisDriver
from pooling.store._scripts import Script
from pooling.store.memory import MemoryStore
from pooling.store.protocol import Wants
from pooling.store.redis import RedisStore

_numbers = itertools.count()


@dataclass
class Asked:
    ticket: str
    wants: Wants
    family: tuple[str, ...]
    expires: float
    lease: float


class Model:
    """Two lists: holders, and waiters in the order in which they came. Every question walks through all of them."""

    def __init__(self) -> None:
        self.holders: list[Asked] = []
        self.waiters: list[Asked] = []

    @staticmethod
    def conflict(one: Asked, other: Asked) -> bool:
        mine = dict(one.wants)
        return any(group in mine and not compatible(mode, mine[group]) for group, mode in other.wants)

    def in_the_way(self, asked: Asked) -> list[Asked]:
        found = [h for h in self.holders if h.ticket not in asked.family and self.conflict(h, asked)]
        if not asked.family:
            older = self.waiters[: self.waiters.index(asked)] if asked in self.waiters else self.waiters
            found += [w for w in older if self.conflict(w, asked)]
        return found

    def go_on(self, now: float) -> None:
        """Grant until nobody can be granted, one at a time, nested ones first."""
        while True:
            ready = [w for w in self.waiters if not self.in_the_way(w)]
            if not ready:
                return
            first = min(ready, key=lambda w: (not w.family, self.waiters.index(w)))
            self.waiters.remove(first)
            if first.expires > now:
                first.expires = now + first.lease
                self.holders.append(first)

    def reap_before(self, asked: Asked, now: float) -> None:
        for other in [o for o in self.in_the_way(asked) if o.expires <= now]:
            if other.expires <= now:  # not granted by an earlier one's going
                self.remove(other.ticket, now)

    def acquire(self, asked: Asked, now: float, nowait: bool) -> bool:
        self.reap_before(asked, now)
        if not self.in_the_way(asked):
            asked.expires = now + asked.lease
            self.holders.append(asked)
            return True
        if not nowait:
            self.waiters.append(asked)
        return False

    def remove(self, ticket: str, now: float) -> bool:
        held = any(h.ticket == ticket for h in self.holders)
        self.holders = [h for h in self.holders if h.ticket != ticket]
        self.waiters = [w for w in self.waiters if w.ticket != ticket]
        self.go_on(now)
        return held

    def led(self, resource: str) -> bool:
        return any((resource, Mode.X) in asked.wants for asked in (*self.holders, *self.waiters))


class FrozenMemory:
    """The in-process store; its time is what `now` says, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.store = MemoryStore(clock=lambda: self.now)

    def elapse(self, seconds: float) -> None:
        self.now += seconds

    def state(self) -> tuple[list[str], list[str]]:
        """Holders in the order of their grants and waiters in queue order, without dropping the dead."""
        tickets = self.store._table.tickets.values()
        holders = sorted((t.grant.token, t.request.ticket) for t in tickets if t.grant)
        return [name for _, name in holders], [
            name for _, name in sorted((t.number, t.request.ticket) for t in tickets if not t.grant)
        ]

    def at_rest(self) -> bool:
        return not self.store._table.tickets and not self.store._table._nodes

    def close(self) -> None:
        self.store.close()


STATE = b"""
local found = {}
local records = redis.call('HGETALL', KEYS[1])
for i = 1, #records, 2 do
  local record = cmsgpack.unpack(records[i + 1])
  found[#found + 1] = {record.grant and 1 or 0, string.format('%.0f', record.number), records[i]}
end
return found
"""


class FrozenRedis:
    """The store in Redis, with a key instead of the server's clock."""

    SCRIPTS = ("ACQUIRE", "RELEASE", "LOOK", "RENEW", "PARTIES")

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)
        self.store = RedisStore(RedisDriver(self.client), prefix=f"frozen{next(_numbers)}", budget=10.0)
        self.now = 1_000_000_000.0
        self.elapse(0)
        self._scripts = {name: getattr(redis_module, name) for name in self.SCRIPTS}
        clock = f"{{redis.call('GET', '{self.store.tag}clock'), 0}}".encode()
        for name, script in self._scripts.items():
            assert script.text.count(b"redis.call('TIME')") == 1
            setattr(redis_module, name, Script(script.text.replace(b"redis.call('TIME')", clock)))

    def elapse(self, seconds: float) -> None:
        self.now += seconds
        self.client.set(self.store.tag + "clock", f"{self.now:.0f}")

    def state(self) -> tuple[list[str], list[str]]:
        found = self.client.eval(STATE, 1, self.store.tag + "info")
        ordered = sorted((int(number), ticket.decode(), holds) for holds, number, ticket in found)
        return [t for _, t, holds in ordered if holds], [t for _, t, holds in ordered if not holds]

    def at_rest(self) -> bool:
        left = {key.decode().removeprefix(self.store.tag) for key in self.client.scan_iter(f"{self.store.tag}*")}
        return left <= {"seq", "clock"}

    def close(self) -> None:
        for name, script in self._scripts.items():
            setattr(redis_module, name, script)
        for key in self.client.scan_iter(f"{self.store.tag}*"):
            self.client.delete(key)
        self.store.close()
        self.client.close()
