"""Who waits for whom, inside the site that is measured: the library's locks, and the locks of the other schemes.

Only a site that the lab has started (DEMO_LAB=1) keeps record and answers at ``/lab/waits/``. What waits in the
database for a row is asked of the database: see `demo_site.lab.watch`.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.urls import Resolver404, resolve

from pooling.groups import conflicts

ON = os.environ.get("DEMO_LAB") == "1"
PATH = "/lab/waits/"
_page: ContextVar[str] = ContextVar("page", default="a request")


class Named:
    """Says who a request is, for the record. The outermost of the middlewares."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path == PATH:  # past whatever lock the scheme has around its requests
            return JsonResponse({"waits": found()})
        try:
            match = resolve(request.path_info)
            name = f"{request.method} {match.view_name or match.route}"
        except Resolver404:
            name = f"{request.method} ?"
        token = _page.set(name)
        try:
            return self.get_response(request)
        finally:
            _page.reset(token)


class WatchedLock:
    """A `threading.Lock` that knows who has it and who waits. It may be released by another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holder = ""
        self._waiting: dict[int, str] = {}
        _locks.append(self)

    def acquire(self, timeout: float = -1) -> bool:
        page = _page.get()
        if not self._lock.acquire(blocking=False):
            me = threading.get_ident()
            self._waiting[me] = page
            try:
                if not self._lock.acquire(timeout=timeout):
                    return False
            finally:
                del self._waiting[me]
        self._holder = page
        return True

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def waits(self) -> Counter[tuple[str, str]]:
        return Counter((who, self._holder) for who in list(self._waiting.values()))


_locks: list[WatchedLock] = []


def lock() -> Any:
    """What a scheme takes for its lock: a plain one, unless the lab looks on."""
    return WatchedLock() if ON else threading.Lock()


def found() -> list[tuple[str, str, int]]:
    """Each waiting page, the page that has what it waits for, and how many there are of these at this moment."""
    edges: Counter[tuple[str, str]] = Counter()
    for one in _locks:
        edges += one.waits()
    edges += _groups()
    return [(who, whom, number) for (who, whom), number in sorted(edges.items())]


def _groups() -> Counter[tuple[str, str]]:
    from pooling import conf, runtime

    edges: Counter[tuple[str, str]] = Counter()
    if not conf.settings().ENABLED:
        return edges
    parties = runtime.store().parties()
    holders = [party for party in parties if party.holding]
    for waiting in parties:
        if not waiting.holding:
            for holder in holders:
                if conflicts(holder.wants, waiting.wants):
                    edges[waiting.owner.get("view", "?"), holder.owner.get("view", "?")] += 1
    return edges
