"""Renewal of leases."""

from __future__ import annotations

import contextvars
import gc
import threading

import pytest

from pooling.errors import LockLost, StoreUnavailable
from pooling.groups import plan
from pooling.locks import LockManager, Options
from pooling.locks.leases import Renewer
from pooling.store.memory import MemoryStore

A, B = plan([], ["a"], {}), plan([], ["b"], {})


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class CountingStore(MemoryStore):
    def __init__(self, **options) -> None:
        self.calls: list[list[str]] = []
        self.failing = False
        self.renewed = threading.Event()
        super().__init__(**options)

    def renew(self, tickets, lease):
        self.calls.append(list(tickets))
        if self.failing:
            raise StoreUnavailable("gone away")
        try:
            return super().renew(tickets, lease)
        finally:
            self.renewed.set()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock):
    return CountingStore(clock=clock)


@pytest.fixture
def manager(store, clock, monkeypatch):
    made = LockManager(store, Options(lease=30), clock=clock)
    # The tests make its steps, so its thread must not: a placeholder stands where the thread would be.
    made._renewer._thread = threading.current_thread()
    return made


def test_nothing_before_a_third_then_one_call_for_all(manager, store, clock):
    first, second = manager.acquire(A), manager.acquire(B)
    clock.now = 9.9
    assert manager._renewer.step() == pytest.approx(0.1)
    assert store.calls == []
    clock.now = 10.0
    assert manager._renewer.step() == pytest.approx(10.0)
    assert store.calls == [[first._ticket, second._ticket]]
    for _ in range(10):  # a slow view is not robbed
        clock.now += 10
        manager._renewer.step()
    first.check()
    assert manager.release(first)
    assert manager.release(second)
    assert manager._renewer.step() is None


def test_a_lost_lease_is_marked(manager, store, clock):
    held = manager.acquire(A)
    clock.now = 31.0  # the process was suspended, say
    other = contextvars.Context().run(manager.acquire, A, nowait=True)
    manager._renewer.step()
    assert "lost" in repr(held)
    with pytest.raises(LockLost):
        held.check()
    other.check()
    manager.release(held)
    other.check()
    manager.release(other)


def test_a_failing_store_is_asked_again(manager, store, clock, caplog):
    held = manager.acquire(A)
    store.failing = True
    clock.now = 10.0
    assert manager._renewer.step() == pytest.approx(3.0)
    assert "could not be renewed" in caplog.text
    store.failing = False
    clock.now = 13.0
    assert manager._renewer.step() == pytest.approx(10.0)
    clock.now = 41.0
    held.check()
    manager.release(held)


def test_the_locks_of_a_dead_thread_are_not_renewed(manager, store, clock, caplog):
    kept = []
    thread = threading.Thread(target=lambda: kept.append(manager.acquire(A, view="shop.buy")))
    thread.start()
    thread.join()
    clock.now = 10.0
    assert manager._renewer.step() is None
    assert store.calls == []
    assert "shop.buy" in caplog.text
    clock.now = 31.0
    manager.release(manager.acquire(A, nowait=True))


def test_the_locks_that_nobody_can_release_any_more_are_not_renewed(manager, store, clock, caplog):
    contextvars.Context().run(manager.acquire, A)
    gc.collect()
    clock.now = 10.0
    assert manager._renewer.step() is None
    assert "never released" in caplog.text


def test_the_thread_renews_and_ends_when_nothing_is_held():
    store = CountingStore()
    manager = LockManager(store, Options(lease=0.3))
    held = manager.acquire(A)
    assert manager._renewer.running
    thread = manager._renewer._thread
    for _ in range(5):
        assert store.renewed.wait(20)
        store.renewed.clear()
    held.check()
    manager.release(held)
    thread.join(20)
    assert not thread.is_alive()
    assert not manager._renewer.running
    again = manager.acquire(A)  # and starts again
    store.renewed.clear()
    assert store.renewed.wait(20)
    manager.release(again)


def test_a_shorter_lease_wakes_the_thread():
    store = CountingStore()
    manager = LockManager(store, Options(lease=3000))
    long = manager.acquire(A)
    short = manager.acquire(B, lease=0.3)
    assert store.renewed.wait(20)
    assert store.calls[0] == [short._ticket]
    manager.release(short)
    manager.release(long)


def test_a_renewer_without_holds_has_no_thread(store):
    assert not Renewer(store).running


def test_a_thread_that_could_not_be_started_is_started_the_next_time(monkeypatch):
    manager = LockManager(MemoryStore())
    start = threading.Thread.start

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)  # as the system does at its limit of threads
    with pytest.raises(RuntimeError):
        manager.acquire(A)
    assert manager.store.parties() == []
    monkeypatch.setattr(threading.Thread, "start", start)
    held = manager.acquire(A)
    assert manager._renewer._thread.is_alive()
    manager.release(held)


def test_the_thread_sleeps_while_something_is_held():
    """Awake it would do nothing but keep the GIL from those who hold."""
    manager = LockManager(MemoryStore(), Options(lease=30))
    renewer = manager._renewer
    held = manager.acquire(plan([], ["a"], {}))
    deadline = threading.Event()
    timer = threading.Timer(20, deadline.set)
    timer.start()
    while not renewer._changed._waiters and not deadline.is_set():  # those who sleep in `wait`
        threading.Event().wait(0.001)
    timer.cancel()
    assert len(renewer._changed._waiters) == 1
    manager.release(held)
