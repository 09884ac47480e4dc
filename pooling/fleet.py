"""The ledger of a whole fleet: with the store in Redis, ``max_size="auto"`` counts the processes of all machines.

The shares are one small document in the store. A member writes down every few seconds that it is there, by the store's
clock; one that ends says so, and one that has not said anything for `LEASE` is out. A member that cannot reach the
store for `QUIET`, which is less, gives up what it has before that: it keeps one connection, which comes out of
``reserve``, as does the one of a process that starts while the store cannot be reached. Where the document is not what
a member remembers (it is gone, does not name it, or the clock has jumped), others are in the same case: the member
writes down what it has, and nobody gets more than that, or one if he is alone, for `PATIENCE`, in which all have had
their turns. So the shares never exceed the server's bounds, unless one process stands still for longer than a lease
while the others go on, or holds a connection for as long without the store.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from . import runtime
from .errors import StoreUnavailable
from .pool.budget import Ledger, Record, Standing, settle
from .store.protocol import Store

LEASE = 30.0  # seconds after which a member that is not heard of is out
QUIET = 20.0  # seconds without the store after which it gives up its share by itself
PATIENCE = 1.5  # seconds after a loss in which all who are there write down what they have
_SIGN = 5.0  # seconds after which it says that it is there, if nothing else changes
_ATTEMPTS = 50
ALONE = Standing(share=1, target=1, members=1, limit=None)


def ledger(server: str, bounds: tuple[str, ...]) -> Ledger | None:
    """That of all processes that use this server, or None where the store is not shared: then each host has its own."""
    try:
        if not runtime.store().shared:
            return None
    except ImproperlyConfigured:
        return None  # the checks say so
    return StoreLedger(runtime.store, server, bounds)


class StoreLedger:
    """A `pooling.pool.budget.Ledger` in the store. ``clock`` gives seconds that never go back."""

    def __init__(
        self,
        store: Callable[[], Store],
        server: str,
        bounds: tuple[str, ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._key = "budget:" + hashlib.sha256(server.encode()).hexdigest()[:16]
        self._bounds = bounds
        self._clock = clock
        self.forked()

    def forked(self) -> None:
        self._me = os.urandom(9).hex()
        self._share = 0
        self._heard: float | None = None  # when the store has last answered

    def turn(self, used: int, limits: Mapping[str, int | None]) -> Standing:
        begun = self._clock()
        try:
            standing = self._turn(used, limits)
        except StoreUnavailable:
            if self._heard is not None and begun - self._heard < QUIET:
                raise
            self._share = ALONE.share
            return ALONE
        self._share, self._heard = standing.share, begun
        return standing

    def leave(self) -> None:
        if self._heard is not None:
            self._change(lambda state, now: state["members"].pop(self._me, None))
        self.forked()

    def _turn(self, used: int, limits: Mapping[str, int | None]) -> Standing:
        def change(state: Any, now: float) -> Standing:
            members = state["members"]
            before = members.get(self._me)
            if (before is None and (self._share or not members)) or (
                before is not None and _is_over(before, now, LEASE)
            ):
                state["wait"] = now + PATIENCE
            for name in [name for name, member in members.items() if _is_over(member, now, LEASE)]:
                if name != self._me:
                    del members[name]
            number = 1 + max((member["number"] for member in members.values()), default=0)
            me = members.setdefault(
                self._me, {"number": number, "bounds": self._bounds, "share": self._share, "seen": 0.0}
            )
            state["limits"].update(limits)
            order = sorted(members, key=lambda name: int(members[name]["number"]))
            records = [Record(members[name]["share"], tuple(members[name]["bounds"])) for name in order]
            standing = settle(records, order.index(self._me), used, state["limits"])
            if now < state["wait"] <= now + PATIENCE:
                standing = replace(standing, share=min(standing.share, max(me["share"], int(len(members) == 1))))
            if standing.share != me["share"] or _is_over(me, now, _SIGN):
                me["seen"] = now
            me["share"] = standing.share
            return standing

        standing: Standing = self._change(change)
        return standing

    def _change(self, change: Callable[[Any, float], Any]) -> Any:
        """Change the document in one step, however many others do."""
        store = self._store()
        for _ in range(_ATTEMPTS):
            old, now = store.load(self._key)
            state = json.loads(old) if old else {"limits": {}, "members": {}, "wait": 0.0}
            result = change(state, now)
            new = json.dumps(state).encode()
            if new == old or store.swap(self._key, old, new, 2 * LEASE):
                return result
            time.sleep(random.uniform(0.0, 0.01))  # another was quicker
        raise StoreUnavailable(
            f"The shares of the server's connections changed {_ATTEMPTS} times while they were read."
        )


def _is_over(member: Any, now: float, seconds: float) -> bool:
    """Is it so long since it was there? So it is when the clock has gone back, too."""
    return not member["seen"] <= now <= member["seen"] + seconds
