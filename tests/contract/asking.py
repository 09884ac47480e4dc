"""Short ways to write requests in the contract suite."""

from __future__ import annotations

import itertools
from typing import Any

from pooling.groups import Mode, plan
from pooling.store.protocol import Grant, LockRequest, Store

_numbers = itertools.count()


def request(reads: Any = (), writes: Any = (), *, ticket: str | None = None, **more: Any) -> LockRequest:
    wants = more.pop("wants", None) or plan(reads, writes, {}).wants
    more = {"lease": 30.0, "patience": 60.0, **more}
    return LockRequest(ticket=ticket or f"t{next(_numbers)}", wants=wants, **more)


def take(store: Store, reads: Any = (), writes: Any = (), **more: Any) -> str:
    """Acquire what must be free; the ticket."""
    grant = store.acquire(request(reads, writes, **more))
    assert grant is not None
    return grant.ticket


def queue(store: Store, reads: Any = (), writes: Any = (), **more: Any) -> str:
    """Ask for what must be taken; the ticket."""
    asked = request(reads, writes, **more)
    assert store.acquire(asked) is None
    return asked.ticket


def granted(store: Store, ticket: str) -> Grant | None:
    """The grant, if there is one by now."""
    return store.wait(ticket, 0)


def single(mode: Mode, group: str = "g", **more: Any) -> LockRequest:
    return request(wants=((group, mode),), **more)
