from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from pooling.errors import PoolClosed, PoolFull, PoolTimeout
from pooling.pool import ConnectionPool, Failure

from .scripted import Caller, Clock, Conn, Refused, ScriptedDriver, until

Make = Callable[..., ConnectionPool[Conn]]


def test_nothing_happens_before_the_first_use(make: Make, driver: ScriptedDriver) -> None:
    before = threading.active_count()
    pool = make()
    assert threading.active_count() == before
    assert driver.connects == 0
    assert repr(pool) == (
        "<ConnectionPool 'test' closed: size 0 (min 0, max 10), idle 0, busy 0, connecting 0, waiting 0>"
    )


def test_last_in_first_out_and_repr(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=3)
    a, b = pool.getconn(), pool.getconn()
    assert a is not b
    pool.putconn(a)
    pool.putconn(b)
    assert pool.getconn() is b
    until(lambda: "connecting 0" in repr(pool))
    assert repr(pool) == "<ConnectionPool 'test' open: size 2 (min 0, max 3), idle 1, busy 1, connecting 0, waiting 0>"
    assert driver.pings == 0
    pool.putconn(b)


def test_connection_gives_back_after_an_error(make: Make) -> None:
    pool = make(max_size=1)
    with pytest.raises(KeyError), pool.connection() as first:
        raise KeyError
    with pool.connection(timeout=0) as second:
        assert second is first


def test_double_return_and_foreign_connections(make: Make) -> None:
    pool, other = make(name="one", max_size=2), make(name="two")
    conn = pool.getconn()
    with pytest.raises(ValueError, match="'two'"):
        other.putconn(conn)
    pool.putconn(conn)
    for method in (pool.putconn, pool.discard):
        with pytest.raises(ValueError, match=r"Pool 'one'.*given back already"):
            method(conn)
    taken = pool.getconn(), pool.getconn()
    assert taken[0] is not taken[1]
    with pytest.raises(ValueError, match="'one'"):
        pool.putconn(Conn(99))


def test_timeout_says_everything(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=1)
    conn = Caller(pool.getconn)
    held = conn.result()
    # its thread has ended: the connection is taken back rather than waited for
    fresh = pool.getconn()
    assert fresh is not held
    with pytest.raises(PoolTimeout) as caught:
        pool.getconn(timeout=0)
    message = str(caught.value)
    for part in ("'test'", "max 1", "busy 1", "waiting 1", "thread 'MainThread'", "'max_size' or 'timeout'"):
        assert part in message
    until(lambda: held.closed == 1)
    with pytest.raises(ValueError, match="reclaimed"):
        pool.putconn(held)  # type: ignore[arg-type]
    assert pool.get_stats()["connections_lost"] == 1


