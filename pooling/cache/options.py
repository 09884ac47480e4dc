"""The arguments of ``locked_cache``, validated when the decorator is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from .._names import closest
from .vary import VaryOn

FOREVER = 10 * 365 * 86400.0  # seconds; what timeout=None means to a store, which needs a number
MILLISECOND = 0.001  # the shortest time for which a store keeps anything
LEVELS = ("validated", "remote", "near")


@dataclass(frozen=True)
class CacheOptions:
    """``timeout`` in seconds, 0 for "never stored"; ``stale`` and ``stale_if_error`` in seconds, 0 for "not at all";
    the rest as in `pooling.caching.locked_cache`.

    `parse` raises TypeError for a value of the wrong kind, ValueError for one that is impossible, and
    ImproperlyConfigured for a cache alias that does not exist.
    """

    timeout: float
    vary_on: VaryOn
    cache: str | None = None
    key_prefix: str | None = None
    level: str = "validated"
    stale: float = 0.0
    stale_if_error: float = 0.0

    @cached_property
    def grace(self) -> float:
        """Seconds for which a page that counts no more may still be of use."""
        return max(self.stale, self.stale_if_error)

    @classmethod
    def parse(
        cls,
        timeout: Any,
        vary_on: Any,
        cache: Any,
        key_prefix: Any,
        stale: Any,
        level: Any,
        stale_if_error: Any = None,
    ) -> CacheOptions:
        if level is not None and level not in LEVELS:
            raise ValueError(
                f"locked_cache(level=…) must be one of {', '.join(LEVELS)}, not {level!r}. Meant "
                f"{closest(level, LEVELS)!r}?"
            )
        if key_prefix is not None and not isinstance(key_prefix, str):
            raise TypeError(f"locked_cache(key_prefix=…) must be a string, not {key_prefix!r}.")
        if cache is not None:
            _alias(cache)
        return cls(
            lifetime(timeout),
            VaryOn.parse(vary_on),
            cache,
            key_prefix,
            level or "validated",
            _grace("stale", stale),
            _grace("stale_if_error", stale_if_error),
        )


def _grace(name: str, value: Any) -> float:
    return 0.0 if value is None else min(_number(name, value), FOREVER)


def lifetime(timeout: Any) -> float:
    """Seconds for what a user gave as a timeout: None is as long as possible, 0 and less is 0, never."""
    return FOREVER if timeout is None else min(max(_number("timeout", timeout, negative=True), 0.0), FOREVER)


def _number(name: str, value: Any, *, negative: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        hint = " Give it as the first argument, as for cache_page." if name == "timeout" else ""
        raise TypeError(f"locked_cache: {name} must be a number of seconds or None, not {value!r}.{hint}")
    if math.isnan(value) or (math.isinf(value) and not negative):
        raise ValueError(f"locked_cache: {name} must be a finite number of seconds or None, not {value!r}.")
    if value < 0 and not negative:
        raise ValueError(f"locked_cache: {name} must be 0 seconds or more, not {value!r}.")
    return float(value)


def _alias(cache: Any) -> None:
    if not isinstance(cache, str):
        raise TypeError(f"locked_cache(cache=…) must be an alias of CACHES, not {cache!r}.")
    if cache not in settings.CACHES:
        near = closest(cache, settings.CACHES)
        hint = f" Did you mean {near!r}?" if near else ""
        raise ImproperlyConfigured(f"locked_cache(cache={cache!r}): CACHES has no such alias.{hint}")
