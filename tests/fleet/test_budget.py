"""The ledger of a fleet in the store: members come, go, die, and lose the store."""

from __future__ import annotations

import json
import random

import pytest

from pooling.errors import StoreUnavailable
from pooling.fleet import ALONE, LEASE, PATIENCE, QUIET, StoreLedger
from pooling.store.memory import MemoryStore

BOUNDS = ("all",)


class Fleet:
    def __init__(self, limit: int) -> None:
        self.now = 1000.0
        self.limit = limit
        self.down = False
        self.memory = MemoryStore(clock=lambda: self.now)

    def store(self) -> MemoryStore:
        if self.down:
            raise StoreUnavailable("The store is down.")
        return self.memory

    def member(self) -> StoreLedger:
        return StoreLedger(self.store, "server", BOUNDS, clock=lambda: self.now)

    def turn(self, member: StoreLedger, used: int = 0) -> int:
        return member.turn(used, {"all": self.limit}).share

    def begin(self, member: StoreLedger) -> int:
        """The first turns of the first member."""
        assert self.turn(member) == 1  # others may be there, and have lost the document as well
        self.now += PATIENCE
        return self.turn(member)

    def shares(self, member: StoreLedger) -> list[int]:
        document, _ = self.memory.load(member._key)
        return [one["share"] for one in json.loads(document)["members"].values()]


def test_a_share_is_given_up_before_it_is_taken() -> None:
    fleet = Fleet(10)
    first, second = fleet.member(), fleet.member()
    assert fleet.begin(first) == 10
    assert fleet.turn(second) == 0
    assert fleet.turn(first, used=8) == 8
    assert fleet.turn(second) == 2
    assert fleet.turn(first, used=3) == 5
    assert fleet.turn(second) == 5
    second.leave()
    assert fleet.turn(first) == 10


def test_the_share_of_one_that_is_not_heard_of_goes_to_the_others() -> None:
    fleet = Fleet(10)
    first, dead = fleet.member(), fleet.member()
    fleet.begin(first)
    fleet.turn(dead)
    fleet.turn(first)
    assert fleet.turn(dead) == 5
    for _ in range(int(LEASE)):
        assert fleet.turn(first) == 5
        fleet.now += 1
    fleet.now += 1
    assert fleet.turn(first) == 10
    assert fleet.turn(dead, used=5) == 5  # it merely stood still: it has what it has
    assert fleet.turn(first, used=4) == 5
    assert sum(fleet.shares(first)) == 10


def test_a_document_that_is_lost_makes_nobody_greedy() -> None:
    fleet = Fleet(10)
    first, second = fleet.member(), fleet.member()
    fleet.begin(first)
    fleet.turn(second)
    fleet.turn(first)
    assert fleet.turn(second) == 5
    fleet.memory = MemoryStore(clock=lambda: fleet.now)
    newcomer = fleet.member()
    assert fleet.turn(first, used=5) == 5
    assert fleet.turn(newcomer) == 0
    assert fleet.turn(second, used=5) == 5
    fleet.now += PATIENCE
    assert fleet.turn(newcomer) == 0
    assert fleet.turn(first) == 4  # ten by three: the oldest gets what cannot be divided
    assert fleet.turn(newcomer) == 1


def test_without_the_store_a_share_lasts_for_a_while_and_is_given_up_in_time() -> None:
    fleet = Fleet(10)
    member = fleet.member()
    fleet.begin(member)
    fleet.down = True
    fleet.now += QUIET - 1
    with pytest.raises(StoreUnavailable):
        fleet.turn(member)
    fleet.now += 1
    assert member.turn(3, {"all": 10}) == ALONE
    assert QUIET < LEASE
    fleet.down = False
    assert fleet.turn(member) == 10


def test_a_process_that_starts_without_the_store_makes_do_with_one() -> None:
    fleet = Fleet(10)
    fleet.down = True
    assert fleet.member().turn(0, {"all": 10}) == ALONE


def test_a_forked_child_is_another_member() -> None:
    fleet = Fleet(10)
    parent, child = fleet.member(), fleet.member()
    child._me = parent._me
    fleet.begin(parent)
    child.forked()
    assert fleet.turn(child) == 0
    assert len(fleet.shares(parent)) == 2


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_the_shares_fit(seed: int) -> None:
    """Members use what they have, stop and come back; the clock jumps, and the store forgets everything."""
    dice = random.Random(seed)
    fleet = Fleet(dice.randint(3, 40))
    members = [fleet.member() for _ in range(dice.randint(1, 8))]
    for _ in range(150):
        happens = dice.random()
        if happens < 0.05:
            dice.choice(members).leave()
        elif happens < 0.1:
            fleet.now += dice.choice([1, 6, LEASE + 1, -LEASE])
        elif happens < 0.15:
            fleet.memory = MemoryStore(clock=lambda: fleet.now)
        for member in dice.sample(members, len(members)):  # each has its turn within half a second
            fleet.turn(member, used=dice.randint(0, fleet.limit))
            # One more: whoever comes first where nothing is known makes do with one, out of `reserve`.
            assert sum(one._share for one in members) <= fleet.limit + 1
        fleet.now += 0.5
