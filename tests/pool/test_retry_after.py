"""When it is worth to ask the pool again: `PoolTimeout.retry_after`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pooling.errors import PoolFull, PoolTimeout
from pooling.pool import ConnectionPool

from .scripted import Caller, Clock, Conn, until

Make = Callable[..., ConnectionPool[Conn]]


def use(pool: ConnectionPool[Conn], clock: Clock, seconds: float, times: int = 1) -> None:
    for _ in range(times):
        conn = pool.getconn()
        clock.now += seconds
        pool.putconn(conn)


def told(pool: ConnectionPool[Conn]) -> int:
    with pytest.raises(PoolTimeout) as caught:
        pool.getconn(timeout=0)
    return caught.value.retry_after


def test_short_uses_mean_soon(make: Make, clock: Clock) -> None:
    pool = make(clock=clock, max_size=1)
    use(pool, clock, 0.01, times=5)
    conn = pool.getconn()
    assert told(pool) == 1
    pool.putconn(conn)


def test_what_is_left_of_a_mean_use(make: Make, clock: Clock) -> None:
    pool = make(clock=clock, max_size=1)
    use(pool, clock, 8.0)
    use(pool, clock, 12.0)
    conn = pool.getconn()
    clock.now += 3.0
    assert told(pool) == 7
    clock.now += 20.0  # longer than the mean: as long again
    assert told(pool) == 23
    clock.now += 1000.0
    assert told(pool) == 60
    pool.putconn(conn)


def test_before_there_is_a_mean(make: Make, clock: Clock) -> None:
    pool = make(clock=clock, max_size=1)
    conn = pool.getconn()
    clock.now += 5.0
    assert told(pool) == 5
    pool.putconn(conn)


def test_the_first_one_to_come_back_counts(make: Make, clock: Clock) -> None:
    pool = make(clock=clock, max_size=2)
    slow = pool.getconn()
    clock.now += 50.0
    use(pool, clock, 2.0, times=3)
    quick = pool.getconn()
    assert told(pool) == 2
    for conn in (slow, quick):
        pool.putconn(conn)


def test_a_turn_for_each_who_waits_already(make: Make, clock: Clock) -> None:
    pool = make(clock=clock, max_size=2, max_waiting=4)
    conns = [pool.getconn(), pool.getconn()]
    clock.now += 10.0
    for conn in conns:
        pool.putconn(conn)
    conns = [pool.getconn(), pool.getconn()]

    def take_turn() -> None:
        pool.putconn(pool.getconn(timeout=1e6))

    waiting = []
    for number in range(1, 5):
        waiting.append(Caller(take_turn))
        until(lambda number=number: pool.get_stats()["requests_waiting"] == number)
    with pytest.raises(PoolFull) as caught:
        pool.getconn()
    assert caught.value.retry_after == 30  # 10 s of the present uses, and two turns of both connections
    for conn in conns:
        pool.putconn(conn)
    for one in waiting:
        one.result()


def test_who_waits_for_something_else_is_told_the_usual(make: Make, clock: Clock) -> None:
    pool = make(clock=clock, max_size=1)
    conn = pool.getconn()
    clock.now += 30.0
    pool.suspend()
    assert told(pool) == 1
    pool.resume()
    pool.putconn(conn)
