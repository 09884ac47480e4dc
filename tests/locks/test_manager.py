"""The lock manager on the in-process store: nesting, order, messages, interruptions."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pooling.errors import LockLost, LockOrderError, LockTimeout, StoreUnavailable
from pooling.groups import Mode, plan
from pooling.locks import LockManager, Options
from pooling.locks.report import timeout_error
from pooling.locks.stats import LockStats
from pooling.store.memory import MemoryStore
from pooling.store.protocol import LockRequest

DEADLINE = 20.0


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def manager(store):
    return LockManager(store, Options(wait=DEADLINE, lease=30))


def p(reads=(), writes=(), ranks=None):
    return plan(reads, writes, ranks or {})


def elsewhere(function, *args, **kwargs):
    """Run it in a context and thread of its own, which holds nothing."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.Context().run, lambda: function(*args, **kwargs)).result(DEADLINE)


def is_free(manager, reads=(), writes=()):
    def probe():
        try:
            manager.release(manager.acquire(p(reads, writes), nowait=True))
        except LockTimeout:
            return False
        return True

    return elsewhere(probe)


def wait_until_queued(store, count=1):
    deadline = threading.Event()
    timer = threading.Timer(DEADLINE, deadline.set)
    timer.start()
    try:
        while sum(not party.holding for party in store.parties()) < count:
            assert not deadline.is_set(), "nobody queued"
    finally:
        timer.cancel()


def test_hold_and_release(manager, store):
    held = manager.acquire(p(["a/b"], ["c"]), watches=("U:a/b",), view="shop.buy")
    assert held.groups == (("a", Mode.IS), ("a/b", Mode.S), ("c", Mode.X))
    assert (held.reads, held.writes) == (("a/b",), ("c",))
    assert held.vector == store.epochs(("U:a/b",))
    assert held.leading
    assert held.active
    assert held.fence > 0
    assert manager.current() == (held,)
    held.check()
    assert not is_free(manager, writes=["c"])
    assert manager.release(held) is True
    assert not held.active
    assert manager.current() == ()
    assert is_free(manager, writes=["a", "c"])
    assert manager.release(held) is False
    assert store.parties() == []


def test_a_write_renews_its_epochs_at_the_grant_and_at_the_release(manager, store):
    names = ["U:a", "U:a/b", "D:a/b", "D:a"]
    before = store.epochs(names)
    held = manager.acquire(p(writes=["a/b"]))
    inside = store.epochs(names)
    manager.release(held)
    after = store.epochs(names)
    for one, other in ((before, inside), (inside, after)):
        assert [x != y for x, y in zip(one, other, strict=True)] == [True, True, True, False]


# -- nesting


def test_what_is_held_already_is_free(manager, store):
    outer = manager.acquire(p(["r"], ["a"]))
    for reads, writes in ((["r"], []), (["r/x"], []), (["a/x"], []), ([], ["a"]), ([], ["a/x/y"]), (["r"], ["a"])):
        assert manager.covered(p(reads, writes))
        inner = manager.acquire(p(reads, writes), watches=("U:r",))
        assert inner.vector == store.epochs(("U:r",))
        assert inner.fence == outer.fence
        assert len(store.parties()) == 1
        inner.check()
        manager.release(inner)
    assert not manager.covered(p(["z"]))
    assert manager.current() == (outer,)
    manager.release(outer)
    assert not manager.covered(p(["r"]))


def test_a_borrowed_hold_ends_with_what_it_borrows_from(manager):
    outer = manager.acquire(p(writes=["a"]))
    inner = manager.acquire(p(writes=["a"]))
    manager.release(outer)
    assert not inner.active
    with pytest.raises(LockLost, match="released already"):
        inner.check()
    manager.release(inner)


@pytest.mark.parametrize("outer_first", [True, False])
def test_later_groups_may_be_added_and_given_back_in_any_order(manager, store, outer_first):
    outer = manager.acquire(p(writes=["a/1"]))
    inner = manager.acquire(p(["a/1"], ["a/2", "b"]))
    first, second = (outer, inner) if outer_first else (inner, outer)
    manager.release(first)
    assert second.active
    assert manager.current() == (second,)
    assert is_free(manager, writes=["a/1"]) == outer_first
    assert is_free(manager, writes=["b"]) != outer_first
    manager.release(second)
    assert store.parties() == []


def test_a_reader_may_write_a_later_sibling(manager):
    outer = manager.acquire(p(["a/1"]))
    inner = manager.acquire(p(writes=["a/2"]))
    assert not is_free(manager, reads=["a"])
    manager.release(inner)
    manager.release(outer)


