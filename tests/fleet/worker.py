"""A process that holds locks on behalf of a test: ``python -m tests.fleet.worker url prefix``.

One line of JSON in, ``[method, *arguments]``, one line out. "hold" waits if it must, so its answer comes later.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import redis

from pooling.groups import plan
from pooling.store._driver import RedisDriver
from pooling.store.protocol import LockRequest
from pooling.store.redis import RedisStore


def main(url: str, prefix: str) -> None:
    store = RedisStore(RedisDriver(redis.Redis.from_url(url)), prefix=prefix, budget=10.0)

    def hold(ticket: str, groups: list[str], lease: float, patience: float) -> int | None:
        asked = LockRequest(ticket, plan([], groups, {}).wants, lease, patience)
        grant = store.acquire(asked) or store.wait(ticket, 60.0)
        return grant.token if grant is not None else None

    methods: dict[str, Any] = {"hold": hold, "release": store.release}
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        print(json.dumps(methods[method](*arguments)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
