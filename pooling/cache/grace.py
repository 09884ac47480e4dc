"""Old pages: how long one that counts no more may still be served, and when a good one is renewed before its time.

A page grows old in two ways. Its time is up: then it is known when. Or something was written that it was made from:
that is seen from its epochs, which are equal or not and do not say since when. So the time counts from when the page
was last *known to be good*: when it was stored, or when this process last found its epochs unchanged. It can only have
become old after that, so whoever counts from there never serves it for longer than was promised. The price: a process
that has not met a page for a while does not serve it old. Where many requests come together, which is what old pages
are served for, each process meets it all the time.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..store.protocol import Vector
from . import frame

RETRY_SECONDS = 5.0  # for so long after a failure nobody tries to make a page whose old one may be served
_REMEMBERED = 4096  # pages in each of two generations; about 2 MB both
_LEAST_LIVES = 10.0  # a page whose making takes longer than this part of its life would be made without a pause
_NEVER = 30.0  # times the cost: exp(-30) is no chance worth a random number

# What tests put in the place of chance and of time.
rand: Callable[[], float] = random.random
monotonic: Callable[[], float] = time.monotonic
wall: Callable[[], float] = time.time


class Sightings:
    """When each page was last known to be good, in this process. Needs no lock: what a race loses is a sighting, which
    makes a page count as older than it is."""

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._limit = limit
        self._new: dict[str, tuple[Vector, float]] = {}
        self._before: dict[str, tuple[Vector, float]] = {}

    def note(self, key: str, vector: Vector, at: float) -> None:
        """The epochs of the page under ``key`` had the values ``vector`` at the moment ``at`` (monotonic seconds)."""
        if len(self._new) >= self._limit and key not in self._new:
            self._before, self._new = self._new, {}
        self._new[key] = vector, at

    def at(self, key: str, vector: Vector) -> float:
        """When they had; minus infinity if that is not known."""
        for known in (self._new, self._before):
            found = known.get(key)
            if found is not None and found[0] == vector:
                return found[1]
        return -math.inf


sightings = Sightings()


@dataclass(frozen=True, slots=True)
class Spare:
    """A page that can be served instead of waiting. ``since``: the earliest moment at which it may have become old,
    monotonic seconds; infinity for one that is good."""

    key: str
    page: frame.Page
    since: float = math.inf
    written: bool = False  # old because of a write; or else its time is up

    @property
    def good(self) -> bool:
        return self.since == math.inf

    def age(self) -> float:
        """For how many seconds it may have been old; negative for one that is good."""
        return monotonic() - self.since

    def failed_lately(self) -> bool:
        """Was there a vain attempt to replace it a moment ago?"""
        return 0 <= wall() - self.page.failed < RETRY_SECONDS


def old(key: str, page: frame.Page, current: bool, asked: float) -> Spare:
    """A page that was found to be old by a question sent at the moment ``asked`` (monotonic seconds). ``current``: are
    its epochs unchanged?"""
    past = wall() - asked  # what to take from wall-clock time to get monotonic time
    expired = page.created + page.ttl - past
    known = asked if current else max(sightings.at(key, page.vector), page.created - past)
    return Spare(key, page, min(expired, known, asked), written=not current)


def is_due(page: frame.Page) -> bool:
    """Is this request the one to renew a good page before its time is up?

    Each request throws dice (XFetch: Vattani, Chierichetti, Lowenstein 2015), and the nearer the end and the longer
    the page takes to make, the likelier it is. So a page that is asked for often is renewed before it expires.
    """
    left = page.created + page.ttl - wall()
    if left >= page.cost * _NEVER:
        return False
    cost = min(page.cost, page.ttl / _LEAST_LIVES)
    return left < cost * _NEVER and left < -cost * math.log(1.0 - rand())
