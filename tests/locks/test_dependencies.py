"""`pooling.locks.dependencies` beside a reference that looks at every pair of dependencies."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pooling.locks.circles import circle
from pooling.locks.dependencies import Dependencies, Dependency, Resource

NAMES = ["a", "b", "a/x", "a/{p}", "a/{q}/x", "c/{p}"]
RESOURCES = [*map(Resource, NAMES), *(Resource(alias, database=True) for alias in ("a", "default"))]
PAIRS = [pair for pair in itertools.product(RESOURCES, repeat=2) if pair[0] != pair[1]]


def overlap(one: Resource, other: Resource) -> bool:
    if one.database or other.database:
        return one.database and other.database and one.name == other.name
    mine, theirs = one.name.split("/"), other.name.split("/")
    return all(mine[i] == theirs[i] or "{" in mine[i] + theirs[i] for i in range(min(len(mine), len(theirs))))


def reachable(pairs: list[tuple[Resource, Resource]]) -> set[tuple[int, int, bool]]:
    """(i, j, through a database): one can go from dependency i to j. Transitive closure, by brute force."""
    steps = {
        (i, j, any(resource.database for resource in (*pairs[i], *pairs[j])))
        for i, j in itertools.product(range(len(pairs)), repeat=2)
        if overlap(pairs[i][1], pairs[j][0])
    }
    while True:
        more = {(i, k, a or b) for (i, j, a), (j2, k, b) in itertools.product(steps, repeat=2) if j == j2} - steps
        if not more:
            return steps
        steps |= more


@given(st.lists(st.sampled_from(PAIRS), max_size=7, unique=True))
def test_a_circle_is_found_just_when_there_is_one(pairs: list[tuple[Resource, Resource]]) -> None:
    known = Dependencies()
    for number, (held, asked) in enumerate(pairs, 1):
        found = known.add(Dependency(held, asked, f"view {number}"))
        assert bool(found) == ((number - 1, number - 1, True) in reachable(pairs[:number]))
        if found:
            assert (found[0].held, found[0].asked) == (held, asked)
            assert any(one.held.database or one.asked.database for one in found)
            for one, after in itertools.pairwise([*found, found[0]]):
                assert overlap(one.asked, after.held)
            assert circle(found)
    assert {(one.held, one.asked) for one in known.all()} == set(pairs)


DEFAULT = Resource("default", database=True)


def test_the_shortest_circle_is_reported_and_only_once() -> None:
    known = Dependencies()
    a, b = Resource("a"), Resource("b")
    assert known.add(Dependency(DEFAULT, a, "one")) == []
    assert known.add(Dependency(a, b, "two")) == []
    assert [one.who for one in known.add(Dependency(b, DEFAULT, "three"))] == ["three", "one", "two"]
    assert known.add(Dependency(b, DEFAULT, "again")) == []
    assert [one.who for one in known.add(Dependency(a, DEFAULT, "four"))] == ["four", "one"]


def test_a_database_is_no_group_of_its_name() -> None:
    known = Dependencies()
    assert known.add(Dependency(Resource("default"), DEFAULT, "one")) == []
    assert known.add(Dependency(DEFAULT, Resource("default/x"), "two"))


def test_it_stays_small() -> None:
    known = Dependencies(limit=3)
    for number in range(10):
        known.add(Dependency(Resource(f"g{number}"), DEFAULT, "view"))
    assert len(known.all()) == 3
    assert known.is_full
    assert known.add(Dependency(DEFAULT, Resource("g1"), "view")) == []
    known.clear()
    assert not known.is_full
    assert known.all() == []