@pytest.mark.parametrize(
    ("held", "asked", "words"),
    [
        (((), ["b"]), ((), ["a"]), ["'b'", "'a'", "GROUP_ORDER", "writes=['a']"]),
        (((), ["b"]), (["a"], ()), ["'b'", "'a'", "reads=['a']"]),
        (((), ["a/2"]), ((), ["a/1"]), ["'a/2'", "'a/1'"]),
        (((), ["a", "c"]), ((), ["b", "d"]), ["'c'", "'b'"]),
        ((["a"], ()), ((), ["a"]), ["'a'", "cannot grow"]),  # S to X
        ((["a"], ()), ((), ["a/1"]), ["'a'", "'a/1'", "cannot grow"]),  # S to SIX
        ((["a"], ["a/1"]), ((), ["a/2"]), ["'a'", "'a/2'", "cannot grow"]),  # below a SIX
        (((), ["a/1"]), (["a"], ()), ["'a'", "cannot grow"]),  # IX to SIX
        ((["a/1"], ()), ((), ["a"]), ["'a'", "cannot grow"]),  # IS to X
    ],
)
def test_against_the_order_is_refused_even_if_it_would_not_hang(manager, store, held, asked, words):
    outer = manager.acquire(p(*held), view="outer")
    with pytest.raises(LockOrderError) as caught:
        manager.acquire(p(*asked), view="bank.pay")
    assert str(caught.value).startswith("'bank.pay' asks to ")
    for word in ["outer lock", *words]:
        assert word in str(caught.value)
    assert manager.current() == (outer,)
    assert len(store.parties()) == 1
    manager.release(outer)


def test_ranks_come_before_names(store):
    manager = LockManager(store, Options(ranks={"z": 0}))
    outer = manager.acquire(p(writes=["z"], ranks={"z": 0}))
    inner = manager.acquire(p(writes=["a"], ranks={"z": 0}))
    with pytest.raises(LockOrderError):
        manager.acquire(p(writes=["z/1", "b"], reads=["Z"], ranks={"z": 0}))
    manager.release(inner)
    manager.release(outer)


def test_nested_requests_pass_waiters(manager, store):
    """Plain first come, first served hangs here: the outer hold would wait for who waits for the outer hold."""
    outer = manager.acquire(p(writes=["a"]))
    reader = elsewhere(manager.acquire, p(["b"]))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: manager.release(manager.acquire(p(writes=["a", "b"]))))
        wait_until_queued(store)
        inner = manager.acquire(p(["b"]))
        for held in (inner, outer, reader):
            manager.release(held)
        assert waiting.result(DEADLINE) is True
    assert store.parties() == []


def test_nested_in_canonical_order_never_deadlocks(manager, store):
    steps = [
        ((["a/1"], []), (["a/2"], []), ([], ["a/3"])),
        (([], ["a/1"]), (["a/3"], []), ([], ["b"])),
        ((["a"], ["a/1"]), ([], ["b", "c/1"]), (["c/2"], [])),
        ((["a/2"], ["a/1"]), (["b"], []), ([], ["c"])),
        ((["b"], []), ([], ["c/1"]), ([], ["c/2"])),
        (([], ["a"]), (["a/1"], ["b"]), (["c"], [])),
    ]

    def work(seed):
        choose = random.Random(seed)
        for _ in range(60):
            held = [manager.acquire(p(*asked)) for asked in choose.choice(steps)]
            choose.shuffle(held)
            for hold in held:
                manager.release(hold)

    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(contextvars.Context().run, work, seed) for seed in range(1, 7)]:
            future.result(60)
    assert store.parties() == []


# -- time


def test_a_timeout_says_what_who_how_long_and_what_to_do(manager, store):
    elsewhere(manager.acquire, p(writes=["stock/7"]), view="shop.buy", label="order 12")
    with pytest.raises(LockTimeout) as caught:
        manager.acquire(p(["free"], ["stock/7"]), wait=0.02, view="shop.look")
    message = str(caught.value)
    for word in ("'shop.look'", "'stock/7'", "shop.buy (order 12)", str(os.getpid()), "LOCK_WAIT", "waited 0.0"):
        assert word in message
    assert "'free'" not in message
    assert caught.value.retry_after == 1
    assert len(store.parties()) == 1
    assert manager.current() == ()


def test_retry_after_is_the_age_of_the_holder():
    now = [100.0]
    manager = LockManager(MemoryStore(clock=lambda: now[0]), stats=LockStats())
    held = elsewhere(manager.acquire, p(writes=["a"]), lease=1000)
    for age, expected in ((7.5, 8), (300, 60)):
        now[0] = 100.0 + age
        with pytest.raises(LockTimeout) as caught:
            manager.acquire(p(writes=["a"]), wait=0)
        assert caught.value.retry_after == expected
    assert "did not wait" in str(caught.value)
    manager.release(held)