@pytest.mark.parametrize("timeout", [-1, float("nan"), float("inf"), True, "1"])
def test_bad_timeouts(make: Make, timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout"):
        make().getconn(timeout)


def test_max_waiting(make: Make) -> None:
    pool = make(max_size=1, max_waiting=1)
    conn = pool.getconn()
    waiter = Caller(pool.getconn)
    until(lambda: "waiting 1" in repr(pool))
    with pytest.raises(PoolFull, match="'max_waiting'"):
        pool.getconn()
    pool.putconn(conn)
    assert waiter.result() is conn


def test_first_come_first_served_and_no_barging(make: Make) -> None:
    pool = make(max_size=1)
    conn = pool.getconn()
    order: list[int] = []

    def take(number: int) -> None:
        with pool.connection():
            order.append(number)

    callers = []
    for number in range(6):
        callers.append(Caller(take, number))
        until(lambda n=number: f"waiting {n + 1}>" in repr(pool))
    pool.putconn(conn)
    take(6)  # arrives last, is served last
    for caller in callers:
        caller.result()
    assert order == list(range(7))


def test_broken_resets_close_the_connection(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=1)
    for fault in (False, RuntimeError("broken")):
        conn = pool.getconn()
        conn.clean = fault
        pool.putconn(conn)
        assert conn.closed == 1
    conn = pool.getconn()
    conn.clean = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        pool.putconn(conn)
    assert conn.closed == 1
    assert pool.get_stats()["returns_bad"] == 3
    assert pool.getconn(timeout=5).number == 3


def test_discard_makes_room(make: Make) -> None:
    pool = make(max_size=1)
    conn = pool.getconn()
    waiter = Caller(pool.getconn)
    until(lambda: "waiting 1" in repr(pool))
    pool.discard(conn)
    assert waiter.result() is not conn
    assert conn.closed == 1


def test_one_dead_connection_sweeps_the_idle_ones(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=8)
    conns = [pool.getconn() for _ in range(8)]
    for conn in conns[1:]:
        pool.putconn(conn)
    for conn in conns:
        conn.alive = False
    driver.close_gate = threading.Event()  # a slow close must not stall the checkout
    assert pool.getconn().number == 8
    driver.close_gate.set()
    until(lambda: all(conn.closed == 1 for conn in conns[1:]))
    pool.putconn(conns[0])  # a busy one of the same age is asked when it comes back
    assert conns[0].closed == 1
    assert driver.pings == 0


def test_a_busy_connection_that_still_answers_survives_a_sweep(make: Make) -> None:
    pool = make(max_size=3)
    kept, dead = pool.getconn(), pool.getconn()
    pool.putconn(dead)
    dead.alive = False
    new = pool.getconn()
    pool.putconn(kept)
    assert pool.getconn() is kept
    assert not new.closed


def test_ping_after_a_long_idle_only(make: Make, driver: ScriptedDriver, clock: Clock) -> None:
    pool = make(clock=clock, max_size=1)
    pool.putconn(pool.getconn())
    clock.now += 29
    first = pool.getconn()
    assert driver.pings == 0
    pool.putconn(first)
    clock.now += 31
    assert pool.getconn() is first
    assert driver.pings == 1
    pool.putconn(first)
    clock.now += 31
    first.answers = False
    assert pool.getconn() is not first


def test_statistics(make: Make, clock: Clock, driver: ScriptedDriver) -> None:
    pool = make(clock=clock, min_size=0, max_size=2)
    for _ in range(3):
        conn = pool.getconn()
        clock.now += 0.5
        pool.putconn(conn)
    stats = pool.pop_stats()
    assert set(stats) == {
        "pool_min", "pool_max", "pool_size", "pool_available", "requests_waiting", "requests_num", "requests_queued",
        "requests_wait_ms", "requests_errors", "usage_ms", "returns_bad", "connections_num", "connections_ms",
        "connections_errors", "connections_lost",
    }  # fmt: skip
    assert (stats["requests_num"], stats["usage_ms"], stats["connections_num"]) == (3, 1500, 1)
    assert (stats["pool_size"], stats["pool_available"], stats["pool_max"]) == (1, 1, 2)
    pool.discard(pool.getconn())
    assert pool.get_stats()["requests_num"] == 1
    assert pool.get_stats()["usage_ms"] == 0


def test_close_reopen_and_late_returns(make: Make) -> None:
    pool = make(max_size=2)
    idle, busy = pool.getconn(), pool.getconn()
    pool.putconn(idle)
    pool.close()
    pool.close()
    assert idle.closed == 1
    pool.putconn(busy)
    assert busy.closed == 1
    assert "closed: size 0" in repr(pool)
    pool.putconn(pool.getconn())
    assert "open: size 1" in repr(pool)


def test_close_wakes_waiters(make: Make) -> None:
    pool = make(max_size=1)
    conn = pool.getconn()
    waiters = [Caller(pool.getconn) for _ in range(3)]
    until(lambda: "waiting 3" in repr(pool))
    pool.close()
    for waiter in waiters:
        with pytest.raises(PoolClosed):
            waiter.result()
    pool.putconn(conn)


def test_a_gentle_close_is_a_close_when_nobody_waits(make: Make) -> None:
    pool = make(max_size=2)
    idle, busy = pool.getconn(), pool.getconn()
    pool.putconn(idle)
    pool.close_gently()
    pool.close_gently()
    assert idle.closed == 1
    assert "closed: size 1" in repr(pool)
    pool.putconn(busy)
    assert busy.closed == 1
    pool.putconn(pool.getconn())
    assert "open: size 1" in repr(pool)


def test_a_gentle_close_refuses_nobody(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=1)
    held = pool.getconn()
    waiter = Caller(pool.getconn)
    until(lambda: "waiting 1" in repr(pool))
    pool.close_gently()
    pool.putconn(held)
    assert waiter.result() is not held
    assert held.closed == 1
    assert "size 1" in repr(pool)


def test_a_gentle_close_leaves_a_connect_that_somebody_waits_for(make: Make, driver: ScriptedDriver) -> None:
    """Closed more often than a connect takes, the pool would otherwise never have one."""
    driver.gate = threading.Event()
    pool = make(max_size=1)
    waiter = Caller(pool.getconn)
    until(lambda: driver.connecting == 1)
    pool.close_gently()
    driver.gate.set()
    assert waiter.result().number == 0  # type: ignore[attr-defined]
    assert driver.connects == 1


def test_a_connect_that_ends_after_close_is_closed(make: Make, driver: ScriptedDriver) -> None:
    driver.gate = threading.Event()
    pool = make(max_size=1)
    waiter = Caller(pool.getconn)
    until(lambda: driver.connecting == 1)
    pool.close()
    with pytest.raises(PoolClosed):
        waiter.result()
    driver.gate.set()
    until(lambda: driver.made and driver.made[0].closed == 1)


def test_drain(make: Make) -> None:
    pool = make(max_size=2)
    idle, busy = pool.getconn(), pool.getconn()
    pool.putconn(idle)
    pool.drain()
    assert idle.closed == 1
    assert busy.closed == 0
    pool.putconn(busy)
    assert busy.closed == 1


def test_resize(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=1)
    first = pool.getconn()
    waiter = Caller(pool.getconn)
    until(lambda: "waiting 1" in repr(pool))
    pool.resize(0, 2)
    second = waiter.result()
    pool.resize(0, 1)
    pool.putconn(first)
    assert first.closed == 1
    pool.putconn(second)  # type: ignore[arg-type]
    assert "size 1 (min 0, max 1), idle 1" in repr(pool)
    with pytest.raises(ValueError, match="max_size"):
        pool.resize(3, 2)
    pool.resize(3)
    until(lambda: "size 3 (min 3, max 3), idle 3" in repr(pool))


def test_check_replaces_what_does_not_answer(make: Make, driver: ScriptedDriver) -> None:
    pool = make(min_size=2, max_size=3)
    pool.wait(10)
    driver.made[0].answers = False
    pool.check()
    until(lambda: "size 2" in repr(pool) and driver.made[0].closed)


def test_wait(make: Make, driver: ScriptedDriver) -> None:
    pool = make(min_size=3, max_size=3)
    pool.wait(10)
    assert pool.get_stats()["pool_size"] == 3
    driver.refusing(Failure.DOWN, "nobody home")
    other = make(min_size=1)
    with pytest.raises(PoolTimeout, match="nobody home"):
        other.wait(0.2)


def test_other_errors_reach_the_caller_as_they_are(make: Make, driver: ScriptedDriver) -> None:
    pool = make()
    driver.refusing(Failure.OTHER, "wrong password")
    with pytest.raises(Refused, match="wrong password"):
        pool.getconn()
    driver.refuse = lambda: TypeError("a fault of the program")
    with pytest.raises(TypeError):
        pool.getconn()
    driver.refuse = None
    assert pool.getconn()
    assert pool.get_stats()["connections_errors"] == 2


def test_a_forgotten_pool_ends_its_thread(driver: ScriptedDriver) -> None:
    pool = ConnectionPool(driver, name="forgotten")
    pool.putconn(pool.getconn())
    until(lambda: any(t.name == "pooling-maintenance-forgotten" for t in threading.enumerate()))
    ref = weakref.ref(pool)
    del pool
    until(lambda: gc.collect() >= 0 and ref() is None)
    until(lambda: not any(t.name == "pooling-maintenance-forgotten" for t in threading.enumerate()))
