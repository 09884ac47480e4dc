"""A suspended pool lends nothing, and forgets nobody."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from pooling.errors import PoolClosed, PoolTimeout
from pooling.pool import ConnectionPool, Failure

from .scripted import Caller, Clock, Conn, ScriptedDriver, until

Make = Callable[..., ConnectionPool[Conn]]


def test_checkouts_wait_and_returned_connections_stay(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=3)
    idle, busy = pool.getconn(), pool.getconn()
    pool.putconn(idle)
    pool.suspend()
    pool.suspend()
    assert "suspended: size 2" in repr(pool)
    for _ in range(2):  # when the first one has gone nobody waits, and still the idle one is not lent
        with pytest.raises(PoolTimeout, match="suspended"):
            pool.getconn(timeout=0)
    order: list[int] = []

    def take(number: int) -> None:
        conn = pool.getconn()
        order.append(number)
        pool.putconn(conn)

    callers = []
    for number in range(3):
        callers.append(Caller(take, number))
        until(lambda n=number: f"waiting {n + 1}>" in repr(pool))
    with pytest.raises(PoolTimeout, match=r"suspended: call its resume\(\)"):
        pool.getconn(timeout=0.01)
    pool.putconn(busy)
    assert "idle 2, busy 0, connecting 0, waiting 3" in repr(pool)
    assert driver.connects == 2
    assert busy.closed == 0
    pool.resize(0, 1)  # nor does this hand one over
    until(lambda: "size 1" in repr(pool))
    assert order == []
    pool.resume()
    for caller in callers:
        caller.result()
    assert order == [0, 1, 2]
    pool.resume()
    with pool.connection(timeout=0):
        assert "open" in repr(pool)
    assert driver.connects == 2


def test_an_outage_is_slept_through(make: Make, driver: ScriptedDriver, clock: Clock) -> None:
    pool = make(clock=clock, max_size=1)
    driver.gate = threading.Event()
    driver.refusing(Failure.DOWN)
    callers = [Caller(pool.getconn)]
    until(lambda: driver.connecting == 1)
    pool.suspend()
    driver.gate.set()
    until(lambda: "connecting 0" in repr(pool))
    callers.append(Caller(pool.getconn))  # the server is known to be down, and still this one waits
    until(lambda: "waiting 2" in repr(pool))
    assert driver.connects == 1
    driver.refuse = None
    pool.resume()
    first = callers[0].result()
    assert isinstance(first, Conn)
    pool.putconn(first)
    assert callers[1].result() is not None


def test_nothing_is_opened_for_min_size_until_resume(make: Make, driver: ScriptedDriver, clock: Clock) -> None:
    pool = make(clock=clock, min_size=2)
    pool.suspend()
    pool.open()
    assert pool._maintain() is None  # nothing to do: no round after round in vain
    assert driver.connects == 0
    pool.resume()
    until(lambda: "size 2" in repr(pool))


def test_drain_while_suspended_and_close(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=1)
    conn = pool.getconn()
    pool.putconn(conn)
    pool.suspend()
    pool.drain()
    assert conn.closed == 1
    caller = Caller(pool.getconn)
    until(lambda: "waiting 1" in repr(pool))
    pool.close()
    with pytest.raises(PoolClosed):
        caller.result()
    with pytest.raises(PoolTimeout, match="suspended"):
        pool.getconn(timeout=0.01)
    pool.resume()
    assert pool.getconn().number == 1


def test_a_forked_child_is_not_suspended(make: Make) -> None:
    pool = make(max_size=1)
    pool.suspend()
    child = os.fork()
    if child == 0:
        try:
            pool.getconn(timeout=5)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert "suspended" in repr(pool) or "closed" in repr(pool)