def test_a_timeout_names_the_waiter_that_is_in_the_way(manager, store):
    reader = elsewhere(manager.acquire, p(["a"]), view="reader")
    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(lambda: manager.release(manager.acquire(p(writes=["a"]), view="writer")))
        wait_until_queued(store)
        with pytest.raises(LockTimeout, match=r": writer \(.*queue"):
            manager.acquire(p(["a"]), nowait=True)
        manager.release(reader)
        writer.result(DEADLINE)


def test_a_timeout_does_not_blame_who_came_later():
    now = [100.0]
    store = MemoryStore(clock=lambda: now[0])

    def ask(ticket):
        return LockRequest(ticket, (("a", Mode.X),), lease=60, patience=60, owner={"view": ticket})

    store.acquire(ask("holder"))
    for ticket in ("earlier", "mine", "later"):
        now[0] += 1
        assert store.acquire(ask(ticket)) is None
    now[0] += 1
    store.release("mine")
    message = str(timeout_error(store, ask("mine"), "mine", waited=2.0))
    assert "; earlier (" in message
    assert ": holder (" in message
    assert "later (" not in message


def test_a_timeout_calls_the_page_that_somebody_computes_by_no_inner_name(manager):
    elsewhere(manager.acquire, p(["a"]), follow="//page:123", view="leader")
    with pytest.raises(LockTimeout, match="has had the page itself for") as caught:
        manager.acquire(p(["a"]), follow="//page:123", wait=0)
    assert "//" not in str(caught.value)


def test_holders_that_cannot_be_named(manager, store, monkeypatch):
    elsewhere(manager.acquire, p(writes=["a"]))

    def unreachable(groups=None):
        raise StoreUnavailable("gone away")

    monkeypatch.setattr(store, "parties", unreachable)
    with pytest.raises(LockTimeout, match="unknown: gone away"):
        manager.acquire(p(writes=["a"]), nowait=True)


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, "5", True])
@pytest.mark.parametrize("name", ["wait", "lease"])
def test_bad_times(manager, store, name, value):
    error = TypeError if isinstance(value, (str, bool)) else ValueError
    with pytest.raises(error, match=name):
        manager.acquire(p(["a"]), **{name: value})
    with pytest.raises(error, match=name):
        Options(**{name: value})
    assert store.parties() == []


def test_a_lease_of_nothing(manager):
    with pytest.raises(ValueError, match="lease must be a finite number of seconds, more than 0, not 0"):
        manager.acquire(p(["a"]), lease=0)


# -- single-flight


def test_a_follower_holds_nothing(manager, store):
    leader = elsewhere(manager.acquire, p(["a"]), follow="!k")
    assert leader.leading
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(manager.acquire, p(["a"]), follow="!k")
        wait_until_queued(store)
        manager.release(leader)
        follower = future.result(DEADLINE)
    assert not follower.leading
    assert follower.groups == ()
    assert is_free(manager, writes=["a"])
    manager.release(follower)
    assert store.parties() == []


def test_single_flight_is_for_who_holds_nothing(manager):
    leader = elsewhere(manager.acquire, p(["z"]), follow="!k")
    outer = manager.acquire(p(writes=["a"]))
    inner = manager.acquire(p(["b"]), follow="!k")  # would wait for the leader, who may come to want `a`
    assert inner.leading
    for held in (inner, outer, leader):
        manager.release(held)


# -- contexts


def test_tasks_inherit_and_a_released_hold_is_over_in_all_of_them(manager):
    async def main():
        outer = await manager.acquire_async(p(writes=["a"]))
        released = asyncio.Event()

        async def child():
            inside = manager.covered(p(["a"]))
            await released.wait()
            return inside, manager.current()

        task = asyncio.create_task(child())
        await asyncio.sleep(0)
        assert await asyncio.to_thread(manager.current) == (outer,)
        manager.release(outer)
        released.set()
        assert await task == (True, ())

    asyncio.run(main())


def test_sibling_tasks_exclude_each_other(manager, store):
    async def main():
        outer = await manager.acquire_async(p(writes=["a"]))
        inside = []

        async def child():
            held = await manager.acquire_async(p(["a"], ["b"]))
            inside.append(held)
            assert len(inside) == 1
            await asyncio.sleep(0)
            inside.remove(held)
            manager.release(held)

        await asyncio.wait_for(asyncio.gather(*(child() for _ in range(10))), DEADLINE)
        manager.release(outer)

    asyncio.run(main())
    assert store.parties() == []


def test_a_task_cancelled_in_the_queue_leaves_no_ghost(manager, store):
    async def main():
        held = await manager.acquire_async(p(writes=["a"]))
        task = contextvars.Context().run(asyncio.ensure_future, manager.acquire_async(p(writes=["a"])))
        while len(store.parties()) < 2:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [party.holding for party in store.parties()] == [True]
        manager.release(held)

    asyncio.run(main())
    assert store.parties() == []


