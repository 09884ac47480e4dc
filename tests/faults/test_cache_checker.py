"""The checker of the cache's answers finds what it is there to find: each invariant, broken by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from faults.cache import checker, report
from faults.cache.checker import Answered, Look, Write
from faults.cache.run import Plan, Result
from faults.checker import BROKEN, Finding
from faults.history import Event

HEARTBEAT = 0.5
FINAL = {0: 9, 1: 9}


def wrote(time: float, worker: int, version: int, shelf: int = 0) -> list[Event]:
    name = f"{worker}.{version}.{shelf}"
    return [
        Event(time - 0.1, worker, name, "start", {"accounts": [shelf]}),
        Event(time, worker, name, "done", {"version": version}),
    ]


def saw(begun: float, worker: int, version: int, level: str, shelf: int = 0, **more: int) -> Event:
    counts = {"count": 1, "hits": 1, "unasked": 1, **more}
    detail = {"level": level, "shelf": shelf, "version": version, "begun": round(begun * 1e9), **counts}
    return Event(begun + 1, worker, "", f"hit {level}", detail)


# At rest and as it should be: a hit at each level.
CALM = [saw(0.5, 0, 0, level) for level in ("near", "validated", "remote")]


def kinds(*events: Event) -> list[str]:
    found = checker.check([*CALM, *events], FINAL, HEARTBEAT)
    assert len(found.marks) == sum(one.kind in (checker.STALE, checker.LATE, checker.OWN) for one in found.findings)
    return [one.kind for one in found.findings]


@pytest.mark.parametrize("level", ["validated", "remote"])
def test_an_answer_older_than_a_write_that_was_answered(level: str) -> None:
    assert kinds(*wrote(10, 1, 5), saw(10.001, 0, 4, level)) == [checker.STALE]
    assert kinds(*wrote(10, 1, 5), saw(9.999, 0, 4, level)) == []  # it was asked for before
    assert kinds(*wrote(10, 1, 5), saw(10.001, 0, 5, level)) == []
    assert kinds(*wrote(10, 1, 5), saw(10.001, 0, 7, level)) == []  # written and not answered yet
    assert kinds(*wrote(10, 1, 5), saw(10.001, 0, 4, level, shelf=1)) == []


def test_near_may_be_older_by_a_heartbeat_and_not_than_its_own_writes() -> None:
    assert kinds(*wrote(10, 1, 5), saw(10.4, 0, 4, "near")) == []
    assert kinds(*wrote(10, 1, 5), saw(10.6, 0, 4, "near")) == [checker.LATE]
    assert kinds(*wrote(10, 0, 5), saw(10.1, 0, 4, "near")) == [checker.OWN]


def test_the_oldest_is_measured_from_the_first_newer_write_that_was_answered() -> None:
    answered = Answered([Write(12, 0, 0, 5), Write(11, 1, 0, 7), Write(20, 1, 0, 9)])
    assert answered.staleness(Look(13, 0, "near", 0, 4)) == 2  # by then 7 had been answered, though not 5
    assert answered.staleness(Look(13, 0, "near", 0, 6)) == 2
    assert answered.staleness(Look(13, 0, "near", 0, 7)) < 0
    assert answered.staleness(Look(13, 0, "near", 0, 9)) < 0
    assert answered.staleness(Look(13, 0, "near", 3, 0)) < 0
    found = checker.check([*CALM, *wrote(10, 1, 5), saw(10.4, 0, 4, "near", count=3, hits=2)], FINAL, HEARTBEAT)
    level = found.levels["near"]
    assert (level.answers, level.hits, level.too_old, round(level.oldest, 6)) == (4, 3, 1, 0.4)


def test_what_was_never_committed() -> None:
    assert kinds(saw(1, 0, 10, "near")) == [checker.FUTURE]


def test_a_run_without_hits_shows_nothing() -> None:
    without = [replace(one, detail={**one.detail, "unasked": 0}) for one in CALM]
    found = checker.check(without, FINAL, HEARTBEAT).findings
    assert [one.kind for one in found] == [checker.IDLE]  # near asked each time
    assert len(checker.check([], FINAL, HEARTBEAT).findings) == 3


def test_an_error_that_nobody_documented() -> None:
    assert kinds(Event(1, 0, "", "broken", {"error": "ZeroDivisionError"})) == [BROKEN]


def result(findings: list[Finding], **plan: Any) -> Result:
    events = [*wrote(1, 0, 1), Event(2.0, 0, "", "no answer", {"error": "StoreUnavailable"})]
    levels = checker.check(CALM, FINAL, HEARTBEAT).levels
    return Result(Plan("a run", "seed", 1.0, **{"kinds": (), **plan}), events, {}, levels, findings, [], Counter(), {})


def test_a_control_that_finds_nothing_is_a_failure() -> None:
    stale, late = Finding(checker.STALE, "old"), Finding(checker.LATE, "older")
    assert result([stale]).complaints() == ["stale: old"]
    assert result([stale], broken="epochs").complaints() == []
    assert result([late], broken="heartbeat").complaints() == []
    for broken, found in (("epochs", late), ("heartbeat", stale)):
        assert "the negative control found nothing" in result([found], broken=broken).complaints()[0]
    assert result([], kinds=("Redis wiped",)).complaints() == ["Redis wiped: never injected"]


def test_the_words_say_what_failed() -> None:
    words = report.words(result([Finding(checker.STALE, "old")]))
    assert f"FAILED: {checker.KINDS[checker.STALE]}" in words
    assert f"holds: {checker.KINDS[checker.LATE]}" in words
    assert "! stale: old" in words
    assert "1 StoreUnavailable" in words
