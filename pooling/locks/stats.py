"""How long groups were waited for and held in this process: counts and histograms by group, in bounded memory.

Each group that a hold declares counts under its own path. There is room for `LIMIT` of them. When it is used up, a
group without a line counts in the fold that it belongs to: ``accounts/7`` in ``accounts/{*}``, or ``{*}`` if there is
none. Every so many times such a group gets a line all the same, which is soon a busy one; for that those that were
asked for least are folded, with all that they have counted. So the busy groups are told apart, nothing that was counted
is lost, and no number of accounts makes it grow. No group can have a brace in it, so nobody's is called so.

A request that names several groups waits for all of them at once; its wait counts for each. Intentions on ancestors,
pages that are waited for, and holds that found everything held already are not counted.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from .._forks import after_in_child
from ..histogram import Histogram, bucket_of

LIMIT = 400  # groups and folds
FOLD = "{*}"
_ADMITTED = 32  # of so many requests for groups without a line one gets one


class Group:
    """What was counted of one group. ``waits`` has those that had to wait, in vain or not."""

    __slots__ = ("holds", "timeouts", "waits", "writes")

    def __init__(self) -> None:
        self.holds = Histogram()
        self.waits = Histogram()
        self.writes = 0
        self.timeouts = 0

    @property
    def asked(self) -> int:
        return self.holds.count + self.timeouts

    def take(self, other: Group) -> None:
        self.holds.take(other.holds)
        self.waits.take(other.waits)
        self.writes += other.writes
        self.timeouts += other.timeouts

    def copy(self) -> Group:
        made = Group.__new__(Group)
        made.holds, made.waits = self.holds.copy(), self.waits.copy()
        made.writes, made.timeouts = self.writes, self.timeouts
        return made

    def as_json(self, name: str) -> dict[str, Any]:
        return {
            "group": name,
            "asked": self.asked,
            "waited": self.waits.count,
            "timeouts": self.timeouts,
            "writes": self.writes,
            "hold": self.holds.as_json(),
            "wait": self.waits.as_json(self.asked - self.waits.count),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Group:
        made = cls()
        made.holds, made.waits = Histogram.from_json(data["hold"]), Histogram.from_json(data["wait"])
        made.writes, made.timeouts = data["writes"], data["timeouts"]
        return made


class LockStats:
    """Counts holds. Thread-safe and exact; ``limit`` bounds the groups that are told apart."""

    def __init__(self, limit: int = LIMIT) -> None:
        if limit < 2:
            raise ValueError(f"limit must be 2 or more, not {limit!r}.")
        self._limit = limit
        self.start_over()
        _all.add(self)

    def start_over(self) -> None:
        """With nothing counted: what a forked child's parent has held is not the child's."""
        self._mutex = threading.Lock()
        self._groups: dict[str, Group] = {}
        self._strangers = 0

    def held(self, reads: tuple[str, ...], writes: tuple[str, ...], waited: float, seconds: float) -> None:
        """A hold of these groups has ended after ``seconds``, for which it had waited so long (0: not at all)."""
        bucket = bucket_of(seconds)
        with self._mutex:
            groups = self._groups
            for name in writes:
                group = groups.get(name) or self._enter(name)
                group.writes += 1
                group.holds.add(seconds, bucket)
                if waited:
                    group.waits.add(waited, bucket_of(waited))
            for name in reads:
                group = groups.get(name) or self._enter(name)
                group.holds.add(seconds, bucket)
                if waited:
                    group.waits.add(waited, bucket_of(waited))

    def timed_out(self, groups: Iterable[str], waited: float) -> None:
        """A request for these groups has waited in vain."""
        with self._mutex:
            for name in groups:
                group = self._groups.get(name) or self._enter(name)
                group.timeouts += 1
                group.waits.add(waited, bucket_of(waited))

    def mean_hold(self, groups: Iterable[str]) -> float | None:
        """Seconds for which the slowest of these is held on average, where that is known."""
        with self._mutex:
            found = [self._groups[name].holds for group in groups if (name := self._line_of(group)) is not None]
            return max((one.total / one.count for one in found if one.count), default=None)

    def snapshot(self, most: int | None = None) -> dict[str, Any]:
        """All of it as JSON could have it, the groups that were waited for longest first; see `snapshot`."""
        with self._mutex:
            copies = {name: group.copy() for name, group in self._groups.items()}
        return _as_json(copies, most)

    # -- details, under the mutex

    def _enter(self, name: str) -> Group:
        """Where a group counts that has no line."""
        groups = self._groups
        if self._strangers or len(groups) >= self._limit:  # from the first time on that it was full
            self._strangers += 1
            if self._strangers % _ADMITTED:
                name = self._line_of(name) or FOLD
            elif len(groups) >= self._limit:
                # To a half, so that it comes seldom; again where what was folded made as many lines as it took.
                while len(groups) > self._limit // 2:
                    self._fold()
        group = groups.get(name)
        if group is None:
            group = groups[name] = Group()
        return group

    def _fold(self) -> None:
        groups = self._groups
        ranked = sorted((name for name in groups if name != FOLD), key=lambda name: groups[name].asked)
        for name in ranked[: max(1, len(ranked) // 2)]:
            group = groups.pop(name)
            into = above(name)
            if into in groups:
                groups[into].take(group)
            else:
                groups[into] = group

    def _line_of(self, name: str) -> str | None:
        """Under which name the group is counted."""
        while name not in self._groups:
            if name == FOLD:
                return None
            name = above(name)
        return name


def above(name: str) -> str:
    """What a group, or a fold, is folded into."""
    path = name.removesuffix("/" + FOLD)
    outer, slash, _ = path.rpartition("/")
    return f"{outer}/{FOLD}" if slash else FOLD


def merge(snapshots: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One snapshot of many, such as those of all processes. KeyError, TypeError or ValueError if one is malformed."""
    groups: dict[str, Group] = {}
    for one in snapshots:
        for data in one["groups"]:
            groups.setdefault(data["group"], Group()).take(Group.from_json(data))
    return _as_json(groups)


def _as_json(groups: Mapping[str, Group], most: int | None = None) -> dict[str, Any]:
    ranked = sorted(groups.items(), key=lambda item: (-item[1].waits.total, -item[1].holds.total, item[0]))
    return {
        "groups": [group.as_json(name) for name, group in ranked[:most]],
        "waited": sum(group.waits.count for group in groups.values()),
    }


_all: weakref.WeakSet[LockStats] = weakref.WeakSet()
process = LockStats()  # what every lock manager of this process counts in, unless it was given another


def snapshot(most: int | None = None) -> dict[str, Any]:
    """What this process has counted: ``{"groups": [...], "waited": …}``. The groups that were waited for longest, all
    together, come first, and ``most`` of them at most; ``waited`` is how often one was waited for, of all of them.

    Each group has ``group`` (a path, or a fold), ``asked`` (holds that ended and requests that timed out), ``waited``
    (how many of these had to wait), ``timeouts``, ``writes``, and ``hold`` and ``wait``. Each of the two has ``count``;
    ``total``, ``max``, ``p50``, ``p99`` in seconds (percentiles to a quarter); and ``buckets``, for `merge`. Who did
    not have to wait counts in ``wait`` with 0.
    """
    return process.snapshot(most)


def _after_fork_in_child() -> None:
    for stats in list(_all):
        stats.start_over()


after_in_child(_after_fork_in_child)
