"""One trace of thousands of random operations, run on the in-process store, on Redis and on a plain model.

The dice are seeded, so that a failure can be run again: its message has the number of the operation.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from pooling.groups import Mode, plan
from pooling.store.protocol import LockRequest

from .model import Asked, FrozenMemory, FrozenRedis, Model

GROUPS = ["a", "a/x", "a/y", "a/x/1", "b", "b/x", "b/y", "c", "c/é"]
PAGES = ["//p", "//q"]
OPERATIONS = 3000


class Trace:
    """What was asked, with the model beside it."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.model = Model()
        self.now = 0.0
        self.count = 0

    def some(self) -> list[str]:
        return self.dice.sample(GROUPS, self.dice.choice([0, 1, 1, 1, 2, 3]))

    def ticket(self) -> str | None:
        known = [asked.ticket for asked in (*self.model.holders, *self.model.waiters)]
        return self.dice.choice(known) if known else None

    def next(self) -> tuple[str, Any, Any]:
        """A method of the store or "elapse", its arguments, and what it must answer."""
        dice = self.dice
        crowded = len(self.model.waiters) > 25
        kind = dice.choices(
            ["acquire", "release", "renew", "wait", "again", "elapse"], [2 if crowded else 10, 8, 1, 2, 1, 1]
        )[0]
        if kind == "acquire":
            return self.acquire()
        if kind == "elapse":
            seconds = dice.choice([1.0, 3.0, 10.0])
            self.now += seconds
            return "elapse", (seconds,), None
        ticket = self.ticket()
        if ticket is None:
            return self.acquire()
        holders = {asked.ticket: asked for asked in self.model.holders}
        if kind == "release":
            return "release", (ticket,), self.model.remove(ticket, self.now)
        if kind == "renew":
            if ticket in holders:
                holders[ticket].expires = self.now + 20
            return "renew", ([ticket], 20.0), [ticket in holders]
        for waiting in [w for w in self.model.waiters if w.ticket == ticket]:
            self.model.reap_before(waiting, self.now)
        held = any(h.ticket == ticket for h in self.model.holders)
        if kind == "wait":
            return "wait", (ticket, 0), held
        return "acquire", (LockRequest(ticket, (("z", Mode.X),), 1, 1),), held  # sent again: only its ticket counts

    def acquire(self) -> tuple[str, Any, Any]:
        dice, model = self.dice, self.model
        wants, follow, family = plan(self.some(), self.some(), {}).wants, None, ()
        if dice.random() < 0.2:
            follow = dice.choice(PAGES)
            wants = (*wants, (follow, Mode.X))
        elif dice.random() < 0.25 and model.holders:
            family = tuple({h.ticket for h in dice.sample(model.holders, min(2, len(model.holders)))})
        if not wants:
            wants = (("d", Mode.X),)
        self.count += 1
        lease, patience = dice.choice([5.0, 50.0]), dice.choice([5.0, 50.0])
        nowait = dice.random() < 0.2
        request = LockRequest(f"t{self.count}", wants, lease, patience, family=family, follow=follow, nowait=nowait)
        if follow is not None and model.led(follow):
            wants = ((follow, Mode.S),)
        asked = Asked(request.ticket, wants, family, self.now + patience, lease)
        return "acquire", (request,), model.acquire(asked, self.now, nowait)


@pytest.fixture
def both(redis_url: str) -> Iterator[list[Any]]:
    made = [FrozenMemory(), FrozenRedis(redis_url)]
    yield made
    for one in made:
        one.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_both_stores_grant_what_the_model_grants(both: list[Any], seed: int) -> None:
    trace = Trace(random.Random(seed))
    tokens = [0, 0]
    contended = 0
    for number in range(OPERATIONS):
        method, arguments, wanted = trace.next()
        leading = set()
        for at, tested in enumerate(both):
            where = f"seed {seed}, operation {number}: {type(tested).__name__}.{method}{arguments}"
            if method == "elapse":
                tested.elapse(*arguments)
                continue
            answer = getattr(tested.store, method)(*arguments)
            if method in ("acquire", "wait"):
                assert (answer is not None) == wanted, where
                if answer is not None:
                    leading.add(answer.leading)
                    tokens[at] = max(tokens[at], answer.token)
            else:
                assert answer == wanted, where
            holders, waiters = tested.state()
            assert set(holders) == {h.ticket for h in trace.model.holders}, where
            assert waiters == [w.ticket for w in trace.model.waiters], where
        assert len(leading) <= 1
        contended += len(trace.model.waiters) > 3
    assert contended > OPERATIONS / 10  # or else it proves little
    for tested in both:
        while held := tested.state()[0]:
            tested.store.release(held[0])
        assert tested.at_rest()
