"""How the workload's rounds become a table and a verdict."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from demo_site.results import Result, Round, table, verdict


def one(requests: int = 100, **more: Any) -> Round:
    """A round of one second in which every request took 10 ms and nothing went wrong."""
    values: dict[str, Any] = {
        "times": (0.01,) * requests,
        "seconds": 1.0,
        "connections": 4,
        "errors": Counter(),
        "deadlocks": 0,
        "done": Counter(),
        "sold_twice": 0,
        "money_lost": Decimal(0),
        "money_astray": Decimal(0),
    }
    return Round(**{**values, **more})


def test_one_round_on_a_busy_machine_does_not_decide() -> None:
    stalled = Result("pooling", (one(300), one(20, seconds=12.0), one(280)))
    text, good = verdict([Result("thread", (one(100),) * 3), stalled])
    assert good
    assert "Fastest: pool + groups + cache, 280 requests/s, 2.8 times the next" in text


@pytest.mark.parametrize(
    "wrong",
    [
        {"errors": Counter({"HTTP 503": 1})},
        {"sold_twice": 1},
        {"money_lost": Decimal(1), "money_astray": Decimal(1)},
        {"money_astray": Decimal(1)},
        {"done": Counter({"wrong reports": 1})},
    ],
)
def test_what_went_wrong_in_one_round_counts(wrong: dict[str, Any]) -> None:
    rounds = (one(300), one(300, **wrong), one(300))
    text, good = verdict([Result("thread", (one(100),) * 3), Result("pooling", rounds)])
    assert not good
    assert text.endswith("!")


def test_money_that_two_rounds_lose_and_find_is_still_astray() -> None:
    rounds = (
        one(money_lost=Decimal(5), money_astray=Decimal(5)),
        one(money_lost=Decimal(-5), money_astray=Decimal(5)),
    )
    result = Result("thread", rounds)
    assert not result.clean
    assert "0.00 (10.00 astray)" in table([result])


def test_the_fastest_must_be_the_last() -> None:
    text, good = verdict([Result("thread", (one(200),)), Result("pooling", (one(100),))])
    assert not good
    assert text.startswith("Fastest: a connection per thread, 200 requests/s, 2.0 times the next")


def test_deadlocks_that_a_server_does_not_count_are_no_zero() -> None:
    known, unknown = Result("thread", (one(deadlocks=2), one(deadlocks=3))), Result("thread", (one(deadlocks=None),))
    assert (known.deadlocks, unknown.deadlocks) == (5, None)
    assert "?" in table([unknown])
