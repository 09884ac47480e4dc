"""What only the in-process store has: its bounds, its place in a fork, and no imports that it must not have."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pooling.groups import Mode
from pooling.store.memory import MemoryStore
from pooling.store.protocol import LockRequest
from tests.interrupts import interrupted


def put(store, key, size):
    return store.put(key, b"x" * size, 60, [], ())


def has(store, key):
    return store.fetch(key, []).entry is not None


def test_the_least_recently_used_entries_go_first():
    store = MemoryStore(entry_bytes=4000)
    for key in "abc":
        assert put(store, key, 1000)
    assert has(store, "a")
    assert put(store, "d", 1000)
    assert [has(store, key) for key in "abcd"] == [True, False, True, True]
    assert store._entries.size <= 4000


def test_an_entry_larger_than_everything_is_not_stored_and_replaces():
    store = MemoryStore(entry_bytes=4000)
    assert put(store, "a", 10)
    assert put(store, "b", 10)
    assert put(store, "a", 5000) is False
    assert not has(store, "a")
    assert has(store, "b")


def test_the_size_is_that_of_what_is_there():
    store = MemoryStore(entry_bytes=100_000)
    for size in (10, 500, 20):
        put(store, "a", size)
    put(store, "b", 70)
    assert store._entries.size == 20 + 70 + 2 + 2 * store._entries.OVERHEAD
    store.delete("a")
    store.delete("b")
    assert store._entries.size == 0


def test_the_epochs_that_were_not_read_for_longest_are_dropped_first():
    store = MemoryStore(max_epochs=100)
    (hot,) = store.epochs(["U:hot"])
    for n in range(300):
        store.epochs([f"U:{n}"])
        assert store.epochs(["U:hot"]) == (hot,)


def test_epochs_are_bounded_and_a_dropped_one_comes_back_different():
    store = MemoryStore(max_epochs=100)
    (old,) = store.epochs(["U:a"])
    store.epochs([f"U:{n}" for n in range(100)])
    assert len(store._epochs) == 100
    assert store.epochs(["U:a"]) != (old,)


def test_epochs_are_renewed_after_an_interrupt_anywhere():
    store = MemoryStore()
    number = 0
    happened = True
    while happened:
        number += 1
        happened = interrupted(number, lambda: store.invalidate(["U:a"]))
        before = store.epochs(["U:a"])
        store.invalidate(["U:a"])
        assert store.epochs(["U:a"]) != before
    assert number > 3


def test_tokens_grow_though_the_clock_goes_back():
    wall = iter([5_000_000, 1_000_000, 9_000_000])
    store = MemoryStore(wall=lambda: next(wall))
    tokens = []
    for _ in range(3):
        tokens.append(store.acquire(LockRequest("t", (("a", Mode.X),), 30, 30)).token)
        store.release("t")
    assert tokens == [5000, 5001, 9000]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_starts_empty_even_in_mid_change():
    store = MemoryStore()
    store.acquire(LockRequest("t", (("a", Mode.X),), 30, 30))
    reading, writing = os.pipe()
    with store._mutex:  # as another thread would hold it
        child = os.fork()
        if child == 0:  # pragma: no cover
            grant = store.acquire(LockRequest("mine", (("a", Mode.X),), 30, 30))
            os.write(writing, b"granted" if grant else b"refused")
            os._exit(0)
    os.close(writing)
    assert os.read(reading, 10) == b"granted"
    os.close(reading)
    os.waitpid(child, 0)
    assert len(store.parties()) == 1


def test_locks_and_store_import_no_django():
    foreign = ("django", "redis", "django_redis", "MySQLdb")
    code = "import sys, pooling.locks, pooling.store.memory; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pooling" in done.stdout.split()
    assert not set(done.stdout.split()) & set(foreign)
