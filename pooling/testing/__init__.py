"""For the tests of a site: what became of a request in the cache, and a cache of its own for each test."""

from __future__ import annotations

from .asserts import assertCached, assertNotCached, assertNotStored, assertStale, assertStored
from .cases import PoolingTestMixin
from .isolation import assertNoLockHeld, isolated

__all__ = [
    "PoolingTestMixin",
    "assertCached",
    "assertNoLockHeld",
    "assertNotCached",
    "assertNotStored",
    "assertStale",
    "assertStored",
    "isolated",
]
