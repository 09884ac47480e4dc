"""The functions of the user's that the pool calls."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pooling.errors import PoolTimeout
from pooling.pool import ConnectionPool, Failure

from .scripted import Caller, Clock, Conn, Refused, ScriptedDriver, until

Make = Callable[..., ConnectionPool[Conn]]


def unlocked(pool: ConnectionPool[Conn]) -> bool:
    """Can another thread have the pool's lock? The lock is re-entrant, so this one cannot tell."""
    return bool(Caller(lambda: pool._lock.acquire(timeout=5) and (pool._lock.release() or True)).result())


@pytest.mark.parametrize("name", ["configure", "reset", "check", "reconnect_failed"])
def test_what_cannot_be_called(make: Make, name: str) -> None:
    with pytest.raises(TypeError, match=f"'{name}' must be a function"):
        make(callbacks={name: "yes"})


def test_configure_runs_once_for_each_connect_and_before_the_first_user(make: Make) -> None:
    seen: list[Conn] = []
    free: list[bool] = []

    def configure(conn: Conn) -> None:
        free.append(unlocked(pool))
        seen.append(conn)

    pool = make(max_size=2, callbacks={"configure": configure})
    first = pool.getconn()
    assert seen[0] is first
    pool.putconn(first)
    assert pool.getconn() is first
    assert len(seen) == 1
    assert free == [True]


def test_an_error_in_configure_is_one_of_the_connect(make: Make, driver: ScriptedDriver, clock: Clock) -> None:
    faults: list[BaseException] = [Refused(Failure.OTHER, "no such mode"), ZeroDivisionError("a fault of the program")]

    def configure(conn: Conn) -> None:
        if faults:
            raise faults[0]

    pool = make(clock=clock, max_size=1, callbacks={"configure": configure})
    for kind in (Refused, ZeroDivisionError):
        with pytest.raises(kind):
            pool.getconn()
        until(lambda: driver.made[-1].closed == 1)
        faults.pop(0)
    faults.append(Refused(Failure.DOWN, "gone meanwhile"))
    with pytest.raises(PoolTimeout, match="gone meanwhile"):
        pool.getconn()
    faults.clear()
    clock.now += 2
    conn = pool.getconn()
    assert driver.open == 1
    assert pool.get_stats()["connections_errors"] == 3
    pool.putconn(conn)


def test_reset_runs_after_the_drivers_and_its_refusal_closes(make: Make, driver: ScriptedDriver) -> None:
    order: list[str] = []
    answers: list[Any] = [None, True, False, RuntimeError("broken"), KeyboardInterrupt()]

    def reset(conn: Conn) -> Any:
        order.append("user")
        assert unlocked(pool)
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    pool = make(max_size=1, callbacks={"reset": reset})
    driver.on_reset = lambda conn: order.append("driver")
    conn = pool.getconn()
    for _ in range(2):
        pool.putconn(conn)
        assert pool.getconn() is conn
    assert order == ["driver", "user"] * 2
    pool.putconn(conn)
    assert conn.closed == 1
    conn = pool.getconn()
    pool.putconn(conn)
    assert conn.closed == 1
    conn = pool.getconn()
    with pytest.raises(KeyboardInterrupt):
        pool.putconn(conn)
    assert conn.closed == 1
    assert pool.get_stats()["returns_bad"] == 3
    order.clear()
    conn = pool.getconn()
    conn.clean = False
    pool.putconn(conn)  # what the driver gives up is not shown to the user's function
    assert order == ["driver"]
    assert conn.closed == 1


@pytest.mark.parametrize("answer", [False, OSError("no route")])
def test_check_at_every_checkout(make: Make, driver: ScriptedDriver, answer: Any) -> None:
    bad: list[Conn] = []
    seen: list[Conn] = []

    def check(conn: Conn) -> Any:
        assert unlocked(pool)
        seen.append(conn)
        if any(conn is other for other in bad):
            if isinstance(answer, Exception):
                raise answer
            return answer
        return None

    pool = make(max_size=2, callbacks={"check": check})
    conn = pool.getconn()
    pool.putconn(conn)
    assert pool.getconn() is conn
    assert len(seen) == 2
    pool.putconn(conn)
    assert len(seen) == 2  # not at a return
    bad.append(conn)
    fresh = pool.getconn()
    assert fresh is not conn
    until(lambda: conn.closed == 1)
    assert pool.get_stats()["connections_lost"] == 1
    waiters = [Caller(pool.getconn), Caller(pool.getconn)]
    until(lambda: any(not waiter.is_alive() for waiter in waiters))
    bad.append(fresh)
    pool.putconn(fresh)  # handed over to the one who waits, who examines it too
    assert all(waiter.result() is not fresh for waiter in waiters)


def test_a_check_that_is_interrupted_closes_the_connection(make: Make) -> None:
    def check(conn: Conn) -> None:
        if conn.number == 0:
            raise KeyboardInterrupt

    pool = make(max_size=1, callbacks={"check": check})
    with pytest.raises(KeyboardInterrupt):
        pool.getconn()
    assert pool.getconn().number == 1
    assert pool.get_stats()["connections_lost"] == 0  # closed at once, not found later


def test_a_check_that_never_agrees_ends_with_the_timeout_and_makes_no_storm(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=4, callbacks={"check": lambda conn: False})
    with pytest.raises(PoolTimeout, match="'check' refuses each new connection"):
        pool.getconn(timeout=0.6)
    assert 2 <= driver.connects <= 12
    until(lambda: driver.open == 0 and "size 0" in repr(pool))


def test_reconnect_failed_once_in_an_outage(make: Make, driver: ScriptedDriver, clock: Clock) -> None:
    told: list[object] = []
    pool = make(clock=clock, reconnect_timeout=10, callbacks={"reconnect_failed": told.append})
    for outage in range(2):
        driver.refusing(Failure.DOWN)
        for age in (0, 9, 3, 3, 60):
            clock.now += age
            with pytest.raises(PoolTimeout):
                pool.getconn()
            until(lambda: not pool._attempts)
            if age == 9:
                assert len(told) == outage
        until(lambda n=outage: len(told) == n + 1)
        driver.refuse = None
        clock.now += 10
        pool.putconn(pool.getconn())
        pool.drain()
    assert told == [pool, pool]


def test_reconnect_failed_by_maintenance_and_its_own_errors(
    make: Make, driver: ScriptedDriver, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()

    def failed(pool: ConnectionPool[Conn]) -> None:
        assert unlocked(pool)
        pool.close()
        done.set()
        raise RuntimeError("in the callback")

    pool = make(clock=clock, min_size=1, reconnect_timeout=10, callbacks={"reconnect_failed": failed})
    driver.refusing(Failure.DOWN)
    with pool._lock:
        pool._closed = False
    pool._maintain()
    until(lambda: driver.connects == 1 and not pool._attempts)
    clock.now += 11
    with caplog.at_level(logging.ERROR, "pooling.pool"):
        pool._maintain()
    assert done.is_set()
    assert driver.connects == 1
    assert "'reconnect_failed' failed" in caplog.text
    pool._maintain()
    assert caplog.text.count("'reconnect_failed' failed") == 1
