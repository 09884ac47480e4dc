from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from pooling.errors import PoolTimeout
from pooling.pool import ConnectionPool, Failure
from pooling.pool.outage import LONGEST, Outage
from pooling.pool.slots import Attempt

from .scripted import Caller, Clock, Conn, Refused, ScriptedDriver, until

Make = Callable[..., ConnectionPool[Conn]]


def test_a_server_that_is_down_fails_fast_and_is_probed_with_a_growing_pause(
    make: Make, driver: ScriptedDriver, clock: Clock
) -> None:
    pool = make(clock=clock)
    driver.refusing(Failure.DOWN, "nobody home")
    start, tries = clock.now, 0
    while clock.now < start + 120:
        before = driver.connects
        with pytest.raises(PoolTimeout, match="nobody home") as caught:
            pool.getconn()
        assert isinstance(caught.value.__cause__, Refused)
        tries += driver.connects - before
        clock.now += 0.01
    assert 60 <= tries <= 400  # 12,000 checkouts; one probe in two seconds in the long run
    driver.refuse = None
    clock.now += LONGEST  # however long the outage was
    assert pool.getconn().number == 0


def test_the_pause_is_capped_and_jittered() -> None:
    outage = Outage()
    pauses = set()
    for now in range(0, 100_000, 100):
        outage.refused(float(now), Refused(Failure.DOWN))
        pauses.add(outage.retry_at - now)
        assert 0 < outage.retry_at - now <= LONGEST
    assert len(pauses) > 100


def test_one_probe_at_a_time_others_fail_or_are_served_with_it(
    make: Make, driver: ScriptedDriver, clock: Clock
) -> None:
    pool = make(clock=clock)
    driver.refusing(Failure.DOWN)
    with pytest.raises(PoolTimeout):
        pool.getconn()
    connects = driver.connects
    driver.gate = threading.Event()
    driver.refuse = None
    clock.now += LONGEST
    prober = Caller(pool.getconn)
    until(lambda: driver.connecting == 1)
    impatient = Caller(pool.getconn)
    until(lambda: "waiting 2" in repr(pool))
    clock.now += 0.3  # past their patience with the probe, far from their timeouts
    for caller in (prober, impatient):
        with pytest.raises(PoolTimeout, match="cannot reach its server"):
            caller.result()
    followers = [Caller(pool.getconn) for _ in range(3)]
    until(lambda: "waiting 3" in repr(pool))
    assert driver.connects == connects + 1
    driver.gate.set()
    for caller in followers:
        assert isinstance(caller.result(), Conn)


def test_a_probe_has_little_time_and_more_the_longer_it_takes(make: Make, driver: ScriptedDriver, clock: Clock) -> None:
    """Cut short, it does not hide the recovery; cut short for ever, it would lock out a server that became slow."""
    pool = make(clock=clock, timeout=30)
    driver.refusing(Failure.DOWN)
    for pause in (0, LONGEST, 200, 2000):
        clock.now += pause
        with pytest.raises(PoolTimeout):
            pool.getconn()
    clock.now += LONGEST
    driver.refuse = None
    driver.gate = threading.Event()
    prober = Caller(pool.getconn)
    until(lambda: driver.connecting == 1)
    clock.now += 4
    with pytest.raises(PoolTimeout):
        prober.result()
    driver.gate.set()
    until(lambda: "idle 1" in repr(pool))  # what the probe has opened is kept
    driver.gate = None
    driver.refusing(Failure.DOWN)
    pool.discard(pool.getconn())
    for pause in (0, LONGEST):
        clock.now += pause
        with pytest.raises(PoolTimeout):
            pool.getconn()
    first, probe, later, late, last, known, slow = driver.limits
    assert (first, probe, last, known) == (30, LONGEST, 30, 30)
    assert 8 <= later < 9
    assert late == 30
    assert slow == 8  # connects are known to take 4 s


def test_those_who_wait_already_are_told(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=2)
    held = pool.getconn()
    driver.gate = threading.Event()
    driver.refusing(Failure.DOWN, "it went away")
    waiters = [Caller(pool.getconn) for _ in range(4)]
    until(lambda: "waiting 4" in repr(pool))
    driver.gate.set()
    for waiter in waiters:
        with pytest.raises(PoolTimeout, match="it went away"):
            waiter.result()
    pool.putconn(held)


def test_capacity_with_own_connections_busy_waits_for_them(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=3)
    held = pool.getconn()
    driver.refusing(Failure.CAPACITY, "too many connections")
    waiter = Caller(pool.getconn)
    until(lambda: pool.get_stats()["connections_errors"] >= 1)
    assert "waiting 1" in repr(pool)
    pool.putconn(held)
    assert waiter.result() is held


def test_capacity_without_own_connections_fails_at_once(make: Make, driver: ScriptedDriver, clock: Clock) -> None:
    pool = make(clock=clock)
    driver.refusing(Failure.CAPACITY, "too many connections")
    for _ in range(5):
        with pytest.raises(PoolTimeout, match=r"at its capacity.*too many connections"):
            pool.getconn()
    assert driver.connects == 1  # no storm: the answer is believed for a moment
    driver.refuse = None
    clock.now += 1
    assert pool.getconn()


def test_wrong_password_is_told_to_each_waiter_in_turn(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=2)
    driver.refusing(Failure.OTHER, "wrong password")
    for waiter in [Caller(pool.getconn) for _ in range(5)]:
        with pytest.raises(Refused, match="wrong password"):
            waiter.result()
    assert "connecting 0, waiting 0" in repr(pool)


def test_min_size_is_refilled_after_an_outage_without_any_checkout(make: Make, driver: ScriptedDriver) -> None:
    pool = make(min_size=2)
    driver.refusing(Failure.DOWN)
    pool.open()
    until(lambda: driver.connects >= 3)
    driver.refuse = None
    until(lambda: "size 2" in repr(pool))


def test_refilling_gives_up_after_reconnect_timeout(make: Make, driver: ScriptedDriver, clock: Clock) -> None:
    pool = make(clock=clock, min_size=1, reconnect_timeout=10)
    driver.refusing(Failure.DOWN)
    with pool._lock:
        pool._closed = False
    assert pool._maintain() is not None
    until(lambda: driver.connects == 1 and not pool._attempts)
    clock.now += 11
    assert pool._maintain() is None
    assert driver.connects == 1
    driver.refuse = None
    assert pool.getconn()


def test_an_attempt_that_never_runs_frees_its_place() -> None:
    outage = Outage()
    outage.refused(0.0, Refused(Failure.DOWN))
    attempt = Attempt(0)
    outage.started(attempt)
    assert not outage.admits(10.0)
    del attempt
    assert outage.admits(10.0)
