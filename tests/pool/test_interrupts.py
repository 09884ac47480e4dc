"""No place in the pool is lost by an interrupt: see `tests.interrupts`."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from pooling.pool import ConnectionPool
from tests.interrupts import interrupted

from .scripted import Conn, ScriptedDriver, until

Make = Callable[..., ConnectionPool[Conn]]


@pytest.mark.parametrize("clean", [True, False])
def test_no_place_is_lost_wherever_it_is_interrupted(make: Make, driver: ScriptedDriver, clean: bool) -> None:
    pool = make(max_size=2)

    def use() -> None:
        conn = pool.getconn()
        conn.clean = clean
        pool.putconn(conn)

    number = 0
    happened = True
    while happened:
        number += 1
        with pool.connection(), pool.connection():
            pass
        driver.made.clear()
        happened = interrupted(number, use)
        first, second = pool.getconn(timeout=10), pool.getconn(timeout=10)  # both places can be had
        assert first is not second
        assert first.closed == second.closed == 0
        pool.putconn(first)
        pool.putconn(second)
        del first, second
        until(lambda: not pool._attempts)
        assert len(pool._slots) == len(pool._idle) == 2
        assert not pool._busy
    assert number > 6


@pytest.mark.parametrize("kind", ["connects", "waits"])
def test_no_place_is_lost_in_a_checkout_that_takes_long(make: Make, driver: ScriptedDriver, kind: str) -> None:
    """As above for one who must have a connection made, or must wait for one that another gives back."""
    number = 0
    happened = True
    while happened:
        number += 1
        pool = make(max_size=2)
        if kind == "waits":
            held = [pool.getconn(), pool.getconn()]
            giver = threading.Thread(target=give_back_to_the_first_who_waits, args=(pool, held))
            giver.start()
        happened = interrupted(number, lambda: pool.putconn(pool.getconn(timeout=10)))  # noqa: B023 - called at once
        if kind == "waits":
            stop_waiting.set()
            giver.join()
            stop_waiting.clear()
            held.clear()
        driver.made.clear()  # it refers to what it made, and a connection that is referred to is somebody's
        first, second = pool.getconn(timeout=10), pool.getconn(timeout=10)
        assert first is not second
        pool.putconn(first)
        pool.putconn(second)
        del first, second
        until(lambda: not pool._attempts)  # noqa: B023
        assert len(pool._slots) == len(pool._idle) == 2
        assert not pool._busy
        assert not pool._waiters
        pool.close()
    assert number > 30


stop_waiting = threading.Event()


def give_back_to_the_first_who_waits(pool: ConnectionPool[Conn], held: list[Conn]) -> None:
    until(lambda: pool._waiters or stop_waiting.is_set())
    for conn in held:
        pool.putconn(conn)
