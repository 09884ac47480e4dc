from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import pytest

from pooling.pool import PoolOptions


def test_defaults_are_the_documented_ones() -> None:
    assert dataclasses.asdict(PoolOptions.parse(True)) == {
        "min_size": 0,
        "max_size": 10,
        "timeout": 30.0,
        "max_waiting": 0,
        "max_lifetime": 3600.0,
        "max_idle": 600.0,
        "reconnect_timeout": 300.0,
        "leak_after": None,
        "keepalive": None,
        "reserve": 10,
        "budget_dir": None,
    }
    assert PoolOptions.parse({}) == PoolOptions.parse(True)


def test_a_mapping_is_taken_over() -> None:
    assert PoolOptions.parse({"min_size": 2, "timeout": 5}) == PoolOptions(min_size=2, timeout=5.0)


@pytest.mark.parametrize("value", [False, None, 1, "yes", [("max_size", 3)]])
def test_other_types_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="must be True or a dict"):
        PoolOptions.parse(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["min_size", "max_size", "max_waiting"])
@pytest.mark.parametrize("value", [True, 1.0, "3", None, -1, math.nan])
def test_counts(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        PoolOptions.parse({name: value})


@pytest.mark.parametrize("name", ["timeout", "max_lifetime", "max_idle", "reconnect_timeout"])
@pytest.mark.parametrize("value", [True, "3", None, -1, 0, math.nan, math.inf, -math.inf, 1e10, float(10**300)])
def test_times(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        PoolOptions.parse({name: value})


@pytest.mark.parametrize("name", ["leak_after", "keepalive"])
@pytest.mark.parametrize("value", [True, "3", -1, 0, math.nan, math.inf])
def test_times_that_may_be_none(name: str, value: object) -> None:
    assert getattr(PoolOptions.parse({name: 5}), name) == 5.0
    assert getattr(PoolOptions.parse({name: None}), name) is None
    with pytest.raises(ValueError, match=name):
        PoolOptions.parse({name: value})


def test_sizes_must_fit_together() -> None:
    with pytest.raises(ValueError, match=r"'max_size' \(2\) is smaller than 'min_size' \(3\)"):
        PoolOptions(min_size=3, max_size=2)
    with pytest.raises(ValueError, match="max_size"):
        PoolOptions(max_size=0)


def test_an_option_without_effect_is_refused() -> None:
    with pytest.raises(ValueError, match="'budget_dir' has an effect only with 'max_size': \"auto\""):
        PoolOptions(budget_dir="/tmp")


@pytest.mark.parametrize(
    ("wrong", "near"), [("maxsize", "max_size"), ("TIMEOUT", "timeout"), ("max_wait", "max_waiting")]
)
def test_an_unknown_name_gets_the_nearest_known(wrong: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"no pool option '{wrong}'. Did you mean '{near}'"):
        PoolOptions.parse({wrong: 1})


def test_a_name_that_is_no_string() -> None:
    with pytest.raises(ValueError, match="no pool option 5"):
        PoolOptions.parse({5: 1})  # type: ignore[dict-item]


def test_the_pool_imports_neither_django_nor_a_driver() -> None:
    code = "import sys, pooling.pool; print([m for m in ('django', 'MySQLdb', 'redis') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
