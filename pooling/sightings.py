"""Which versions this process knew before the present request began.

Versions never have the same value twice. So if those of some groups are now what they were before a request began, then
nobody has written these groups since, and whatever the request has read of them, at whatever time and from whatever
snapshot, is still so. That takes no lock, but something seen earlier: the first request after a write only looks.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from contextvars import ContextVar
from typing import Any

from django.core.signals import request_started
from django.db import connections

from ._forks import after_in_child
from .groups import conflicts, plan
from .store.protocol import Store, Vector

LIMIT = 4096  # sets of groups; of those not asked for in the longest time the next request looks anew

_began: ContextVar[float | None] = ContextVar("pooling_began", default=None)
_seen: OrderedDict[tuple[str, ...], tuple[Vector, float]] = OrderedDict()
_mutex = threading.Lock()


def begin(**kwargs: Any) -> None:
    """A request begins in this context. Within a transaction none does: its snapshot may be older."""
    old = any(connection.in_atomic_block for connection in connections.all(initialized_only=True))
    _began.set(None if old else time.monotonic())


def before_request(epochs: tuple[str, ...], vector: Vector) -> bool:
    """Did the epochs have these values already before this request began? False as well if that is not known."""
    began = _began.get()
    with _mutex:
        seen = _seen.get(epochs)
        if seen is not None:
            _seen.move_to_end(epochs)
    if began is None or seen is None or seen[0] != vector or seen[1] >= began:
        return False
    # With autocommit switched off by hand a transaction goes on from request to request, and so does its snapshot.
    opened = [one for one in connections.all(initialized_only=True) if one.connection is not None]
    return all(one.autocommit or one.in_atomic_block for one in opened)


def note(store: Store, groups: tuple[str, ...], epochs: tuple[str, ...], vector: Vector) -> None:
    """The epochs of ``groups`` have these values. Does it count? Not while somebody has the groups for writing: he has
    renewed them already, and would he die right after his COMMIT, nobody would do it again."""
    with _mutex:
        seen = _seen.get(epochs)
    if seen is not None and seen[0] == vector:
        return
    wants = plan(groups, (), {}).wants
    for party in store.parties([name for name, _ in wants]):
        if party.holding and conflicts(party.wants, wants):
            return
    with _mutex:
        _seen[epochs] = (vector, time.monotonic())
        _seen.move_to_end(epochs)
        if len(_seen) > LIMIT:
            _seen.popitem(last=False)


def _after_fork_in_child() -> None:
    global _mutex
    _mutex = threading.Lock()
    _seen.clear()


request_started.connect(begin, dispatch_uid="pooling.sightings")
after_in_child(_after_fork_in_child)
