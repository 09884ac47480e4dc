"""Random operations on the lock table against a plain model that is too slow and too simple to be wrong."""

from __future__ import annotations

import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pooling.groups import plan
from pooling.store.protocol import LockRequest

from .model import Asked, FrozenMemory, FrozenRedis, Model

GROUPS = ["a", "a/x", "a/y", "a/x/1", "b", "b/x"]
some = st.lists(st.sampled_from(GROUPS), max_size=2)


class LockTableMachine(RuleBasedStateMachine):
    def make(self) -> FrozenMemory | FrozenRedis:
        return FrozenMemory()

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.tested = self.make()
        self.store = self.tested.store
        self.model = Model()
        self.count = 0
        self.token = 0

    def pick(self, data: st.DataObject) -> str | None:
        known = [a.ticket for a in (*self.model.holders, *self.model.waiters)]
        return data.draw(st.sampled_from(known)) if known else None

    @rule(reads=some, writes=some, nested=st.booleans(), nowait=st.booleans(), short=st.booleans(), data=st.data())
    def acquire(self, reads, writes, nested, nowait, short, data):
        wants = plan(reads, writes, {}).wants
        if not wants:
            return
        family: tuple[str, ...] = ()
        if nested and self.model.holders:
            family = (data.draw(st.sampled_from([h.ticket for h in self.model.holders])),)
        self.count += 1
        ticket, seconds = f"t{self.count}", 5.0 if short else 50.0
        asked = Asked(ticket, wants, family, self.now + seconds, seconds)
        expected = self.model.acquire(asked, self.now, nowait)
        grant = self.store.acquire(
            LockRequest(ticket, wants, lease=seconds, patience=seconds, family=family, nowait=nowait)
        )
        assert (grant is not None) == expected
        if grant is not None:
            assert grant.token > self.token
            self.token = grant.token

    @rule(data=st.data())
    def release(self, data):
        ticket = self.pick(data)
        if ticket is not None:
            assert self.store.release(ticket) == self.model.remove(ticket, self.now)

    @rule(data=st.data())
    def wait(self, data):
        waiting = [w.ticket for w in self.model.waiters]
        if waiting:
            ticket = data.draw(st.sampled_from(waiting))
            asked = next(w for w in self.model.waiters if w.ticket == ticket)
            self.model.reap_before(asked, self.now)
            grant = self.store.wait(ticket, 0)
            assert (grant is not None) == (asked in self.model.holders)

    @rule(data=st.data())
    def renew(self, data):
        ticket = self.pick(data)
        if ticket is not None:
            held = [h for h in self.model.holders if h.ticket == ticket]
            assert self.store.renew([ticket], 20) == [bool(held)]
            for holder in held:
                holder.expires = self.now + 20

    @rule(seconds=st.sampled_from([1.0, 3.0, 10.0]))
    def elapse(self, seconds):
        self.now += seconds
        self.tested.elapse(seconds)

    @invariant()
    def the_same_hold_and_wait(self):
        holders, waiters = self.tested.state()
        assert set(holders) == {h.ticket for h in self.model.holders}
        assert waiters == [w.ticket for w in self.model.waiters]

    @invariant()
    def no_two_conflicting_holders(self):
        holders = self.model.holders
        for at, one in enumerate(holders):
            for other in holders[at + 1 :]:
                related = one.ticket in other.family or other.ticket in one.family
                assert related or not Model.conflict(one, other)

    @invariant()
    def nobody_waits_for_nothing(self):
        assert all(self.model.in_the_way(waiter) for waiter in self.model.waiters)

    def teardown(self):
        # Holders first, as real ones would leave: each lets somebody in until nobody is left.
        while held := self.tested.state()[0]:
            self.store.release(held[0])
        assert self.tested.at_rest()
        self.tested.close()


class RedisMachine(LockTableMachine):
    def make(self) -> FrozenRedis:
        return FrozenRedis(os.environ["POOLING_REDIS_URL"])


TestLockTable = LockTableMachine.TestCase
TestLockTable.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestLockTableInRedis = RedisMachine.TestCase
TestLockTableInRedis.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)
