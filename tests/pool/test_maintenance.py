"""Shrinking, replacing and refilling, on a clock that the tests turn."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pooling.pool import ConnectionPool

from .scripted import Clock, Conn, ScriptedDriver, until

Make = Callable[..., ConnectionPool[Conn]]


def test_unused_connections_go_and_min_size_stays(make: Make, clock: Clock, driver: ScriptedDriver) -> None:
    pool = make(clock=clock, min_size=1, max_size=4, max_idle=60)
    conns = [pool.getconn() for _ in range(4)]
    for conn in conns:
        pool.putconn(conn)
    clock.now += 59
    pool._maintain()
    assert pool.get_stats()["pool_size"] == 4
    clock.now += 2
    pool._maintain()
    assert pool.get_stats()["pool_size"] == 1
    assert [conn.closed for conn in conns] == [1, 1, 1, 0]  # the one used last is kept


def test_what_was_lent_at_the_last_look_goes_in_time(make: Make, clock: Clock) -> None:
    pool = make(clock=clock, max_idle=2)
    conn = pool.getconn()
    assert pool._maintain() == 2  # it may come back at once, and then nobody rings
    pool.putconn(conn)
    clock.now += 2
    pool._maintain()
    assert conn.closed == 1


def test_without_min_size_nothing_is_left_not_even_the_thread(make: Make, clock: Clock) -> None:
    pool = make(clock=clock, max_idle=60)
    pool.putconn(pool.getconn())
    clock.now += 61
    assert pool._maintain() is None
    assert pool.get_stats()["pool_size"] == 0
    pool._wake.ring()
    until(lambda: not any(t.name == "pooling-maintenance-test" for t in threading.enumerate()))
    pool.putconn(pool.getconn())
    until(lambda: any(t.name == "pooling-maintenance-test" for t in threading.enumerate()))


def test_lifetime_with_jitter(make: Make, clock: Clock) -> None:
    pool = make(clock=clock, max_size=20, max_lifetime=1000, max_idle=10_000)
    conns = [pool.getconn() for _ in range(20)]
    assert len({slot.lifetime for slot in pool._slots.values()}) > 10
    assert all(950 <= slot.lifetime <= 1000 for slot in pool._slots.values())
    for conn in conns[1:]:
        pool.putconn(conn)
    clock.now += 1001
    pool._maintain()
    assert [conn.closed for conn in conns[1:]] == [1] * 19
    pool.putconn(conns[0])  # a lent one goes when it comes back
    assert conns[0].closed == 1


def test_a_day_leaks_nothing(make: Make, clock: Clock, driver: ScriptedDriver) -> None:
    pool = make(clock=clock, min_size=2, max_size=5)
    pool.wait(10)
    for _ in range(24 * 60):
        clock.now += 60
        pool.putconn(pool.getconn())
        pool._maintain()
        until(lambda: not pool._attempts and len(pool._slots) == 2)
    assert driver.open == 2
    assert all(conn.closed <= 1 for conn in driver.made)
    assert 24 * 2 <= len(driver.made) <= 24 * 2 * 2  # each lives for an hour


def test_a_connection_is_either_evicted_or_lent(make: Make, clock: Clock) -> None:
    """The race of eviction and checkout, many times: whoever takes it out of the deque has it alone."""
    pool = make(clock=clock, max_size=1, max_idle=60, max_lifetime=10**9)
    stop = threading.Event()

    def evict() -> None:
        while not stop.is_set():
            pool._maintain()

    evictor = threading.Thread(target=evict)
    evictor.start()
    try:
        for _ in range(10_000):
            conn = pool.getconn()
            assert not conn.closed
            pool.putconn(conn)
            clock.now += 61  # now it may be evicted
    finally:
        stop.set()
        evictor.join()
    assert pool.get_stats()["pool_size"] <= 1
