"""What became of the requests to each cached view, counted in this process.

One place counts: where the answer leaves the view, by the words that its ``Cache-Status`` got. So whatever says
something in that header is counted, and nothing is counted that was not said. A counter is exact, whatever threads do.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

from .. import moments
from .._forks import after_in_child

TOLD = "_pooling_told"  # attribute of a response: the words of its Cache-Status and their detail
FRESH = "fresh"
OTHER = "other"
LABELS = 24  # different words, and "other", in one table: what a view's code names must not fill the memory
_LONGEST = 80

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What was counted for one view since its process began, or in all processes together. Times in seconds.

    ``hits_by``        hits by kind: "fresh", or the detail that ``Cache-Status`` gives beside "hit".
    ``collapsed``      answered by what another request computed meanwhile.
    ``misses_by``      by the word of RFC 9211: "uri-miss", "vary-miss", "stale" (written or expired), …
    ``stored_bytes``   bytes of the bodies that were stored.
    ``not_stored``     computed but not stored, by reason.
    ``bypassed``       neither looked up nor stored, by reason: "method" for requests other than GET and HEAD.
    ``not_modified``   answers 304 among all of these.
    ``failed``         requests that ended in an exception.
    ``computed``, ``compute_seconds``  calls of the view after a miss, each to the end of its COMMIT and of the storing.
    ``waits``, ``wait_seconds``  waits for another request that computed the same page.
    """

    view: str
    hits: int = 0
    hits_by: Mapping[str, int] = field(default_factory=dict)
    collapsed: int = 0
    misses: int = 0
    misses_by: Mapping[str, int] = field(default_factory=dict)
    stored: int = 0
    stored_bytes: int = 0
    not_stored: Mapping[str, int] = field(default_factory=dict)
    bypassed: Mapping[str, int] = field(default_factory=dict)
    not_modified: int = 0
    failed: int = 0
    computed: int = 0
    compute_seconds: float = 0.0
    waits: int = 0
    wait_seconds: float = 0.0

    @property
    def hit_ratio(self) -> float | None:
        """The part of lookups that computed nothing; None before the first one."""
        looked_up = self.hits + self.collapsed + self.misses
        return (self.hits + self.collapsed) / looked_up if looked_up else None

    @property
    def saved_seconds(self) -> float:
        """Time that the view was not running: for each answer without a computation the mean of those there were.
        0 while nothing was computed here, since then nobody knows."""
        return (self.hits + self.collapsed) * self.compute_seconds / self.computed if self.computed else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain types for JSON; `from_dict` undoes it, and ignores the two that are derived."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        plain = {name: dict(value) if isinstance(value, Mapping) else value for name, value in found.items()}
        return {**plain, "hit_ratio": self.hit_ratio, "saved_seconds": self.saved_seconds}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> CacheStats:
        """TypeError or ValueError for anything that `as_dict` has not made."""
        values: dict[str, Any] = {"view": str(found.get("view"))}
        for one in fields(cls):
            value = found.get(one.name)
            if value is None or one.name == "view":
                continue
            if one.name.endswith("_seconds"):
                values[one.name] = float(value)
            elif one.default is MISSING:  # a table
                if not isinstance(value, Mapping):
                    raise TypeError(f"{one.name} is no table: {value!r}")
                values[one.name] = {str(label): int(count) for label, count in value.items()}
            else:
                values[one.name] = int(value)
        return cls(**values)


def total(view: str, several: Iterable[CacheStats]) -> CacheStats:
    """The sum, such as that of one view in several processes."""
    sums: dict[str, Any] = {}
    for stats in several:
        for one in fields(stats):
            value = getattr(stats, one.name)
            if isinstance(value, Mapping):
                table = sums.setdefault(one.name, {})
                for label, count in value.items():
                    table[label] = table.get(label, 0) + count
            elif one.name != "view":
                sums[one.name] = sums.get(one.name, 0) + value
    return CacheStats(view, **sums)


