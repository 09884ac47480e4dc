"""Random operations on the lock table against a plain model that is too slow and too simple to be wrong."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pooling.groups import compatible, plan
from pooling.store.memory import MemoryStore
from pooling.store.protocol import LockRequest, Wants

GROUPS = ["a", "a/x", "a/y", "a/x/1", "b", "b/x"]
some = st.lists(st.sampled_from(GROUPS), max_size=2)


@dataclass
class Asked:
    ticket: str
    wants: Wants
    family: tuple[str, ...]
    expires: float
    lease: float


class Model:
    """Two lists: holders, and waiters in the order in which they came. Every question walks through all of them."""

    def __init__(self) -> None:
        self.holders: list[Asked] = []
        self.waiters: list[Asked] = []

    @staticmethod
    def conflict(one: Asked, other: Asked) -> bool:
        mine = dict(one.wants)
        return any(group in mine and not compatible(mode, mine[group]) for group, mode in other.wants)

    def in_the_way(self, asked: Asked) -> list[Asked]:
        found = [h for h in self.holders if h.ticket not in asked.family and self.conflict(h, asked)]
        if not asked.family:
            older = self.waiters[: self.waiters.index(asked)] if asked in self.waiters else self.waiters
            found += [w for w in older if self.conflict(w, asked)]
        return found

    def go_on(self, now: float) -> None:
        """Grant until nobody can be granted, one at a time, nested ones first."""
        while True:
            ready = [w for w in self.waiters if not self.in_the_way(w)]
            if not ready:
                return
            first = min(ready, key=lambda w: (not w.family, self.waiters.index(w)))
            self.waiters.remove(first)
            if first.expires > now:
                first.expires = now + first.lease
                self.holders.append(first)

    def reap_before(self, asked: Asked, now: float) -> None:
        for other in [o for o in self.in_the_way(asked) if o.expires <= now]:
            if other.expires <= now:  # not granted by an earlier one's going
                self.remove(other.ticket, now)

    def acquire(self, asked: Asked, now: float, nowait: bool) -> bool:
        self.reap_before(asked, now)
        if not self.in_the_way(asked):
            asked.expires = now + asked.lease
            self.holders.append(asked)
            return True
        if not nowait:
            self.waiters.append(asked)
        return False

    def remove(self, ticket: str, now: float) -> bool:
        held = any(h.ticket == ticket for h in self.holders)
        self.holders = [h for h in self.holders if h.ticket != ticket]
        self.waiters = [w for w in self.waiters if w.ticket != ticket]
        self.go_on(now)
        return held


class LockTableMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.store = MemoryStore(clock=lambda: self.now)
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

    @invariant()
    def the_same_hold_and_wait(self):
        tickets = self.store._table.tickets
        assert {t for t, entry in tickets.items() if entry.grant} == {h.ticket for h in self.model.holders}
        queued = sorted((e.number, t) for t, e in tickets.items() if not e.grant)
        assert [t for _, t in queued] == [w.ticket for w in self.model.waiters]

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
        for _ in range(len(self.store._table.tickets)):
            # Holders first, as real ones would leave: each lets somebody in until nobody is left.
            held = [t for t, entry in self.store._table.tickets.items() if entry.grant]
            if not held:
                break
            self.store.release(held[0])
        assert not self.store._table.tickets
        assert not self.store._table._nodes


TestLockTable = LockTableMachine.TestCase
TestLockTable.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
