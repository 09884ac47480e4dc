"""A pooled MySQL backend for Django, and views that lock and cache by resource group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import (
    FenceRejected,
    GroupError,
    LockLost,
    LockOrderError,
    LockTimeout,
    PoolClosed,
    PoolFull,
    PoolingError,
    PoolTimeout,
    StoreUnavailable,
)
from .groups import group

if TYPE_CHECKING:
    from .cache.stats import cache_stats
    from .caching import invalidate, locked_cache
    from .decorators import locked

__version__ = "0.1.0"

__all__ = [
    "FenceRejected",
    "GroupError",
    "LockLost",
    "LockOrderError",
    "LockTimeout",
    "PoolClosed",
    "PoolFull",
    "PoolTimeout",
    "PoolingError",
    "StoreUnavailable",
    "cache_stats",
    "group",
    "invalidate",
    "locked",
    "locked_cache",
]


def __getattr__(name: str) -> Any:
    # Lazily, so that the pool alone (`pooling.pool`) imports no Django.
    if name == "locked":
        from .decorators import locked

        return locked
    if name in ("invalidate", "locked_cache"):
        from . import caching

        return getattr(caching, name)
    if name == "cache_stats":
        from .cache.stats import cache_stats

        return cache_stats
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
