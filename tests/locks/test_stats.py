"""What a lock manager counts: nothing lost, nothing twice, in a table that does not grow."""

from __future__ import annotations

import contextvars
import json
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pooling.errors import LockTimeout
from pooling.groups import plan
from pooling.histogram import bucket_of, middle_of
from pooling.locks import LockManager, Options
from pooling.locks.stats import FOLD, LockStats, above, merge
from pooling.store.memory import MemoryStore

DEADLINE = 20.0


@pytest.fixture
def stats():
    return LockStats()


def lines(stats):
    return {line["group"]: line for line in stats.snapshot()["groups"]}


# -- histograms


def test_buckets_are_in_order_and_as_narrow_as_they_are_said_to_be():
    assert [bucket_of(micros / 1e6) for micros in (0, 1, 2, 3, 4, 5, 6)] == [0, 1, 2, 3, 4, 4, 5]
    assert bucket_of(1e9) == bucket_of(3 * 3600) == 65
    for bucket in range(2, 66):
        assert bucket_of(middle_of(bucket)) == bucket
    dice = random.Random(1)
    for _ in range(2000):
        seconds = 10 ** dice.uniform(-5, 3)
        assert abs(middle_of(bucket_of(seconds)) / seconds - 1) <= 0.26


def test_percentiles_count_those_who_did_not_wait(stats):
    for waited in [0.0] * 60 + [0.5] * 38 + [8.0] * 2:
        stats.held((), ("a",), waited, 0.1)
    (line,) = stats.snapshot()["groups"]
    assert (line["asked"], line["waited"], line["timeouts"], line["writes"]) == (100, 40, 0, 100)
    wait, hold = line["wait"], line["hold"]
    assert (wait["count"], wait["p50"], wait["max"]) == (100, 0.0, 8.0)
    assert wait["p99"] == pytest.approx(8.0, rel=0.26)
    assert wait["total"] == pytest.approx(38 * 0.5 + 16)
    assert hold["p50"] == pytest.approx(0.1, rel=0.26)
    assert hold["total"] == pytest.approx(10.0)


def test_counts_are_exact_under_threads(stats):
    together = threading.Barrier(8)

    def work():
        together.wait(DEADLINE)
        for number in range(3000):
            stats.held(("a",), (f"b/{number}",), 0.001, 0.002)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work) for _ in range(8)]:
            done.result(60)
    found = lines(stats)
    assert found["a"]["asked"] == found["a"]["waited"] == sum(found["a"]["hold"]["buckets"].values()) == 24000
    others = [line for name, line in found.items() if name != "a"]
    for key in ("asked", "waited", "writes"):
        assert sum(line[key] for line in others) == 24000


# -- a bounded number of lines


def test_a_fold_has_a_name_that_no_group_has():
    assert [above(name) for name in ("a/b/c", "a/b", "a/b/{*}", "a/{*}", "a", FOLD)] == [
        "a/b/{*}",
        "a/{*}",
        "a/{*}",
        FOLD,
        FOLD,
        FOLD,
    ]


@pytest.mark.parametrize("name", ["accounts/{}", "{}", "a{}/b/c", "a/{}/c/d"])
def test_the_table_does_not_grow_and_loses_nothing(name):
    stats = LockStats(limit=20)
    for number in range(5000):
        stats.held((), (name.format(number),), 0.0, 1.0)
    found = stats.snapshot()["groups"]
    assert len(found) <= 21
    assert sum(line["asked"] for line in found) == 5000
    assert sum(line["hold"]["total"] for line in found) == 5000


def test_a_busy_group_gets_a_line_of_its_own_although_the_table_was_full_before_it_came():
    stats = LockStats(limit=20)
    dice = random.Random(2)
    for number in range(1000):
        stats.held((), (f"accounts/{number}",), 0.0, 1.0)
    for number in range(1000, 6000):
        stats.held((), ("accounts/hot" if dice.random() < 0.3 else f"accounts/{number}",), 0.0, 1.0)
    found = lines(stats)
    assert found["accounts/hot"]["asked"] > 1000
    assert found["accounts/{*}"]["asked"] > 3000
    assert found[FOLD]["asked"] < 32  # those who came before there was a nearer fold


def test_what_was_folded_is_known_by_its_fold():
    stats = LockStats(limit=2)
    for number in range(100):
        stats.held((), (f"accounts/{number}",), 0.0, 3.0)
    assert stats.mean_hold(["accounts/new"]) == 3.0
    assert LockStats().mean_hold(["accounts/new"]) is None


