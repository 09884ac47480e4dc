"""Workers that are slower than whoever tells them to stand still."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faults import fleet
from faults.fleet import Fleet, Process
from faults.history import History


@pytest.fixture
def process() -> Iterator[Process]:
    workers = Fleet("seed", [{}], History(), "tests.faults.late_worker")
    workers.start(1.0)
    yield workers.processes[0]
    workers.kill()


def test_who_stands_still_too_late_is_not_left_standing(process: Process) -> None:
    assert process.stop_at("there", 0.0)
    process.go_on()
    assert process.end() == ""


def test_who_does_not_end_is_a_finding(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    assert process.stop_at("there", 0.0)
    monkeypatch.setattr(fleet, "DEADLINE", 0.1)
    assert process.end() == "worker 0 did not end"
