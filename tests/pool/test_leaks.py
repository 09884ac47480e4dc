"""Who holds a connection: asked for, in errors, and reported when it is too long."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable

import pytest

from pooling.errors import PoolTimeout
from pooling.pool import ConnectionPool

from .scripted import PATIENCE, Caller, Clock, Conn, ScriptedDriver, until

Make = Callable[..., ConnectionPool[Conn]]


def taken_here(pool: ConnectionPool[Conn]) -> Conn:
    return pool.getconn()


def through_the_block(pool: ConnectionPool[Conn]) -> None:
    with pool.connection():
        assert "through_the_block" in pool.holders()[0].stack[0]


def test_holders(make: Make, clock: Clock) -> None:
    pool = make(clock=clock, max_size=2, leak_after=60)
    leave = threading.Event()

    def hold() -> None:
        conn = taken_here(pool)
        leave.wait(PATIENCE)
        pool.putconn(conn)

    other = Caller(hold)
    until(lambda: pool.holders())
    clock.now += 2
    mine = taken_here(pool)
    clock.now += 1
    first, second = pool.holders()
    assert (first.thread, first.since, first.age) == (other.name, 1000.0, 3.0)
    assert (second.thread, second.since, second.age) == ("MainThread", 1002.0, 1.0)
    assert second.connection == repr(mine)
    for held in (first, second):
        assert "test_leaks.py:" in held.stack[0]
        assert held.stack[0].endswith("in taken_here")
    assert any("test_holders" in line for line in second.stack)
    with pytest.raises(PoolTimeout) as caught:
        pool.getconn(timeout=0)
    assert f"Held by thread {other.name!r} for 3.0 s, taken at " in str(caught.value)
    assert "thread 'MainThread' for 1.0 s" in str(caught.value)
    leave.set()
    other.result()
    pool.putconn(mine)
    assert pool.holders() == []
    pool.putconn(taken_here(pool))  # an idle one is lent again
    through_the_block(pool)


def test_without_leak_after_there_are_holders_and_no_stacks(make: Make, clock: Clock) -> None:
    pool = make(clock=clock, max_size=1)
    pool.putconn(pool.getconn())
    conn = pool.getconn()
    clock.now += 1000
    pool._maintain()
    (held,) = pool.holders()
    assert (held.thread, held.age, held.stack) == ("MainThread", 1000.0, ())
    pool.putconn(conn)


def test_each_leak_is_reported_once_and_in_time(make: Make, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "pooling.pool")
    pool = make(clock=clock, max_size=2, leak_after=20)
    conn = taken_here(pool)
    clock.now += 5
    assert pool._maintain() == 15  # looks again when the first one is due
    clock.now += 14.9
    pool._maintain()
    assert caplog.text == ""
    clock.now += 0.1
    assert pool._maintain() == 20
    pool._maintain()
    clock.now += 100
    pool._maintain()
    (record,) = caplog.records
    text = record.getMessage()
    for part in ("'test'", repr(conn), "thread 'MainThread'", "20.0 s", "in taken_here", "in test_each_leak"):
        assert part in text
    pool.putconn(conn)
    conn = taken_here(pool)
    pool._maintain()
    assert len(caplog.records) == 1  # another holder, and not for long
    clock.now += 21
    pool._maintain()
    assert len(caplog.records) == 2
    pool.putconn(conn)


def test_the_maintenance_thread_reports(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "pooling.pool")
    pool = make(max_size=1, leak_after=0.05)
    conn = taken_here(pool)
    until(lambda: "longer than 'leak_after'" in caplog.text)
    pool.putconn(conn)


def test_the_report_keeps_nothing_alive(make: Make, driver: ScriptedDriver, clock: Clock) -> None:
    """A connection that was dropped is still found by its references."""
    pool = make(clock=clock, max_size=1, leak_after=10)
    taken_here(pool)
    clock.now += 11
    pool._maintain()
    gc.collect()
    driver.made.clear()
    pool.putconn(pool.getconn())
    assert pool.get_stats()["connections_lost"] == 1
