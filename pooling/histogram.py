"""Durations counted in buckets whose width grows with them: a percentile of any number of them, in half a kilobyte."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from operator import add
from typing import Any

# Two buckets for each power of two microseconds, from one to two hours: a percentile is told to a quarter.
_BITS = 33
_BUCKETS = 2 * _BITS


def bucket_of(seconds: float) -> int:
    micros = int(seconds * 1e6)
    size = micros.bit_length()
    if size < 2:
        return size
    return 2 * size - 2 + (micros >> (size - 2) & 1) if size <= _BITS else _BUCKETS - 1


def middle_of(bucket: int) -> float:
    """Seconds in the middle of a bucket."""
    if bucket < 2:
        return bucket / 1e6
    size, upper = divmod(bucket + 2, 2)
    return (1 << size) * (0.875 if upper else 0.625) / 1e6


class Histogram:
    """Durations in buckets. Not thread-safe."""

    __slots__ = ("buckets", "count", "longest", "total")

    def __init__(self) -> None:
        self.buckets = array("Q", bytes(8 * _BUCKETS))
        self.count = 0
        self.total = 0.0
        self.longest = 0.0

    def add(self, seconds: float, bucket: int) -> None:
        self.buckets[bucket] += 1
        self.count += 1
        self.total += seconds
        if seconds > self.longest:
            self.longest = seconds

    def take(self, other: Histogram) -> None:
        """Add what another one has counted."""
        if other.count:  # one pass in C: a page that adds up all groups of fifty processes does this 10,000 times
            self.buckets = array("Q", map(add, self.buckets, other.buckets))
        self.count += other.count
        self.total += other.total
        self.longest = max(self.longest, other.longest)

    def copy(self) -> Histogram:
        made = Histogram.__new__(Histogram)
        made.buckets, made.count, made.total, made.longest = self.buckets[:], self.count, self.total, self.longest
        return made

    def used(self) -> list[tuple[int, int]]:
        """The buckets that have any, each with how many, the shortest first."""
        return [(bucket, number) for bucket, number in enumerate(self.buckets) if number] if self.count else []

    def quantile(self, part: float, zeros: int = 0, used: Sequence[tuple[int, int]] | None = None) -> float:
        """Seconds within which this part of all was done. ``zeros``: how many more took no time at all. ``used``: what
        `used` says, for who asks several times."""
        rank = part * (self.count + zeros) - zeros
        if rank <= 0:
            return 0.0
        for bucket, number in self.used() if used is None else used:
            rank -= number
            if rank <= 0:
                return min(middle_of(bucket), self.longest)
        return self.longest

    def as_json(self, zeros: int = 0) -> dict[str, Any]:
        used = self.used()  # one look at all of them: each process does this for all its groups, every few seconds
        return {
            "count": self.count + zeros,
            "total": round(self.total, 6),
            "max": round(self.longest, 6),
            "p50": round(self.quantile(0.50, zeros, used), 6),
            "p99": round(self.quantile(0.99, zeros, used), 6),
            "buckets": {str(bucket): number for bucket, number in used},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Histogram:
        """KeyError, TypeError, ValueError, IndexError or OverflowError for anything that `as_json` has not made."""
        made = cls()
        for bucket, number in data["buckets"].items():
            made.buckets[int(bucket)] = number
            made.count += number
        made.total, made.longest = data["total"], data["max"]
        return made