class Tally:
    """The counters of one view. Each method is one step under a lock of its own, well below a microsecond."""

    def __init__(self, view: str) -> None:
        self.view = view
        self.start_over()

    def start_over(self) -> None:
        """Nothing is counted yet: for a forked child, where another thread of the parent may have had the lock."""
        self._mutex = threading.Lock()
        self._hits: dict[str, int] = {}
        self._misses: dict[str, int] = {}
        self._not_stored: dict[str, int] = {}
        self._bypassed: dict[str, int] = {}
        self._collapsed = self._stored = self._stored_bytes = self._not_modified = self._failed = 0
        self._computed = self._waits = 0
        self._compute_seconds = self._wait_seconds = 0.0

    def note(self, response: R) -> R:
        """Count an answer by what its Cache-Status says; returns it."""
        told = getattr(response, TOLD, None)
        if told is None:
            return response  # POOLING["ENABLED"] is False, or the view returned something that is no response
        parts, detail = told
        word = parts[0]
        with self._mutex:
            if response.status_code == 304:  # type: ignore[attr-defined]
                self._not_modified += 1
            if word == "hit":
                _add(self._hits, detail or FRESH)
            elif "collapsed" in parts:
                self._collapsed += 1
            elif word == "fwd=bypass":
                _add(self._bypassed, reason(detail))
            elif word == "fwd=method":
                _add(self._bypassed, "method")
            else:
                _add(self._misses, word.removeprefix("fwd="))
                if "stored" in parts:
                    self._stored += 1
                else:
                    _add(self._not_stored, reason(detail))
        if moments.listeners:
            moments.tell(moments.Answered(self.view, parts, reason(detail) if detail else ""))
        return response

    def failed(self) -> None:
        """A request ended in an exception."""
        with self._mutex:
            self._failed += 1

    def computed(self, seconds: float, stored_bytes: int) -> None:
        """The view was called after a miss and has answered; so many bytes of its answer were stored."""
        with self._mutex:
            self._computed += 1
            self._stored_bytes += stored_bytes
            self._compute_seconds += seconds

    def waited(self, seconds: float) -> None:
        """A request waited for another that computed the same page."""
        with self._mutex:
            self._waits += 1
            self._wait_seconds += seconds

    def stats(self) -> CacheStats:
        """The counts of this moment."""
        with self._mutex:
            return CacheStats(
                view=self.view,
                hits=sum(self._hits.values()),
                hits_by=dict(self._hits),
                collapsed=self._collapsed,
                misses=sum(self._misses.values()),
                misses_by=dict(self._misses),
                stored=self._stored,
                stored_bytes=self._stored_bytes,
                not_stored=dict(self._not_stored),
                bypassed=dict(self._bypassed),
                not_modified=self._not_modified,
                failed=self._failed,
                computed=self._computed,
                compute_seconds=self._compute_seconds,
                waits=self._waits,
                wait_seconds=self._wait_seconds,
            )


def reason(detail: str | None) -> str:
    """The class of a detail: of an error only that it was one, since its text differs from time to time."""
    if not detail:
        return OTHER
    return "store down" if detail.startswith("store down") else detail[:_LONGEST]


def _add(table: dict[str, int], label: str) -> None:
    count = table.get(label)
    if count is None and len(table) >= LABELS:
        label = OTHER
        count = table.get(label)
    table[label] = 1 if count is None else count + 1


_tallies: dict[str, Tally] = {}


def tally(view: str) -> Tally:
    """The counters of the view of this name, the same for all who ask."""
    return _tallies.get(view) or _tallies.setdefault(view, Tally(view))


def cache_stats() -> dict[str, CacheStats]:
    """The counts of this process for each cached view, by the view's name."""
    return {name: one.stats() for name, one in sorted(_tallies.copy().items())}


def reset() -> None:
    """Nothing is counted yet: for a forked child, and for tests."""
    for one in _tallies.copy().values():
        one.start_over()


after_in_child(reset)
