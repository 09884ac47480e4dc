"""Bursts, races of time-outs, double returns, slow goodbyes, and a day of nothing much."""

from __future__ import annotations

import gc
import random
import threading
import tracemalloc
from collections.abc import Callable

import pytest

from pooling.errors import PoolTimeout
from pooling.pool import ConnectionPool, PoolOptions

from .scripted import PATIENCE, Caller, Clock, Conn, ScriptedDriver, until

Make = Callable[..., ConnectionPool[Conn]]


def sound(pool: ConnectionPool[Conn], driver: ScriptedDriver) -> None:
    """The accounts of a pool that nobody uses: each open connection is idle once, and nothing else is known."""
    until(lambda: not pool._attempts)
    until(lambda: driver.open == len(pool._slots))
    assert sorted(id(slot) for slot in pool._idle) == sorted(id(slot) for slot in pool._slots.values())
    assert not pool._busy
    assert not pool._waiters
    assert len(pool._slots) <= pool._max_size
    assert all(conn.closed <= 1 for conn in driver.made)


def test_each_waiter_has_its_own_timeout(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=1, timeout=60)
    held = pool.getconn()
    patient = Caller(pool.getconn)
    until(lambda: "waiting 1" in repr(pool))
    with pytest.raises(PoolTimeout):  # behind a patient one, and before its end
        pool.getconn(timeout=0.01)
    assert patient.is_alive()
    pool.putconn(held)
    assert patient.result() is held


def test_a_spike_does_not_blow_up_the_pool(make: Make, driver: ScriptedDriver) -> None:
    """Fifty short requests at once, while a connect takes long: they share what is there already."""
    pool = make(max_size=50, min_size=5)
    pool.wait(10)
    held = [pool.getconn() for _ in range(5)]
    driver.gate = threading.Event()

    def use() -> None:
        with pool.connection():
            pass

    callers = [Caller(use) for _ in range(45)]
    until(lambda: "waiting 45" in repr(pool))
    for conn in held:
        pool.putconn(conn)
    for caller in callers:
        caller.result()  # no new connection was there yet
    assert len(pool._slots) == 5
    assert driver.connects <= 50
    driver.gate.set()
    sound(pool, driver)


def test_two_threads_return_the_same_connection(make: Make, driver: ScriptedDriver) -> None:
    """The second comes while the first is still being made clean."""
    pool = make(max_size=2)
    conn = pool.getconn()
    inside, go = threading.Event(), threading.Event()

    def reset(conn: Conn) -> None:
        driver.on_reset = None
        inside.set()
        assert go.wait(PATIENCE)

    driver.on_reset = reset
    first = Caller(pool.putconn, conn)
    assert inside.wait(PATIENCE)
    for method in (pool.putconn, pool.discard):
        with pytest.raises(ValueError, match="given back already"):
            method(conn)
    go.set()
    first.result()
    sound(pool, driver)


def test_time_outs_race_with_returns(make: Make, driver: ScriptedDriver) -> None:
    """Waiters that give up at about the moment they are served: none takes its connection with it."""
    pool = make(max_size=2)

    def work(seed: int) -> int:
        dice = random.Random(seed)
        served = 0
        for _ in range(200):
            try:
                conn = pool.getconn(timeout=dice.choice([0, 0.0001, 0.001]))
            except PoolTimeout:
                continue
            served += 1
            threading.Event().wait(dice.choice([0, 0.0005]))  # a request's work
            pool.putconn(conn)
        return served

    assert sum(int(str(caller.result())) for caller in [Caller(work, seed) for seed in range(12)]) > 0
    sound(pool, driver)
    conns = [pool.getconn(timeout=5), pool.getconn(timeout=5)]
    assert conns[0] is not conns[1]


def test_a_slow_goodbye_does_not_stall_a_checkout(make: Make, driver: ScriptedDriver, clock: Clock) -> None:
    pool = make(clock=clock, max_size=1, max_lifetime=100)
    old = pool.getconn()
    pool.putconn(old)
    clock.now += 101
    driver.close_gate = threading.Event()
    assert Caller(pool.getconn).result() is not old  # in a thread: if it stalls, it shall be seen
    assert old.closed == 0
    driver.close_gate.set()
    until(lambda: old.closed == 1)


def test_a_day_costs_nothing_that_stays() -> None:
    """24 hours on a clock that is turned by hand: uses, pings, expiries, shrinking. Nothing grows."""
    driver, clock = ScriptedDriver(), Clock()
    options = PoolOptions(min_size=1, max_size=4, max_lifetime=3600, max_idle=300, keepalive=120)
    threads = threading.active_count()
    pool = ConnectionPool(driver, options, name="day", clock=clock)
    assert threading.active_count() == threads

    def hours(number: int) -> None:
        for minute in range(number * 60):
            clock.now += 60
            busy = [pool.getconn() for _ in range(1 + minute % 4)]
            for conn in busy:
                pool.putconn(conn)
            for _ in range(10):
                with pool.connection():
                    pass
            del busy, conn
            pool._maintain()
            until(lambda: not pool._attempts)
            driver.made[:] = [conn for conn in driver.made if not conn.closed]  # the test's own memory

    def size() -> tuple[int, int]:
        driver.limits.clear()
        until(lambda: threading.active_count() <= threads + 1)  # the maintenance
        gc.collect()
        return tracemalloc.get_traced_memory()[0], len(gc.get_objects())

    try:
        hours(2)
        tracemalloc.start()
        hours(1)
        memory, objects = size()
        hours(24)
        later, more = size()
        assert driver.open == len(pool._slots) <= 4
        assert len(pool._inherited) == len(pool._busy) == len(pool._waiters) == 0
        assert more - objects < 200
        assert later - memory < 50_000  # over 20,000 uses: less than three bytes each
        assert pool.get_stats()["requests_num"] > 15_000
    finally:
        tracemalloc.stop()
        pool.close()
