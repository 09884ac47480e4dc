"""What became of the requests to a cached view, in a few words that are the same for all exporters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..cache.stats import FRESH


def results(view: Mapping[str, Any]) -> dict[str, int]:
    """Requests by result, all of them together; ``view`` is a `CacheStats` as a dict."""
    fresh = view["hits_by"].get(FRESH, 0)
    return {
        "hit": fresh,
        "stale": view["hits"] - fresh,
        "collapsed": view["collapsed"],
        "miss": view["misses"],
        "bypass": sum(view["bypassed"].values()),
        "error": view["failed"],
    }
