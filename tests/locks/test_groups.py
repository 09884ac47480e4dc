"""Group paths, modes, order and epochs."""

from __future__ import annotations

import datetime
import decimal
import enum
import itertools
import uuid
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pooling.errors import GroupError
from pooling.groups import (
    MAX_BYTES,
    MAX_GROUPS,
    Mode,
    Template,
    ancestors,
    compatible,
    covers,
    escape,
    group,
    includes,
    join,
    order_key,
    plan,
    read_epochs,
    validate,
    write_epochs,
)

values = st.one_of(st.none(), st.text(max_size=40), st.text("/{}%\\ \n\0é", max_size=8), st.text(min_size=90))
paths = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join)
path_sets = st.lists(paths, max_size=4)
TREE = ["a", "b", "a/1", "a/2", "b/1", "a/1/x", "a/1/y", "a/2/x", "b/1/x"]

# -- modes


@pytest.mark.parametrize("mode", Mode)
def test_compatibility_is_symmetric_and_the_published_table(mode):
    assert all(compatible(mode, other) == compatible(other, mode) for other in Mode)
    expected = {"IS": "IS IX S SIX", "IX": "IS IX", "S": "IS S", "SIX": "IS", "X": ""}[mode.name]
    assert {other.name for other in Mode if compatible(mode, other)} == set(expected.split())


@pytest.mark.parametrize(("a", "b"), list(itertools.product(Mode, Mode)))
def test_join_is_the_least_upper_bound(a, b):
    joined = join(a, b)
    assert joined == join(b, a)
    assert includes(joined, a)
    assert includes(joined, b)
    assert all(includes(upper, joined) for upper in Mode if includes(upper, a) and includes(upper, b))


@pytest.mark.parametrize(("a", "b"), list(itertools.product(Mode, Mode)))
def test_a_mode_conflicts_with_all_that_what_it_includes_conflicts_with(a, b):
    if includes(a, b):
        assert all(compatible(b, other) for other in Mode if compatible(a, other))


# -- escaping


@given(values)
def test_an_escaped_value_is_exactly_one_level(value):
    text = escape(value)
    assert text
    assert "/" not in text
    assert group("events", value).split("/") == ["events", text]


@given(values, values)
def test_no_two_values_share_a_result(one, other):
    assert (escape(one) == escape(other)) == (one == other)


def test_values_that_look_like_other_values():
    tricky = [
        "",
        None,
        "None",
        "%none",
        "%empty",
        "%25none",
        "a/b",
        "a%2Fb",
        "a%252Fb",
        "a b",
        "a%20b",
        "{a}",
        "..",
        "\n",
    ]
    tricky += ["x" * 97, escape("x" * 97), "x" * 98, "é", "e\u0301", "\u2028", "\ud800", "%EF%BF%BD", "\\"]
    assert len({escape(value) for value in tricky}) == len(tricky)


@given(values, values)
def test_a_template_fills_one_level_per_placeholder(one, other):
    filled = Template.parse("shops/{shop}/stock/{item}").fill({"shop": one, "item": other}.__getitem__)
    assert filled.split("/") == ["shops", escape(one), "stock", escape(other)]


def test_three_values_of_any_length_fit():
    assert group("shops", "x" * 1000, "y" * 1000, "z" * 1000).startswith(group("shops", "x" * 1000) + "/")


def test_numbers_are_their_digits():
    assert group("events", 42, "seats", 7) == "events/42/seats/7"


# -- bad groups: each message says what to change


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (7, "not int: 7"),
        (None, "not NoneType"),
        ("", "is empty. Name the resource"),
        ("/", "is empty. Name the resource"),
        ("//", "is empty. Name the resource"),
        ("/a", "Write 'a'"),
        ("a/", "Write 'a'"),
        ("a//b///c", "Write 'a/b/c'"),
        ("a\nb", "control character"),
        ("a\0", "control character"),
        ("a\ud800", "lone surrogate"),
        ("a/{b}", "pooling.group"),
        ("x" * (MAX_BYTES + 1), f"{MAX_BYTES + 1} bytes long; at most {MAX_BYTES}"),
        ("é" * 96, "192 bytes long"),
        ("x" * 500, "Make it with pooling.group(…), which shortens long values"),
    ],
)
def test_bad_groups(bad, words):
    with pytest.raises(GroupError) as caught:
        validate(bad)
    assert words in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("reads", "writes", "words"),
    [
        ([], [f"a/b/{n}" for n in range(MAX_GROUPS - 1)], f"names {MAX_GROUPS - 1} groups, {MAX_GROUPS + 1} with"),
        ([f"r/{n}" for n in range(MAX_GROUPS)], ["w"], "Name what is above them, such as 'r', or do the work in parts"),
        ([str(n) for n in range(MAX_GROUPS + 1)], [], "Name what is above them, or do the work in parts"),
    ],
)
def test_too_many_groups(reads, writes, words):
    with pytest.raises(GroupError) as caught:
        plan(reads, writes, {})
    assert words in str(caught.value)
    assert len(plan(reads[:-2], writes[:-2], {}).wants) <= MAX_GROUPS


def test_many_groups_below_one_that_is_named_too_are_one():
    assert plan([f"a/{n}" for n in range(2 * MAX_GROUPS)], ["a"], {}).writes == ("a",)


