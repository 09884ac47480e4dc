"""Four ways to run the same views under many threads: the settings in which they differ, and nothing else."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

CONNECTIONS = 8  # what the pool may use, out of 32 threads
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

SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("thread", "a connection per thread", _STOCK),
        Scheme("shared", "one shared connection", {"ENGINE": "demo_site.schemes.shared", "CONN_MAX_AGE": 0}),
        Scheme("global", "one lock around requests", _STOCK, ("demo_site.schemes.one_at_a_time.OneAtATime",)),
        Scheme(
            "pooling",
            "pool + groups + cache",
            {
                "ENGINE": "pooling.backends.mysql",
                "OPTIONS": {"pool": {"min_size": 2, "max_size": CONNECTIONS, "timeout": PATIENCE}},
            },
            pooling={"LOCK_WAIT": PATIENCE},
        ),
    )
}


def chosen() -> Scheme:
    """The scheme that the environment's DEMO_SCHEME names; ``pooling`` without it."""
    name = os.environ.get("DEMO_SCHEME", "pooling")
    if name not in SCHEMES:
        raise ValueError(f"DEMO_SCHEME must be one of {', '.join(SCHEMES)}, not {name!r}.")
    return SCHEMES[name]
