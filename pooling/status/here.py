"""This process as one document of plain JSON: what it publishes, and what it shows where nothing is shared."""

from __future__ import annotations

import os
import platform
import secrets
import socket
import sys
import threading
import time
from collections import deque
from typing import Any

import django
from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from pooling import conf, runtime
from pooling._forks import after_in_child
from pooling.cache.stats import cache_stats
from pooling.locks import stats as locks
from pooling.pool import ConnectionPool, Holding, Snapshot

from . import threads
from .recent import LONGEST, listen, recent

VERSION = 1  # of the document: others than this one are not read
HOLDERS = 5  # of each pool, the longest-standing
GROUPS = 100  # those that were waited for longest
SAMPLES = 60
WORTH_A_STACK = 1.0  # seconds that a connection is held
COLUMNS = ("requests", "waiting", "busy", "lock_waits", "hits", "misses", "errors")
_GAUGES = frozenset({"waiting", "busy"})

_started = time.time()


class History:
    """Samples of a few figures, oldest first. Counters are kept as what was added since the last sample."""

    def __init__(self) -> None:
        self._last: list[int] | None = None
        self._rows: deque[list[int]] = deque(maxlen=SAMPLES)
        self._due = 0.0
        self._mutex = threading.Lock()

    def add(self, figures: list[int]) -> None:
        if self._last is not None:
            # Never below 0: a counter begins anew when its pool is replaced.
            self._rows.append(
                [
                    now if name in _GAUGES else max(0, now - before)
                    for name, now, before in zip(COLUMNS, figures, self._last, strict=True)
                ]
            )
        self._last = figures

    def due(self, every: float, now: float) -> bool:
        """Shall who looks take a sample? For where nobody takes them in turns; one of many at a time is told so.

        Times in seconds, ``now`` of a clock that never goes back. After a gap it begins anew.
        """
        with self._mutex:
            late = now - self._due
            if not every or late < 0:
                return False
            if late < every:
                self._due += every  # so that as many are taken as elsewhere, though who looks comes a little late
            else:
                self._due = now + every
                self._last = None
                self._rows.clear()
            return True

    def rows(self) -> list[list[int]]:
        return list(self._rows)


_history = History()
_id: dict[str, str] = {}


def process_id() -> str:
    """``host:pid:nonce``, the same until the process ends or forks."""
    # Of two threads that come here first, both get what one of them has made: else one would look for the process under
    # a name that nobody has published.
    return _id.get("") or _id.setdefault("", f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}")


def pools() -> list[ConnectionPool[Any]]:
    """The pools that this process has made. Loads no driver where there is none."""
    base = sys.modules.get("pooling.backends.mysql.base")
    return list(base.DatabaseWrapper._connection_pools.copy().values()) if base is not None else []


def sample_due() -> bool:
    """See `History.due`."""
    return _history.due(conf.settings().PUBLISH_SECONDS, time.monotonic())


def document(sample: bool = False) -> dict[str, Any]:
    """The process just now; see the guide on the status page for its form. ``sample``: add a line to the history."""
    listen()  # again, where logging was configured anew: that takes out handlers
    snapshots = [pool.snapshot() for pool in pools()]
    groups = locks.snapshot(GROUPS)
    views = list(cache_stats().values())
    if sample:
        _history.add(
            [
                sum(one.counts["requests_num"] for one in snapshots),
                sum(one.waiting for one in snapshots),
                sum(one.busy for one in snapshots),
                groups["waited"],
                sum(view.hits + view.collapsed for view in views),
                sum(view.misses for view in views),
                recent.total,
            ]
        )
    return {
        "version": VERSION,
        "process": {
            "id": process_id(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "program": _program(),
            "started": round(_started, 3),
            "python": platform.python_version(),
            "django": django.get_version(),
            "pooling": getattr(apps.get_app_config("pooling").module, "__version__", ""),
        },
        "every": conf.settings().PUBLISH_SECONDS,
        "at": round(time.time(), 3),
        "pools": [_pool(one) for one in snapshots],
        "groups": groups["groups"],
        "cache": {"views": [view.as_dict() for view in views], "near": _near()},
        "store": _store(),
        "errors": recent.newest_first(),
        "history": {"every": conf.settings().PUBLISH_SECONDS, "columns": list(COLUMNS), "rows": _history.rows()},
    }


def _program() -> str:
    """What it was started as, without paths and without arguments, which may be secrets."""
    folder, name = os.path.split(sys.argv[0] or "python")
    if name == "__main__.py":  # python -m name
        return os.path.basename(folder) or name
    if name in ("manage.py", "django-admin") and len(sys.argv) > 1:
        return f"{name} {sys.argv[1]}"[:LONGEST]
    return name


def _pool(one: Snapshot) -> dict[str, Any]:
    return {
        "name": one.name,
        "server": one.address,
        "state": one.state,
        "min": one.min_size,
        "max": one.max_size,
        "size": one.size,
        "idle": one.idle,
        "busy": one.busy,
        "connecting": one.connecting,
        "waiting": one.waiting,
        "stats": one.counts,
        "wait": one.waits.as_json(max(0, one.counts["requests_num"] - one.waits.count)),
        "holders": [_holder(holding) for holding in one.holders[:HOLDERS]],
        "error": _words(one.error),
    }


def _holder(holding: Holding) -> dict[str, Any]:
    view, stack = threads.at_work(holding.ident, holding.age >= WORTH_A_STACK)
    return {"thread": holding.thread, "view": view, "seconds": round(holding.age, 3), "stack": stack}


def _words(error: BaseException | None) -> str:
    """The class of an error and the server's own words, which name the user perhaps, but never a password."""
    if error is None:
        return ""
    return f"{type(error).__name__}: {', '.join(map(str, error.args))}"[:LONGEST]


def _near() -> dict[str, int]:
    kept = runtime.bodies()
    return {"entries": len(kept), "bytes": kept.size, "limit": conf.settings().NEAR_CACHE_BYTES}


def _store() -> dict[str, Any]:
    try:
        store = runtime.store()
    except ImproperlyConfigured as error:
        return {"kind": "", "shared": False, "state": "down", "error": str(error)[:LONGEST]}
    trouble = store.trouble()
    return {
        "kind": "redis" if store.shared else "memory",
        "shared": store.shared,
        "state": "down" if trouble else "up",
        "error": trouble[:LONGEST],
    }


def _after_fork_in_child() -> None:
    global _id, _started, _history
    _id, _started, _history = {}, time.time(), History()


after_in_child(_after_fork_in_child)
