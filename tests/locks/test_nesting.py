"""What the system checks say of a hold inside others, beside the rules of the run time."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pooling.errors import LockOrderError
from pooling.groups import Template, plan
from pooling.locks.order import check_order, modes_of, remaining
from pooling.nesting_checks import refusal
from pooling.spec import Spec

LEVELS = st.sampled_from(["a", "b", "c", "{x}", "{y}"])
TEMPLATES = st.lists(st.lists(LEVELS, min_size=1, max_size=3).map("/".join), max_size=2)
LITERALS = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join), max_size=2)
RANKS = st.permutations("abc").flatmap(lambda order: st.integers(0, 3).map(lambda most: order[:most]))
VALUES = ["0", "a", "b", "zz"]


class Held:
    def __init__(self, taken: Any) -> None:
        self._taken = taken


def refused(outer: list[Spec], inner: Spec, values: list[dict[str, str]], ranks: dict[str, int]) -> bool:
    """Do the rules of the run time refuse it, with these values for the arguments of each?"""
    taken: list[Any] = []
    for spec, arguments in zip([*outer, inner], values, strict=True):
        reads, writes = ([one.fill(arguments.__getitem__) for one in some] for some in (spec.reads, spec.writes))
        held = modes_of(taken)
        new = remaining(plan(reads, writes, ranks), held, ranks)
        if held and new.wants:
            try:
                check_order(new, held, ranks, "")
            except LockOrderError:
                return True
        taken.append(Held(new.wants))
    return False


def specs(templates: Any) -> Any:
    def make(parts: tuple[list[str], list[str]]) -> Spec:
        return Spec(*(tuple(map(Template.parse, part)) for part in parts))

    return st.tuples(templates, templates).filter(any).map(make)


def ranked(order: list[str]) -> dict[str, int]:
    return {name: rank for rank, name in enumerate(order)}


@given(st.lists(specs(TEMPLATES), min_size=1, max_size=2), specs(TEMPLATES), RANKS)
def test_what_is_reported_fails_whatever_the_arguments_are(outer: list[Spec], inner: Spec, order: list[str]) -> None:
    ranks = ranked(order)
    if refusal(outer, inner, ranks, same_arguments=True):
        for x, y in itertools.product(VALUES, repeat=2):
            assert refused(outer, inner, [{"x": x, "y": y}] * (len(outer) + 1), ranks)


@given(specs(TEMPLATES), specs(TEMPLATES), RANKS)
def test_the_same_of_a_call_with_arguments_of_its_own(outer: Spec, inner: Spec, order: list[str]) -> None:
    ranks = ranked(order)
    if refusal([outer], inner, ranks):
        for x, y, p, q in itertools.product(VALUES, repeat=4):
            assert refused([outer], inner, [{"x": x, "y": y}, {"x": p, "y": q}], ranks)


@given(specs(LITERALS), specs(LITERALS), RANKS)
def test_without_arguments_all_that_fails_is_reported(outer: Spec, inner: Spec, order: list[str]) -> None:
    ranks = ranked(order)
    assert bool(refusal([outer], inner, ranks)) == refused([outer], inner, [{}, {}], ranks)
