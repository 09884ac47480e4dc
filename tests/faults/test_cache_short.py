"""A short run of the cache under faults, as `make faults` has it for a minute, and its two controls."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from faults.cache.__main__ import carry_out
from faults.cache.run import Plan

SEED = "short"
KINDS = (
    "kill -9 of a writer",
    "stop of a reader",
    "Redis wiped",
    "Redis restarted empty",
    "cut off, no sign",
    "CLIENT KILL",
    "sessions killed",
)
PATIENCE = 60.0  # seconds at most until what is broken must have been found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The servers' data, made once for all."""
    return tmp_path_factory.mktemp("faults")


def test_nobody_gets_a_page_older_than_an_answered_write(data: Path, tmp_path: Path) -> None:
    done = carry_out(Plan("cache", SEED, 0.0, KINDS), data, tmp_path)
    assert done.complaints() == []
    assert ElementTree.parse(tmp_path / "cache.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize(("broken", "kind"), [("epochs", "stop of a reader"), ("heartbeat", "cut off, no sign")])
def test_what_is_broken_on_purpose_is_found(broken: str, kind: str, data: Path, tmp_path: Path) -> None:
    done = carry_out(Plan("control", SEED, PATIENCE, (kind,), broken), data, tmp_path)
    assert done.complaints() == []
    assert done.marks