def test_snapshots_of_processes_add_up():
    one, other = LockStats(), LockStats()
    one.held(("a",), ("b",), 0.0, 1.0)
    other.held((), ("b",), 2.0, 3.0)
    other.timed_out(["b"], 5.0)
    both = LockStats()
    both.held(("a",), ("b",), 0.0, 1.0)
    both.held((), ("b",), 2.0, 3.0)
    both.timed_out(["b"], 5.0)
    sent = [json.loads(json.dumps(stats.snapshot())) for stats in (one, other)]
    assert merge(sent) == both.snapshot()
    assert [line["group"] for line in merge(sent)["groups"]] == ["b", "a"]  # what was waited for first


def test_who_wants_the_first_groups_only_still_learns_how_often_any_was_waited_for(stats):
    for number in range(9):
        stats.held((), (f"g{number}",), float(number), 1.0)
    found = stats.snapshot(2)
    assert [line["group"] for line in found["groups"]] == ["g8", "g7"]
    assert found["groups"] == stats.snapshot()["groups"][:2]
    assert found["waited"] == stats.snapshot()["waited"] == 8


def test_a_forked_child_has_counted_nothing(stats):
    stats.held((), ("a",), 0.0, 1.0)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, str(len(stats.snapshot()["groups"])).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(read, 10) == b"0"
    os.close(read)
    os.close(write)


# -- what the manager counts


@pytest.fixture
def manager(stats):
    now = [0.0]
    manager = LockManager(MemoryStore(), Options(wait=DEADLINE), clock=lambda: now[0], stats=stats)
    manager.now = now
    return manager


def elsewhere(function, *args, **kwargs):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.Context().run, lambda: function(*args, **kwargs)).result(DEADLINE)


def test_a_hold_counts_once_for_each_declared_group(manager, stats):
    held = manager.acquire(plan(["a/b"], ["c"], {}))
    inside = manager.acquire(plan(["a/b/d"], [], {}))  # covered
    later = manager.acquire(plan(["c"], ["d"], {}))  # half of it covered
    manager.now[0] += 4.0
    for one in (later, inside, held):
        manager.release(one)
        manager.release(one)  # again does nothing
    found = lines(stats)
    assert {name: (line["asked"], line["writes"]) for name, line in found.items()} == {
        "a/b": (1, 0),
        "c": (1, 1),
        "d": (1, 1),
    }
    assert found["c"]["hold"]["total"] == 4.0
    assert held.waited == 0.0


def test_waits_count_also_those_in_vain(manager, stats):
    held = elsewhere(manager.acquire, plan([], ["a"], {}))
    with pytest.raises(LockTimeout):
        manager.acquire(plan(["a"], [], {}), wait=0.01)
    with pytest.raises(LockTimeout):
        manager.acquire(plan(["a"], [], {}), nowait=True)  # it did not wait
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(manager.acquire, plan(["a"], [], {}))
        while not any(not party.holding for party in manager.store.parties()):
            assert not waiting.done()
        manager.release(held)
        granted = waiting.result(DEADLINE)
    assert granted.waited > 0
    manager.release(granted)
    line = lines(stats)["a"]
    assert (line["asked"], line["waited"], line["timeouts"], line["writes"]) == (3, 2, 1, 1)


# -- when to try again


def retry_after(manager, *, wait=0, **kwargs):
    with pytest.raises(LockTimeout) as caught:
        manager.acquire(plan([], ["a"], {}), wait=wait, **kwargs)
    return caught.value.retry_after


def queue(manager, number, reads=(), writes=()):
    """So many who wait, in a thread each; returns what ends them."""
    pool = ThreadPoolExecutor(number)
    before = len(manager.store.parties())
    done = [pool.submit(lambda: manager.release(manager.acquire(plan(reads, writes, {})))) for _ in range(number)]
    while len(manager.store.parties()) < before + number:
        assert not any(one.done() for one in done)

    def end():
        for one in done:
            one.result(DEADLINE)
        pool.shutdown()

    return end


def test_retry_after_is_what_is_left_of_the_mean_hold_and_a_mean_for_each_turn(manager, stats):
    stats.held((), ("a",), 0.0, 5.0)
    held = elsewhere(manager.acquire, plan([], ["a"], {}))
    assert retry_after(manager) == 5
    writers = queue(manager, 2, writes=["a"])
    assert retry_after(manager) == 15
    readers = queue(manager, 3, reads=["a"])
    assert retry_after(manager) == 20  # readers have one turn together
    more = queue(manager, 12, writes=["a"])
    assert retry_after(manager) == 60
    manager.release(held)
    for end in (writers, readers, more):
        end()