def test_the_longest_group_is_fine():
    assert validate("x" * MAX_BYTES)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (7, "or a callable, not int"),
        ("", "is empty"),
        ("a/{b}-{c}", "'{b}-{c}' mixes"),
        ("a/x{b}", "'x{b}' mixes"),
        ("a/{}", "'{}' is not the name of an argument: write its name, such as `{pk}`. Attributes"),
        ("a/{b.c}", "'{b.c}' is not the name of an argument: write `{b}`. Attributes, positions and"),
        ("a/{b", "'{b' is not the name of an argument: write `{b}`."),
        ("a/{0}", "'{0}' is not the name of an argument: write its name, such as `{pk}`."),
        ("a/{b!r}", "'{b!r}' is not the name of an argument: write `{b}`."),
        ("a/{b:03}", "'{b:03}' is not the name of an argument: write `{b}`."),
        ("a//{b}", "empty level"),
        ("{a}/", "ends with"),
    ],
)
def test_bad_templates(bad, words):
    with pytest.raises(GroupError) as caught:
        Template.parse(bad)
    assert words in str(caught.value)


def test_a_filled_group_that_is_too_long():
    template = Template.parse("{a}/{b}/{c}/{d}")
    with pytest.raises(GroupError, match="bytes long"):
        template.fill(lambda name: name * 300)


class Colour(enum.Enum):
    RED = 1


class Bare:
    """Says of itself only where it is."""


class Named:
    def __str__(self):
        return "it"


@pytest.mark.parametrize(
    ("value", "level"),
    [
        (3, "3"),
        (True, "True"),
        (1.5, "1.5"),
        (decimal.Decimal("2.50"), "2.50"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (Colour.RED, "Colour.RED"),
        (Named(), "it"),
        (SimpleNamespace(pk=1), "namespace(pk=1)"),
    ],
)
def test_values_that_say_what_they_are(value, level):
    assert group("a", value) == f"a/{level}"
    assert Template.parse("a/{b}").fill(lambda name: value) == f"a/{level}"


def test_an_object_that_only_says_where_it_is():
    """Its group would be another one in each process."""
    for make in (lambda: group("a", Bare()), lambda: Template.parse("a/{b}").fill(lambda name: Bare())):
        with pytest.raises(GroupError, match=r"cannot be made from a Bare object.* Pass its pk"):
            make()


def test_group_of_nothing():
    with pytest.raises(GroupError, match="at least one level"):
        group()


# -- plans


@given(path_sets, path_sets)
def test_a_plan_covers_what_was_declared_and_announces_it_above(reads, writes):
    made = plan(reads, writes, {})
    modes = dict(made.wants)
    assert all(any(covers(kept, w) for kept in made.writes) for w in writes)
    assert all(any(covers(kept, r) for kept in (*made.writes, *made.reads)) for r in reads)
    assert all(includes(modes[w], Mode.X) for w in made.writes)
    assert all(includes(modes[r], Mode.S) for r in made.reads)
    assert all(includes(modes[a], Mode.IX) for w in made.writes for a in ancestors(w))
    assert all(includes(modes[a], Mode.IS) for r in made.reads for a in ancestors(r))
    assert not any(covers(a, b) for a in made.writes for b in (*made.writes, *made.reads) if a != b)
    assert plan(reversed(reads), reversed(writes), {}) == made
    assert plan(made.reads, made.writes, {}) == made


@given(path_sets, st.dictionaries(st.sampled_from("ab"), st.integers(0, 1)))
def test_order_puts_ancestors_first_and_subtrees_together(reads, ranks):
    groups = [path for path, _ in plan(reads, [], ranks).wants]
    assert groups == sorted(groups, key=lambda path: order_key(path, ranks))
    for at, path in enumerate(groups):
        assert all(groups.index(a) < at for a in ancestors(path))
    for top in groups:
        inside = [at for at, path in enumerate(groups) if covers(top, path)]
        assert inside == list(range(inside[0], inside[0] + len(inside)))


def test_order_goes_level_by_level():
    # As plain strings, "a-b" would come between "a" and "a/x".
    assert sorted(["a-b", "a/x", "a"], key=lambda path: order_key(path, {})) == ["a", "a/x", "a-b"]


def test_ranked_groups_come_first():
    groups = [path for path, _ in plan(["a/1", "b", "z/1"], [], {"z": 0, "b": 1}).wants]
    assert groups == ["z", "z/1", "b", "a", "a/1"]


# -- epochs


@pytest.mark.parametrize(("read", "written"), list(itertools.product(TREE, TREE)))
def test_a_write_invalidates_a_read_exactly_if_one_covers_the_other(read, written):
    touched = set(read_epochs([read])) & set(write_epochs([written]))
    assert bool(touched) == (covers(read, written) or covers(written, read))


@given(path_sets, path_sets)
def test_epochs_of_many_are_those_of_each(reads, writes):
    assert set(read_epochs(reads)) == {name for r in reads for name in read_epochs([r])}
    assert set(write_epochs(writes)) == {name for w in writes for name in write_epochs([w])}
    assert list(read_epochs(reads)) == sorted(set(read_epochs(reads)))


def test_a_name_that_only_begins_alike_is_not_covered():
    assert not covers("a", "ab")
    assert not covers("a/b", "a")
    assert covers("a", "a/b")
