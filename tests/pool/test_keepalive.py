"""Idle connections are pinged in the background, on a clock that the tests turn."""

from __future__ import annotations

from collections.abc import Callable

from pooling.pool import ConnectionPool

from .scripted import Clock, Conn, ScriptedDriver, until

Make = Callable[..., ConnectionPool[Conn]]


def test_idle_ones_are_pinged_at_the_interval_and_keep_their_order(
    make: Make, clock: Clock, driver: ScriptedDriver
) -> None:
    pool = make(clock=clock, max_size=4, max_idle=100, keepalive=20)
    conns = [pool.getconn() for _ in range(4)]
    for conn in conns[:3]:
        pool.putconn(conn)
    clock.now += 5
    assert pool._maintain() == 15
    assert driver.pings == 0
    clock.now += 15
    assert pool._maintain() == 20
    assert driver.pings == 3  # not the one that is lent
    pool._maintain()
    assert driver.pings == 3
    assert [slot.conn.number for slot in pool._idle] == [conn.number for conn in conns[:3]]
    clock.now += 20
    pool._maintain()
    assert driver.pings == 6
    clock.now += 15
    assert pool.getconn() is conns[2]  # idle for 55 s, but the server has answered 15 s ago
    assert driver.pings == 6
    clock.now += 46
    pool._maintain()
    assert conns[0].closed == 1  # a ping is no use: the unused ones still go


def test_dead_ones_are_replaced(make: Make, clock: Clock, driver: ScriptedDriver) -> None:
    pool = make(clock=clock, min_size=2, max_size=2, keepalive=20)
    pool.wait(10)
    for conn in driver.made:
        conn.answers = False
    clock.now += 20
    pool._maintain()
    until(lambda: "size 2" in repr(pool) and driver.open == 2 and "connecting 0" in repr(pool))
    assert [conn.closed for conn in driver.made] == [1, 1, 0, 0]


def test_off_by_default(make: Make, clock: Clock, driver: ScriptedDriver) -> None:
    pool = make(clock=clock)
    pool.putconn(pool.getconn())
    clock.now += 599
    pool._maintain()
    assert driver.pings == 0
