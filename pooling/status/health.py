"""For probes: is this process alive, and can it serve? Asks neither the database nor the store.

What is known to be down is known from those who used it last. Where a probe's answer keeps all requests away, nobody
would ever use it again and find that it is back; so each answer that says "unavailable" has it tried once, in a thread
of its own that nobody waits for.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from .. import conf, runtime
from .._forks import after_in_child
from ..pool import ConnectionPool
from ..store.protocol import Store
from . import here, orders

logger = logging.getLogger("pooling.status")

_UNFIT = frozenset({"down", "suspended"})  # a closed one opens at its next use; so does that of a process just begun
_PATIENCE = 2.0  # seconds that one try may take

_trying = threading.Lock()


@never_cache
@transaction.non_atomic_requests
@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """200 as long as this process answers. What else is down would not be mended by starting it anew."""
    return _answer(True)


@never_cache
@transaction.non_atomic_requests
@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """503 while a pool is down or suspended, or the store is down and POOLING["ON_STORE_DOWN"] is "refuse"."""
    pools = [pool for pool in here.pools() if pool.snapshot().state in _UNFIT]
    store, reached = _store()
    if not pools and reached:
        return _answer(True)
    _try_again(pools, store)
    return _answer(False)


def _answer(good: bool) -> HttpResponse:
    return JsonResponse({"status": "ok" if good else "unavailable"}, status=200 if good else 503)


def _store() -> tuple[Store | None, bool]:
    """The store, and whether requests can do with how it is."""
    settings = conf.settings()
    if not settings.ENABLED or settings.ON_STORE_DOWN == "fence":
        return None, True
    try:
        store = runtime.store()
    except ImproperlyConfigured:
        return None, False
    return store, not store.trouble()


def _try_again(pools: list[ConnectionPool[Any]], store: Store | None) -> None:
    if not _trying.acquire(blocking=False):
        return  # one try at a time, however many ask
    thread = threading.Thread(target=_try, args=(pools, store), name="pooling-health", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no more threads: the interpreter shuts down, or a limit of the system
        _trying.release()


def _try(pools: list[ConnectionPool[Any]], store: Store | None) -> None:
    # Whatever is raised, that it does not work is known already; the pool and the store have noted why.
    try:
        for pool in pools:
            if pool.snapshot().state == "down":
                try:
                    pool.putconn(pool.getconn(_PATIENCE))
                except Exception as error:  # noqa: BLE001
                    logger.debug("The pool %r is still down: %s", pool.name, error, extra={"pool": pool.name})
        if store is not None and store.trouble():
            try:
                store.load(orders.KEY)
            except Exception as error:  # noqa: BLE001
                logger.debug("The store is still down: %s", error, extra={"error": type(error).__name__})
    finally:
        _trying.release()


def _after_fork_in_child() -> None:
    global _trying
    _trying = threading.Lock()


after_in_child(_after_fork_in_child)
