"""Four ways to run the same views under many threads: the settings in which they differ, and nothing else."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

CONNECTIONS = int(os.environ.get("DEMO_CONNECTIONS") or 8)  # what the pool may use, out of 32 threads
PATIENCE = 25.0  # seconds that a request waits for what another has; the visitors' browsers give up after 30


@dataclass(frozen=True)
class Scheme:
    """``database`` is merged into DATABASES["default"]; ``pooling`` says whether groups are locked and pages cached."""

    name: str
    title: str
    database: dict[str, Any]
    middleware: tuple[str, ...] = ()
    pooling: dict[str, Any] = field(default_factory=lambda: {"ENABLED": False})


_STOCK = {"ENGINE": "django.db.backends.mysql", "CONN_MAX_AGE": None}
_POOLED = {
    "ENGINE": "pooling.backends.mysql",
    "OPTIONS": {"pool": {"min_size": 2, "max_size": CONNECTIONS, "timeout": PATIENCE}},
}

SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("thread", "a connection per thread", _STOCK),
        Scheme("shared", "one shared connection", {"ENGINE": "demo_site.schemes.shared", "CONN_MAX_AGE": 0}),
        Scheme("global", "one lock around requests", _STOCK, ("demo_site.schemes.one_at_a_time.OneAtATime",)),
        Scheme("pooling", "pool + groups + cache", _POOLED, pooling={"LOCK_WAIT": PATIENCE}),
    )
}


def others() -> dict[str, Scheme]:
    """What the lab can run as well: the last one as a fleet of processes would have it, with its locks, fences and
    pages in Redis, and other people's ways as far as their packages are installed."""
    in_redis = {"LOCK_WAIT": PATIENCE, "CACHE_ALIAS": "default", "ON_STORE_DOWN": "fence"}
    found = [
        Scheme("pooling_redis", "pool + groups + cache in Redis", _POOLED, pooling=in_redis),
        Scheme("fresh", "a connection per request", {**_STOCK, "CONN_MAX_AGE": 0}),
    ]
    if find_spec("dj_db_conn_pool") is not None:
        options = {"POOL_SIZE": CONNECTIONS, "MAX_OVERFLOW": 0, "TIMEOUT": PATIENCE}
        found.append(
            Scheme(
                "dj_db_conn_pool",
                "dj_db_conn_pool",
                {"ENGINE": "dj_db_conn_pool.backends.mysql", "POOL_OPTIONS": options},
            )
        )
    return {scheme.name: scheme for scheme in found}


def chosen() -> Scheme:
    """The scheme that the environment's DEMO_SCHEME names; ``pooling`` without it."""
    name = os.environ.get("DEMO_SCHEME", "pooling")
    known = {**SCHEMES, **others()}
    if name not in known:
        raise ValueError(f"DEMO_SCHEME must be one of {', '.join(known)}, not {name!r}.")
    return known[name]
