"""What an operator can have all processes do, or one: drain a pool.

An order is a line of one small document in the store, which each publisher reads in its turns. It stands there for as
long as a process that is alive may need to come round. A process that begins later has nothing to do with it.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from typing import Any

from pooling import conf, runtime
from pooling._forks import after_in_child
from pooling.errors import StoreUnavailable
from pooling.store.protocol import Store

from . import here

logger = logging.getLogger("pooling.operate")

KEY = "orders"
_ATTEMPTS = 50


def lifetime() -> float:
    """Seconds for which an order stands: two turns of a process may fail."""
    return 3 * (conf.settings().PUBLISH_SECONDS or 5.0)


def drain(pool: str, process: str | None = None) -> int:
    """Have the pool of this name drained: its connections are replaced, those in use when they come back.

    ``process``: the id of one process; None is all of them. Here it is done at once, elsewhere within a turn. Returns
    how many pools of this process were drained. StoreUnavailable if the others could not be told; nothing is done then.
    """
    order = {"id": secrets.token_hex(8), "do": "drain", "pool": pool, "process": process}
    store = runtime.store()
    _note(str(order["id"]))  # before it is given: the publisher's next turn must not do it again
    if store.shared and process != here.process_id():
        _give(store, order)
    return _carry_out(order)


def _give(store: Store, order: dict[str, Any]) -> None:
    for _ in range(_ATTEMPTS):
        old, now = store.load(KEY)
        standing = [one for one in _read(old) if one["until"] > now]
        new = json.dumps([*standing, {**order, "until": now + lifetime()}]).encode()
        if store.swap(KEY, old, new, lifetime()):
            return
    raise StoreUnavailable(f"The orders changed {_ATTEMPTS} times while this one was written. Try again.")


def obey(store: Store, begin: bool = False) -> None:
    """Carry out what was not yet. ``begin``: only note what stands there, for a process that has just started."""
    for order in _read(store.load(KEY)[0]):
        if _note(str(order["id"])) and not begin:
            _carry_out(order)


_REMEMBERED = 1000  # far more than are ever given while one stands
_done: dict[str, None] = {}  # in the order in which they were met
_mutex = threading.Lock()


def _note(order: str) -> bool:
    """Remember that it is done; was it not?"""
    with _mutex:
        if order in _done:
            return False
        _done[order] = None
        if len(_done) > _REMEMBERED:
            del _done[next(iter(_done))]
        return True


def _carry_out(order: dict[str, Any]) -> int:
    if order["do"] != "drain" or order["process"] not in (None, here.process_id()):
        return 0
    drained = 0
    for pool in here.pools():
        if pool.name == order["pool"]:
            pool.drain()
            drained += 1
            logger.info("The pool %r was drained by hand", pool.name, extra={"pool": pool.name})
    return drained


def _read(document: bytes) -> list[dict[str, Any]]:
    """What is no order of this version is nobody's here."""
    try:
        found = json.loads(document) if document else []
        return [
            one
            for one in found
            if {"id", "do", "pool", "process", "until"} <= one.keys() and isinstance(one["until"], (int, float))
        ]
    except (ValueError, TypeError, AttributeError, RecursionError):
        return []


def _after_fork_in_child() -> None:
    global _mutex
    _mutex = threading.Lock()


after_in_child(_after_fork_in_child)
