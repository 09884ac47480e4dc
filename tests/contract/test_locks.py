"""What every store's lock table does. One thread drives it, so each interleaving is the one that is written."""

from __future__ import annotations

import itertools

import pytest

from pooling.groups import Mode, compatible
from pooling.store.protocol import TOKENS_END

from .asking import granted, queue, request, single, take


@pytest.mark.parametrize(("first", "second"), list(itertools.product(Mode, Mode)), ids=lambda mode: mode.name)
def test_two_holders_share_a_group_exactly_if_their_modes_are_compatible(store, first, second):
    assert store.acquire(single(first)) is not None
    assert (store.acquire(single(second, nowait=True)) is not None) == compatible(first, second)


def test_all_groups_or_none(store):
    other = take(store, writes=["b"])
    assert store.acquire(request(writes=["a", "b", "c"], nowait=True)) is None
    assert take(store, writes=["a", "c"])
    waiting = queue(store, writes=["b", "d"])
    assert granted(store, waiting) is None
    store.release(other)
    assert granted(store, waiting) is not None


def test_a_refused_request_leaves_nothing(harness, store):
    held = take(store, writes=["a"])
    assert store.acquire(request(writes=["a", "b"], nowait=True)) is None
    store.release(held)
    assert harness.at_rest() == 0


def test_a_writer_of_a_group_excludes_those_below_and_above_it(store):
    take(store, writes=["a/b"])
    for reads, writes in ((["a"], []), ([], ["a"]), (["a/b/c"], []), ([], ["a/b/c"]), (["a/b"], [])):
        assert store.acquire(request(reads, writes, nowait=True)) is None
    assert take(store, writes=["a/c"])
    assert take(store, reads=["a/bb"])


def test_first_come_first_served(store):
    held = take(store, writes=["a"])
    waiting = [queue(store, writes=["a"]) for _ in range(5)]
    for ticket in waiting:
        assert store.release(held)
        assert [granted(store, other) is not None for other in waiting] == [other == ticket for other in waiting]
        held = ticket


def test_readers_behind_a_waiting_writer_do_not_pass_it(store):
    reader = take(store, reads=["a"])
    writer = queue(store, writes=["a"])
    late = [queue(store, reads=["a"]) for _ in range(3)]
    store.release(reader)
    assert granted(store, writer) is not None
    assert all(granted(store, ticket) is None for ticket in late)
    store.release(writer)
    assert all(granted(store, ticket) is not None for ticket in late)


def test_who_conflicts_with_nobody_ahead_passes(store):
    take(store, writes=["a"])
    queue(store, writes=["a", "b"])
    assert take(store, writes=["c"])
    assert store.acquire(request(reads=["b"], nowait=True)) is None  # the older waiter wants b
    assert take(store, reads=["d"])


def test_a_waiter_is_overtaken_by_nobody_on_any_of_its_groups(store):
    a, b = take(store, writes=["a"]), take(store, writes=["b"])
    both = queue(store, writes=["a", "b"])
    late = queue(store, writes=["b"])
    store.release(b)
    assert granted(store, both) is None
    assert granted(store, late) is None
    store.release(a)
    assert granted(store, both) is not None
    assert granted(store, late) is None


def test_a_waiter_that_gives_up_frees_those_behind_it(store):
    take(store, reads=["a"])
    writer = queue(store, writes=["a"])
    late = queue(store, reads=["a"])
    assert store.release(writer) is False
    assert granted(store, late) is not None


def test_a_request_sent_twice_is_one_request(harness, store):
    asked = request(writes=["a"])
    first = store.acquire(asked)
    assert store.acquire(asked) == first
    waiting = request(writes=["a"])
    assert store.acquire(waiting) is None
    assert store.acquire(waiting) is None
    assert len(store.parties()) == 2
    store.release(asked.ticket)
    grant = store.acquire(waiting)
    assert grant is not None
    assert grant == granted(store, waiting.ticket)
    store.release(waiting.ticket)
    assert harness.at_rest() == 0


def test_release_is_idempotent_and_says_whether_it_was_held(store):
    held = take(store, writes=["a"])
    assert store.release(held) is True
    assert store.release(held) is False
    assert store.release("never seen") is False


def test_tokens_grow(store):
    tokens = []
    for _ in range(200):
        grant = store.acquire(single(Mode.X))
        tokens.append(grant.token)
        store.release(grant.ticket)
    assert tokens == sorted(set(tokens))


def test_a_handed_over_grant_has_a_newer_token(store):
    first = store.acquire(single(Mode.X))
    waiting = single(Mode.X)
    store.acquire(waiting)
    store.release(first.ticket)
    assert granted(store, waiting.ticket).token > first.token


# -- nested requests