def test_a_task_times_out(manager, store):
    elsewhere(manager.acquire, p(writes=["a"]), view="holder")
    with pytest.raises(LockTimeout, match=r": holder \("):
        asyncio.run(manager.acquire_async(p(writes=["a"]), wait=0.02))
    assert len(store.parties()) == 1


@pytest.mark.parametrize("point", ["before", "after"])
def test_an_interrupted_thread_leaves_no_ghost(manager, store, monkeypatch, point):
    """As if Ctrl-C or a worker's timeout hit just before or just after the grant arrived."""
    blocker = elsewhere(manager.acquire, p(writes=["a"]))
    real = store.wait

    def interrupted(ticket, timeout):
        if point == "after":
            manager.release(blocker)
            assert real(ticket, timeout) is not None
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        manager.acquire(p(writes=["a"]))
    manager.release(blocker)
    assert manager.current() == ()
    assert store.parties() == []


def test_an_interrupt_after_the_grant_leaves_no_hold(manager, store, monkeypatch):
    def interrupted(ticket, held):
        raise KeyboardInterrupt

    monkeypatch.setattr(manager._renewer, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        manager.acquire(p(writes=["a"]))
    assert manager.current() == ()
    assert store.parties() == []


def test_a_store_that_forgets_is_asked_again(manager, store):
    blocker = elsewhere(manager.acquire, p(writes=["a"]))
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(manager.acquire, p(writes=["a"]))
        wait_until_queued(store)
        (waiter,) = [party for party in store.parties() if not party.holding]
        store.release(waiter.ticket)
        wait_until_queued(store)
        manager.release(blocker)
        assert future.result(DEADLINE).active


def test_a_failed_release_does_not_hide_the_exception_of_the_view(manager, store, monkeypatch, caplog):
    held = manager.acquire(p(writes=["a"]))
    owed = []

    def unreachable(ticket, renews=()):
        raise StoreUnavailable("gone away")

    monkeypatch.setattr(store, "release", unreachable)
    monkeypatch.setattr(store, "later", lambda *args: owed.append(args))

    def view():
        try:
            raise ZeroDivisionError
        finally:
            assert manager.release(held) is False

    with pytest.raises(ZeroDivisionError):
        view()
    assert manager.current() == ()
    assert "will be released as soon as the store answers: gone away" in caplog.text
    assert owed == [(held._ticket, held._renews)]


@pytest.mark.parametrize("asked", [True, False])
def test_a_request_that_failed_is_withdrawn_later_unless_it_was_never_sent(manager, store, monkeypatch, asked):
    owed = []

    def unreachable(*args):
        error = StoreUnavailable("gone away")
        error.asked = asked
        raise error

    monkeypatch.setattr(store, "acquire", unreachable)
    monkeypatch.setattr(store, "release", unreachable)
    monkeypatch.setattr(store, "later", lambda *args: owed.append(args))
    with pytest.raises(StoreUnavailable):
        manager.acquire(p(writes=["a"]))
    assert len(owed) == asked


def test_a_lost_lock_is_noticed(manager, store, caplog):
    held = manager.acquire(p(writes=["a"]), view="shop.buy")
    store.release(held._ticket)  # broken by hand
    with pytest.raises(LockLost, match=r"'a'.*'?shop.buy'?.*LOCK_LEASE"):
        held.check()
    inner = manager.acquire(p(writes=["a"]))
    with pytest.raises(LockLost):
        inner.check()
    with caplog.at_level(logging.WARNING):
        assert manager.release(held) is False
    assert "lost" in caplog.text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_process_inherits_no_holds(manager, store):
    held = manager.acquire(p(writes=["a"]))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        said = b"failed"
        try:
            try:
                held.check()
            except LockLost:
                mine = manager.acquire(p(writes=["a"]), nowait=True)
                if not held.active and manager.current() == (mine,) and not manager.release(held):
                    said = b"fine" if manager.release(mine) else b"lost"
        finally:
            os.write(writing, said)
            os._exit(0)
    os.close(writing)
    assert os.read(reading, 10) == b"fine"
    os.close(reading)
    os.waitpid(child, 0)
    held.check()
    manager.release(held)


def test_a_deep_nest_asks_for_each_ticket_once(manager, store, monkeypatch):
    """A recursion through a decorated function: each of its holds asks for what is really held, not for one another."""
    outer = manager.acquire(p(writes=["a"]))
    inner = [manager.acquire(p(writes=["a/b"])) for _ in range(18)]
    renewed = []
    monkeypatch.setattr(store, "renew", lambda tickets, lease: renewed.extend(tickets) or [True])
    inner[-1].check()
    assert renewed == [outer._ticket]
    for held in [*reversed(inner), outer]:
        manager.release(held)
    with pytest.raises(LockLost):
        inner[0].check()
