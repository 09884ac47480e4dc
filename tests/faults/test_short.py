"""A short run of what `make faults` does for minutes."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from faults.__main__ import carry_out
from faults.run import Plan

SEED = "short"
KINDS = (
    "stop after the grant",
    "stop before the commit",
    "kill -9 of a holder",
    "Redis wiped",
    "reply dropped",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The servers' data, made once for all."""
    return tmp_path_factory.mktemp("faults")


def test_with_fences_nothing_is_lost(data: Path, tmp_path: Path) -> None:
    done = carry_out(Plan("fenced", SEED, 0.0, calm=0.5, kinds=KINDS), data, tmp_path)
    assert done.complaints() == []
    assert ElementTree.parse(tmp_path / "fenced.svg").getroot().tag.endswith("svg")


def test_without_fences_updates_are_lost(data: Path, tmp_path: Path) -> None:
    """The negative control: a run that lost none without fences would show nothing with them."""
    done = carry_out(
        Plan("control", SEED, 0.0, calm=0.5, fence=False, kinds=("stop before the commit",)), data, tmp_path
    )
    assert done.complaints() == []
    assert done.lost


def test_with_fences_alone_nothing_is_lost_in_the_change_over(data: Path, tmp_path: Path) -> None:
    plan = Plan("alone", SEED, 0.0, calm=0.5, on_store_down="fence", kinds=("Redis cut off",))
    done = carry_out(plan, data, tmp_path)
    assert done.complaints() == []
    assert done.alone