def test_a_nested_request_passes_waiters(store):
    outer = take(store, writes=["a"])
    other = take(store, reads=["b"])
    queue(store, writes=["a", "b"])
    assert store.acquire(request(reads=["b"], family=(outer,))) is not None
    store.release(other)


def test_a_nested_request_waits_for_holders_outside_its_family_only(store):
    outer = take(store, writes=["a"])
    assert store.acquire(request(writes=["a"], family=(outer,), nowait=True)) is not None
    other = take(store, reads=["b"])
    nested = queue(store, writes=["b"], family=(outer,))
    store.release(other)
    assert granted(store, nested) is not None


def test_a_nested_waiter_is_served_before_older_ones(store):
    # Its holders keep others waiting already, perhaps these very ones.
    outer = take(store, writes=["a"])
    other = take(store, writes=["b"])
    plain = queue(store, writes=["b"])
    nested = queue(store, writes=["b"], family=(outer,))
    store.release(other)
    assert granted(store, nested) is not None
    assert granted(store, plain) is None


def test_a_nested_waiter_is_not_passed_by_younger_ones(store):
    outer = take(store, writes=["a"])
    take(store, reads=["b"])
    queue(store, writes=["b"], family=(outer,))
    assert store.acquire(request(reads=["b"], nowait=True)) is None


def test_a_nested_ticket_outlives_the_outer_one(harness, store):
    outer = take(store, writes=["a"])
    nested = take(store, writes=["b"], family=(outer,))
    store.release(outer)
    assert store.acquire(request(writes=["b"], nowait=True)) is None
    store.release(nested)
    assert harness.at_rest() == 0


# -- leases and patience


def test_a_dead_holder_is_reaped_when_somebody_conflicting_asks(harness, store):
    dead = take(store, writes=["a"], lease=10)
    harness.elapse(9)
    assert store.acquire(request(writes=["a"], nowait=True)) is None
    harness.elapse(2)
    assert take(store, writes=["a"])
    assert store.renew([dead], 10) == [False]
    assert store.release(dead) is False


def test_a_dead_holder_is_reaped_when_somebody_conflicting_waits(harness, store):
    take(store, writes=["a"], lease=10)
    waiting = queue(store, writes=["a"])
    harness.elapse(11)
    assert store.wait(waiting, 5) is not None


def test_a_renewed_holder_lives(harness, store):
    held = take(store, writes=["a"], lease=10)
    for _ in range(5):
        harness.elapse(9)
        assert store.renew([held, "unknown"], 10) == [True, False]
    assert store.acquire(request(writes=["a"], nowait=True)) is None


def test_a_waiter_cannot_be_renewed(store):
    take(store, writes=["a"])
    assert store.renew([queue(store, writes=["a"])], 10) == [False]


def test_a_lease_begins_with_the_grant(harness, store):
    held = take(store, writes=["a"], lease=100)
    waiting = queue(store, writes=["a"], lease=10, patience=100)
    harness.elapse(50)
    store.release(held)
    assert granted(store, waiting) is not None
    harness.elapse(9)
    assert store.acquire(request(writes=["a"], nowait=True)) is None


def test_a_dead_waiter_does_not_hold_up_those_behind_it(harness, store):
    take(store, reads=["a"], lease=100)
    queue(store, writes=["a"], patience=10)
    assert store.acquire(request(reads=["a"], nowait=True)) is None
    harness.elapse(11)
    assert take(store, reads=["a"])


def test_a_dead_waiter_is_not_granted(harness, store):
    held = take(store, writes=["a"], lease=1000)
    dead = [queue(store, writes=["a"], patience=10) for _ in range(1500)]
    alive = queue(store, writes=["a"], patience=100)
    harness.elapse(11)
    store.release(held)
    assert granted(store, alive) is not None
    assert all(granted(store, ticket) is None for ticket in dead)
    store.release(alive)
    assert harness.at_rest() == 0


# -- single-flight


def test_the_first_leads_and_the_others_follow(store):
    def asked():
        return request(wants=(("a", Mode.S), ("!key", Mode.X)), follow="!key", renews=("U:x",))

    leader = store.acquire(asked())
    assert leader.leading
    followers = [asked() for _ in range(3)]
    assert [store.acquire(follower) for follower in followers] == [None] * 3
    before = store.epochs(["U:x"])
    store.release(leader.ticket)
    grants = [granted(store, follower.ticket) for follower in followers]
    assert [grant.leading for grant in grants] == [False] * 3  # all at once
    assert store.epochs(["U:x"]) == before  # a follower writes nothing
    assert take(store, writes=["a"])  # nor does it hold the groups


def test_who_comes_after_all_are_done_leads(harness, store):
    asked = request(wants=(("!key", Mode.X),), follow="!key")
    store.release(store.acquire(asked).ticket)
    assert harness.at_rest() == 0
    assert store.acquire(request(wants=(("!key", Mode.X),), follow="!key")).leading


