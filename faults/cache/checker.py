"""What must hold of every answer. Pure: from the history to how old answers were, and what is wrong."""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..checker import BROKEN, PROGRESS, Finding
from ..history import Event
from .shelves import LEVELS

STALE, LATE, OWN, FUTURE, IDLE = "stale", "late", "own write", "never written", "idle"
KINDS = {
    STALE: "at levels remote and validated no answer is older than a write that was answered before it was asked for",
    LATE: "at level near none is by more than the heartbeat",
    OWN: "at level near none is older than a write of the same process",
    FUTURE: "no answer shows what was not committed",
    IDLE: "there were hits at each level, at level near without asking the store",
    PROGRESS: "everybody writes, and has hits at each level, soon after each heal",
    BROKEN: "no error but those that are documented",
}


@dataclass(frozen=True)
class Look:
    """Answers of one version that a reader got one after the other; times in seconds, of the last one asked for."""

    begun: float
    worker: int
    level: str
    shelf: int
    version: int
    count: int = 1
    hits: int = 1
    unasked: int = 0


@dataclass(frozen=True)
class Write:
    """A write, and when it was answered."""

    time: float
    worker: int
    shelf: int
    version: int


@dataclass
class Level:
    """What the answers at one level were like. ``oldest``: by how many seconds the oldest was too old, 0 if none."""

    answers: int = 0
    hits: int = 0
    unasked: int = 0
    too_old: int = 0
    oldest: float = 0.0


@dataclass
class Verdict:
    """``marks``: when and at which worker an answer was too old."""

    levels: dict[str, Level]
    findings: list[Finding] = field(default_factory=list)
    marks: list[tuple[float, int]] = field(default_factory=list)

    def add(self, kind: str, text: str) -> None:
        self.findings.append(Finding(kind, text))


def looks(events: Iterable[Event]) -> list[Look]:
    names = ("worker", "level", "shelf", "version", "count", "hits", "unasked")
    return [
        Look(event.detail["begun"] / 1e9, event.worker, *(event.detail[name] for name in names[1:]))
        for event in events
        if "begun" in event.detail
    ]


def writes(events: Iterable[Event]) -> list[Write]:
    """Those that were answered."""
    shelves: dict[str, int] = {}
    found = []
    for event in events:
        if event.point == "start":
            shelves[event.transfer] = event.detail["accounts"][0]
        elif event.point == "done":
            found.append(Write(event.time, event.worker, shelves[event.transfer], event.detail["version"]))
    return found


class Answered:
    """When it had been said of a shelf for the first time that it has something newer than a version."""

    def __init__(self, found: Iterable[Write]) -> None:
        by_shelf: defaultdict[int, list[Write]] = defaultdict(list)
        for write in found:
            by_shelf[write.shelf].append(write)
        self._versions: dict[int, list[int]] = {}
        self._times: dict[int, list[float]] = {}
        for shelf, all_of_it in by_shelf.items():
            all_of_it.sort(key=lambda write: write.version)
            first, times = math.inf, []
            for write in reversed(all_of_it):  # answers may come in another order than commits
                first = min(first, write.time)
                times.append(first)
            self._versions[shelf] = [write.version for write in all_of_it]
            self._times[shelf] = times[::-1]

    def staleness(self, look: Look) -> float:
        """Seconds from the answer to a newer write until this look began; 0 or less: it was not too old."""
        at = bisect.bisect_right(self._versions.get(look.shelf, []), look.version)
        times = self._times.get(look.shelf, [])
        return look.begun - times[at] if at < len(times) else -math.inf


def check(events: Sequence[Event], final: Mapping[int, int], heartbeat: float) -> Verdict:
    """``final``: the version of each shelf at the end, as far as it is known; ``heartbeat`` in seconds."""
    verdict = Verdict({level: Level() for level in LEVELS})
    answered = writes(events)
    everybody = Answered(answered)
    own = {worker: Answered([one for one in answered if one.worker == worker]) for worker in _workers(events)}
    for look in looks(events):
        level = verdict.levels[look.level]
        level.answers += look.count
        level.hits += look.hits
        level.unasked += look.unasked
        staleness = everybody.staleness(look)
        if look.version > final.get(look.shelf, math.inf):
            verdict.add(FUTURE, f"version {look.version} of shelf {look.shelf}, which has {final[look.shelf]}")
        if staleness <= 0:
            continue
        level.too_old += 1
        level.oldest = max(level.oldest, staleness)
        what = (
            f"worker {look.worker}, level {look.level}: version {look.version} of shelf {look.shelf}, asked for "
            f"{staleness:.4f} s after a newer one had been answered"
        )
        if look.level != "near":
            verdict.add(STALE, what)
        elif staleness > heartbeat:
            verdict.add(LATE, what)
        elif own[look.worker].staleness(look) > 0:
            verdict.add(OWN, what)
        else:
            continue
        verdict.marks.append((look.begun, look.worker))
    for name, level in verdict.levels.items():
        if not level.hits or (name == "near" and not level.unasked):
            verdict.add(IDLE, f"level {name}: {level.hits} hits, {level.unasked} of them without asking the store")
    for event in events:
        if event.point == "broken":
            verdict.add(BROKEN, event.detail["error"])
    return verdict


def _workers(events: Iterable[Event]) -> set[int]:
    return {event.worker for event in events}
