"""The checker finds what it is there to find: each invariant, broken by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from faults import checker, picture
from faults.bank import Audit
from faults.checker import Story
from faults.history import Event
from faults.run import Plan, Result

BALANCE = 100
FIRST = Audit("a", 1, 5, 0, 100, 0, 1, 100, 0)
SECOND = Audit("b", 2, 7, 1, 105, 1, 0, 95, 1)
ACCOUNTS = {0: (102, 2), 1: (98, 2)}


def kinds(findings: list[checker.Finding]) -> set[str]:
    return {finding.kind for finding in findings}


def story(
    name: str, token: int = 1, accounts: tuple[int, ...] = (0, 1), outcome: str = "done", **reached: float
) -> Story:
    at = {"start": 1.0, "granted": 2.0, "committed": 3.0, outcome: 4.0, **reached}
    return Story(name, 0, at["start"], accounts, token, outcome, reached=at)


def test_a_bank_in_order() -> None:
    assert checker.check_bank(ACCOUNTS, [SECOND, FIRST], BALANCE) == []


def test_money_that_came_from_nowhere() -> None:
    assert checker.SUM in kinds(checker.check_bank({0: (102, 2), 1: (99, 2)}, [FIRST, SECOND], BALANCE))


def test_two_that_read_the_same_version() -> None:
    other = replace(FIRST, transfer="c", token=2)
    found = checker.check_bank({0: (95, 1), 1: (105, 1)}, [FIRST, other], BALANCE)
    assert kinds(found) == {checker.LOST}
    assert "a, c read version 0 of account 0" in found[0].text


def test_a_balance_that_the_audit_does_not_explain() -> None:
    assert kinds(checker.check_bank(ACCOUNTS, [FIRST, replace(SECOND, source_balance=104)], BALANCE)) == {checker.LOST}
    assert kinds(checker.check_bank({0: (103, 2), 1: (97, 2)}, [FIRST, SECOND], BALANCE)) == {checker.LOST}


def test_an_older_token_after_a_newer_one() -> None:
    for token in (0, 1):
        assert kinds(checker.check_bank(ACCOUNTS, [FIRST, replace(SECOND, token=token)], BALANCE)) == {checker.TOKENS}


def test_answers_that_are_not_true() -> None:
    told = {"a": story("a"), "b": story("b", outcome="unknown")}
    assert checker.check_answers(told, [FIRST]) == checker.check_answers(told, [FIRST, SECOND]) == []
    assert kinds(checker.check_answers(told, [])) == {checker.ANSWERS}
    assert kinds(checker.check_answers({"a": story("a", outcome="refused")}, [FIRST])) == {checker.ANSWERS}
    assert kinds(checker.check_answers({}, [FIRST])) == {checker.ANSWERS}
    assert kinds(checker.check_answers({"a": story("a", outcome="broken")}, [])) == {checker.BROKEN}


def calm(*told: Story, until: float = 10.0) -> set[str]:
    return kinds(checker.check_calm({one.transfer: one for one in told}, [(0.0, until)]))


def test_holds_that_overlap() -> None:
    one = story("a")
    assert calm(one, story("b", 2, granted=3.1, committed=3.2)) == set()
    assert calm(one, story("b", 2, granted=2.5)) == {checker.OVERLAP}
    assert calm(one, story("b", 2, accounts=(2, 3), granted=2.5)) == set()
    assert calm(one, story("b", 2, granted=2.5), until=3.5) == set()  # with faults it may be


def test_one_who_overtakes_a_waiter() -> None:
    older = story("a", 2, waiting=1.1, granted=3.5, committed=3.6)
    assert calm(older, story("b", 1, start=1.2, granted=2.0)) == {checker.OVERTAKEN}
    assert calm(older, story("b", 1, start=1.0, granted=2.0)) == set()  # it may have been the first to ask
    assert calm(older, story("b", 1, accounts=(2, 3), start=1.2, granted=2.0)) == set()


def result(told: dict[str, Story], findings: list[checker.Finding], **plan: Any) -> Result:
    events = [
        Event(0.0, -1, "", "fault", {"kind": "Redis <wiped>"}),
        Event(31.0, -1, "", "healed", {"kind": "Redis <wiped>"}),
        Event(31.0, 0, "", "stopped", {"at": "commit"}),
        Event(32.0, 0, "", "start"),
    ]
    chosen = Plan("a run", "seed", 1.0, **{"kinds": (), **plan})
    return Result(chosen, events, told, findings, Counter(), {})


def test_a_control_that_finds_nothing_is_a_failure() -> None:
    lost = checker.lost_updates([FIRST, replace(FIRST, transfer="c")])
    assert result({}, lost, fence=False).complaints() == []
    assert "lost no update" in result({}, [], fence=False).complaints()[0]
    assert result({}, [], kinds=("Redis wiped",)).complaints() == ["Redis wiped: never injected"]
    assert result({}, [], on_store_down="fence").complaints() == ["nobody wrote while Redis was away"]
    assert len(result({}, lost).complaints()) == len(lost)


def test_the_picture_has_strips_of_half_a_minute_and_rings_around_lost_updates() -> None:
    found = result({"a": story("a", waiting=1.5)}, checker.lost_updates([FIRST, FIRST]))
    drawn = picture.draw(found.plan.name, found.events, found.told, found.marks, "lost update")
    assert "Redis &lt;wiped&gt;" in drawn
    assert drawn.count("#ffebee") == 2  # the fault goes on in the second strip
    assert drawn.count("<circle") == 1 + 2