def test_followers_do_not_follow_each_other(store):
    """The leader failed: of those who waited for it the first to ask again leads, the others follow that one."""
    wants = (("a", Mode.S), ("!key", Mode.X))
    leader = store.acquire(request(wants=wants, follow="!key"))
    followers = [queue(store, wants=wants, follow="!key") for _ in range(2)]
    store.release(leader.ticket)
    assert [granted(store, follower).leading for follower in followers] == [False] * 2
    store.release(followers[0])
    second = queue(store, wants=wants, follow="!key")  # the other follower is still to let go
    third = queue(store, wants=wants, follow="!key")
    store.release(followers[1])
    assert granted(store, second).leading
    assert granted(store, third) is None
    store.release(second)
    assert granted(store, third).leading is False


def test_one_follows_a_leader_who_still_waits(store):
    writer = take(store, writes=["a"])
    wants = (("a", Mode.S), ("!key", Mode.X))
    leader = queue(store, wants=wants, follow="!key")
    follower = queue(store, wants=wants, follow="!key")
    store.release(writer)
    assert granted(store, leader).leading
    assert granted(store, follower) is None
    store.release(leader)
    assert granted(store, follower).leading is False


def test_followers_are_no_leader(store):
    # They found no page after all (it was changed meanwhile) and ask again while others of them still hold.
    wants = (("a", Mode.S), ("!key", Mode.X))
    leader = take(store, wants=wants, follow="!key")
    first, second = (queue(store, wants=wants, follow="!key") for _ in range(2))
    store.release(leader)
    store.release(first)
    again = queue(store, wants=wants, follow="!key")
    follower = queue(store, wants=wants, follow="!key")
    store.release(second)
    assert granted(store, again).leading
    store.release(again)
    assert granted(store, follower).leading is False


# -- looking


def test_parties_are_holders_and_then_waiters_in_queue_order(harness, store):
    first = take(store, writes=["a"], owner={"view": "shop.buy"})
    harness.elapse(3)
    second = take(store, writes=["b"])
    waiting = [queue(store, writes=["a"]), queue(store, writes=["b"])]
    harness.elapse(1)
    found = store.parties()
    assert [party.ticket for party in found] == [first, second, *waiting]
    assert [party.holding for party in found] == [True, True, False, False]
    assert found[0].owner["view"] == "shop.buy"
    assert found[0].wants == (("a", Mode.X),)
    assert [round(party.seconds) for party in found] == [4, 1, 1, 1]
    assert [party.ticket for party in store.parties(["b"])] == [second, waiting[1]]
    assert store.parties(["c"]) == []


def test_parties_do_not_name_the_dead(harness, store):
    take(store, writes=["a"], lease=10)
    alive = queue(store, writes=["a"], patience=100)
    harness.elapse(11)
    assert [(party.ticket, party.holding) for party in store.parties()] == [(alive, True)]


def test_a_nested_waiter_is_served_although_an_older_one_before_it_cannot_go_on(store):
    outer = take(store, writes=["a"])
    reader = take(store, reads=["b"])
    plain = queue(store, writes=["a", "b"])  # waits for the outer ticket
    nested = queue(store, writes=["b"], family=(outer,))  # for which the outer ticket waits
    store.release(reader)
    assert granted(store, plain) is None
    assert granted(store, nested) is not None
    store.release(nested)
    store.release(outer)
    assert granted(store, plain) is not None


YEAR = 365 * 86400 * 1_000_000


@pytest.mark.parametrize("ahead", [YEAR, None], ids=["a year ahead", "as far as it goes"])
def test_tokens_go_on_from_where_they_are_told_to_one_by_one(store, ahead):
    first = store.acquire(request(writes=["a"])).token
    far = first + ahead if ahead else TOKENS_END - 1
    assert store.advance(far)
    assert not store.advance(far)
    assert not store.advance(first)
    assert store.acquire(request(writes=["b"])).token == far + 1
    holder = take(store, writes=["c"])
    waiting = [queue(store, writes=["c"]) for _ in range(3)]
    last = far + 2
    for ticket in waiting:  # in the order in which they came
        store.release(holder)
        token = granted(store, ticket).token
        assert token > last
        holder, last = ticket, token
    assert store.acquire(request(writes=["d"])).token == last + 1  # each whole number is one of its own still


def test_a_token_that_is_no_news_changes_nothing(store):
    before = store.acquire(request(writes=["a"])).token
    assert not store.advance(before - YEAR)
    assert store.acquire(request(writes=["b"])).token - before < YEAR


@pytest.mark.parametrize("token", [-1, TOKENS_END, 2**63 - 1])
def test_tokens_that_no_store_could_go_on_from_are_refused(store, token):
    with pytest.raises(ValueError, match="token"):
        store.advance(token)
