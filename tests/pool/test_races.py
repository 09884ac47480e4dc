"""Interleavings forced with events and gates, each named after what it would lose."""

from __future__ import annotations

import ctypes
import os
import random
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from pooling.errors import PoolTimeout
from pooling.pool import ConnectionPool, Failure

from .scripted import PATIENCE, Caller, Clock, Conn, Refused, ScriptedDriver, until

Make = Callable[..., ConnectionPool[Conn]]


def test_a_slow_connect_does_not_delay_a_returned_connection(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=2)
    held = pool.getconn()
    driver.gate = threading.Event()
    waiter = Caller(pool.getconn)
    until(lambda: driver.connecting == 1)
    pool.putconn(held)
    assert waiter.result() is held  # the connect is still under way
    assert driver.connecting == 1
    driver.gate.set()
    until(lambda: "size 2" in repr(pool) and "idle" in repr(pool))
    assert pool.getconn(timeout=0).number == 1  # … and then idle


def test_a_hanging_connect_does_not_outlast_the_timeout(make: Make, driver: ScriptedDriver) -> None:
    driver.gate = threading.Event()
    pool = make(max_size=1)
    with pytest.raises(PoolTimeout, match=r"connecting 1.*Connecting takes too long"):
        pool.getconn(timeout=0.05)
    driver.gate.set()
    assert pool.getconn().number == 0


def test_lost_wake_up_between_the_look_and_the_append(make: Make, driver: ScriptedDriver) -> None:
    """`putconn` is held up in the driver's reset while a waiter enqueues and finds nothing idle."""
    pool = make(max_size=1)
    held = pool.getconn()
    inside, go = threading.Event(), threading.Event()

    def reset(conn: Conn) -> None:
        inside.set()
        assert go.wait(PATIENCE)

    driver.on_reset = reset
    putter = Caller(pool.putconn, held)
    assert inside.wait(PATIENCE)
    waiter = Caller(pool.getconn)
    until(lambda: "waiting 1" in repr(pool))
    go.set()
    assert waiter.result() is held
    putter.result()


def test_a_newcomer_does_not_overtake_between_append_and_hand_over(make: Make) -> None:
    """`putconn` has appended the connection and not yet served the queue: it is not for newcomers."""
    pool = make(max_size=1)
    held = pool.getconn()
    waiter = Caller(pool.getconn)
    until(lambda: "waiting 1" in repr(pool))
    attend = pool._attend
    newcomer: list[Caller] = []

    def paused() -> None:
        newcomer.append(Caller(pool.getconn, 10))
        until(lambda: len(pool._waiters) == 2 or newcomer[0].value is not None or waiter.value is not None)
        attend()

    pool._attend = paused  # type: ignore[method-assign]
    pool.putconn(held)
    assert waiter.result() is held
    # The waiter's thread has ended, so the newcomer gets a new connection in place of the one that went with it.
    assert newcomer[0].result() is not held


class Sneaky(deque):  # type: ignore[type-arg]
    """An idle list that lets something happen just after it was found empty."""

    def then(self, action: Callable[[], object]) -> None:
        self.action: Callable[[], object] | None = action

    def pop(self) -> Any:  # type: ignore[override]
        try:
            return super().pop()
        except IndexError:
            action, self.action = self.action, None
            if action is not None:
                action()
            raise


def sneak(pool: ConnectionPool[Conn], action: Callable[[], object]) -> None:
    idle = Sneaky(pool._idle)
    idle.then(action)
    pool._idle, pool._idle_append = idle, idle.append


def test_returned_just_after_the_queue_found_nothing_idle(make: Make) -> None:
    """The waiter has looked, the connection is put, the waiter sleeps: who would wake it?"""
    pool = make(max_size=1)
    held = pool.getconn()
    sneak(pool, lambda: pool.putconn(held))
    assert pool.getconn(timeout=0) is held


def test_returned_just_after_close_has_swept(make: Make) -> None:
    pool = make(max_size=1)
    held = pool.getconn()
    sneak(pool, lambda: pool.putconn(held))
    pool.close()
    assert held.closed == 1
    assert "size 0" in repr(pool)


def test_returned_just_while_draining(make: Make) -> None:
    """`putconn` saw a young connection, then all were drained, then it was appended: it must not be lent again."""
    pool = make(max_size=1)
    held = pool.getconn()
    append = pool._idle_append

    def late(slot: Any) -> None:
        pool.drain()
        append(slot)

    pool._idle_append = late
    pool.putconn(held)
    pool._idle_append = append
    assert pool.getconn(timeout=5) is not held
    assert held.closed == 1


def test_a_connect_that_ends_after_a_drain_is_not_used(make: Make, driver: ScriptedDriver) -> None:
    driver.gate = threading.Event()
    pool = make(max_size=1)
    waiter = Caller(pool.getconn)
    until(lambda: driver.connecting == 1)
    pool.drain()
    driver.gate.set()
    assert waiter.result().number == 1  # type: ignore[attr-defined]
    until(lambda: driver.made[0].closed == 1)


def test_what_is_reclaimed_is_closed_even_if_the_one_who_asked_is_refused(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=1)
    lost = Caller(pool.getconn).result()
    with pool._lock:
        pool._outage.refused(pool._clock() + 1000, Refused(Failure.DOWN))
    with pytest.raises(PoolTimeout):
        pool.getconn()
    until(lambda: lost.closed == 1)  # type: ignore[attr-defined]


def test_served_at_the_moment_of_the_time_out(make: Make) -> None:
    """The waiter's own wait has ended, but the connection arrives before it has left the queue."""
    pool = make(max_size=1)
    held = pool.getconn()
    real = pool._waiters.__class__

    class Late:
        """A wake-up that is heard too late: the hand-over happens inside of the acquire that times out."""

        def acquire(self, timeout: float = -1) -> bool:
            pool.putconn(held)
            return False

        def release(self) -> None:
            pass

    class Waiters(real):  # type: ignore[valid-type, misc]
        def append(self, waiter: Any) -> None:
            waiter.wake = Late()
            super().append(waiter)

    pool._waiters = Waiters()
    assert pool.getconn(timeout=0) is held
    assert "waiting 0" in repr(pool)


def test_an_interrupted_waiter_passes_its_connection_on(make: Make) -> None:
    pool = make(max_size=1)
    held = pool.getconn()
    real = pool._waiters.__class__

    class Interrupted:
        """Ctrl-C arrives when the connection has been handed over but not yet been seen."""

        def acquire(self, timeout: float = -1) -> bool:
            pool.putconn(held)
            raise KeyboardInterrupt

        def release(self) -> None:
            pass

    class Waiters(real):  # type: ignore[valid-type, misc]
        def append(self, waiter: Any) -> None:
            waiter.wake = Interrupted()
            super().append(waiter)

    pool._waiters = Waiters()
    with pytest.raises(KeyboardInterrupt):
        pool.getconn()
    pool._waiters = real()
    assert pool.getconn(timeout=0) is held


def test_interrupted_in_the_liveness_check(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=1)
    held = pool.getconn()
    pool.putconn(held)

    def interrupt(conn: Conn) -> None:
        driver.on_alive = None
        raise KeyboardInterrupt

    driver.on_alive = interrupt
    with pytest.raises(KeyboardInterrupt):
        pool.getconn()
    assert held.closed == 1  # nobody knows what state it is in
    assert pool.getconn(timeout=5).number == 1


@pytest.mark.parametrize("queued", [False, True])
def test_interrupted_between_a_question_and_its_answer(make: Make, driver: ScriptedDriver, queued: bool) -> None:
    """Ctrl-C in a ping: nobody may get a connection on which somebody else's answer is still under way."""
    clock = Clock()
    pool = make(max_size=1, clock=clock)
    held = pool.getconn()
    pool.putconn(held)
    clock.now += 31

    def interrupt(conn: Conn) -> bool:
        raise KeyboardInterrupt

    pool._driver.ping = interrupt  # type: ignore[method-assign]
    caught = None
    try:
        if queued:
            pool._queue(None)
        else:
            pool.getconn()
    except KeyboardInterrupt as error:
        caught = error  # with its traceback, which refers to the connection
    assert caught is not None
    assert held.closed == 1
    assert pool.getconn(timeout=5) is not held


def test_never_more_than_max_size_while_connecting(make: Make, driver: ScriptedDriver) -> None:
    driver.gate = threading.Event()
    pool = make(max_size=3)
    callers = [Caller(lambda: pool.putconn(pool.getconn())) for _ in range(10)]
    until(lambda: "waiting 10" in repr(pool))
    until(lambda: driver.connecting == 3)
    driver.gate.set()
    for caller in callers:
        caller.result()
    assert driver.most_open <= 3


def test_a_connection_that_nobody_refers_to_is_reclaimed(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=1)
    pool.getconn()
    driver.made.clear()  # the test's own reference
    assert pool.getconn(timeout=5)
    assert pool.get_stats()["connections_lost"] == 1


def test_storm(make: Make, driver: ScriptedDriver) -> None:
    """Many threads, few connections, faults at random: nothing is given twice, nothing is lost, max_size holds."""
    pool = make(max_size=4, timeout=60)
    users: dict[int, int] = {}
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def work(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(150):
            conn = pool.getconn()
            assert users.setdefault(id(conn), seed) == seed, "given twice"
            assert not conn.closed
            fate = dice.random()
            if fate < 0.02:
                conn.alive = False
            elif fate < 0.04:
                conn.clean = False
            assert users.pop(id(conn)) == seed
            if 0.04 < fate < 0.06:
                pool.discard(conn)
            else:
                pool.putconn(conn)

    try:
        callers = [Caller(work, seed) for seed in range(16)]
        for caller in callers:
            caller.result()
    finally:
        sys.setswitchinterval(switch)
    until(lambda: not pool._attempts)
    stats = pool.get_stats()
    assert stats["requests_num"] == 16 * 150
    assert stats["requests_errors"] == 0
    assert stats["pool_size"] == stats["pool_available"] <= 4
    pool.close()
    until(lambda: driver.open == 0)
    assert all(conn.closed == 1 for conn in driver.made)


class Stop(BaseException):
    pass


def test_asynchronous_exceptions_lose_no_slot(make: Make, driver: ScriptedDriver) -> None:
    """Threads that are shot at while they check out and return. Afterwards every place in the pool can be had."""
    pool = make(max_size=3, timeout=60)
    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
    over = threading.Event()

    # One shot at a thread until it has taken it: hit again while it handles the first it would end, and a thread that
    # ends passes its ident on, perhaps to one of the pool's own.
    armed = [threading.Event() for _ in range(4)]

    def use(ready: threading.Event) -> None:
        while not over.is_set():
            try:
                ready.set()
                while not over.is_set():
                    conn = pool.getconn()
                    try:
                        pass
                    finally:
                        pool.putconn(conn)
            except (Stop, ValueError):
                conn = None

    def work(ready: threading.Event) -> None:
        while not over.is_set():
            with suppress(Stop):  # it hit beside the `try` in there, and must not end the thread
                use(ready)

    threads = [threading.Thread(target=work, args=(ready,), daemon=True) for ready in armed]
    for thread in threads:
        thread.start()
    dice = random.Random(7)
    shots = 0
    for _ in range(600):
        number = dice.randrange(4)
        # A thread that is being started bears the number of the one that starts it, and would be hit in its place.
        starting: Any = threading._limbo  # type: ignore[attr-defined]
        if armed[number].is_set() and threads[number].is_alive() and not starting:
            armed[number].clear()
            shots += set_exception(ctypes.c_ulong(threads[number].ident or 0), ctypes.py_object(Stop))
        over.wait(0.001)  # lets the threads run; nothing is concluded from its length
    assert shots > 50
    over.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread hangs"
    driver.made.clear()
    conns = [pool.getconn(timeout=10) for _ in range(3)]
    assert len({id(conn) for conn in conns}) == 3
    assert driver.most_open <= 3 + 1  # one may be closing while its place is taken


def test_fork_gives_the_child_an_empty_pool(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=3)
    idle, busy = pool.getconn(), pool.getconn()
    pool.putconn(idle)
    waiting = make(max_size=1)
    held = waiting.getconn()
    waiter = Caller(waiting.getconn)  # its thread does not exist in the child
    until(lambda: "waiting 1" in repr(waiting))
    with pool._lock:  # as if another thread were inside at this moment
        child = os.fork()
        if child == 0:
            code = 1
            try:
                assert (idle.abandoned, busy.abandoned, idle.closed, busy.closed) == (1, 1, 0, 0)
                assert "size 0" in repr(pool)
                assert "waiting 0" in repr(waiting)
                pool.putconn(busy)  # lent before the fork: accepted, and not lent again
                done = Caller(pool.getconn)  # in a thread, which does not own the lock that the fork copied
                new = done.result()
                assert new is not busy
                assert new is not idle
                pool.putconn(new)  # type: ignore[arg-type]
                pool.close()
                assert (idle.closed, busy.closed, new.closed) == (0, 0, 1)  # type: ignore[attr-defined]
                code = 0
            finally:
                os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert (idle.abandoned, busy.abandoned) == (0, 0)
    pool.putconn(busy)
    waiting.putconn(held)
    assert waiter.result() is held


def test_fork_under_load(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=2)
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            with pool.connection():
                pass

    threads = [Caller(work) for _ in range(3)]
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    with pool.connection(timeout=10) as conn:
                        code = 0 if not conn.abandoned else 2
                finally:
                    os._exit(code)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
    finally:
        over.set()
        for thread in threads:
            thread.result()


def test_shutdown_under_load(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=3)
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                with pool.connection():
                    pass
            except PoolTimeout:  # PoolClosed is one
                pass

    callers = [Caller(work) for _ in range(6)]
    for _ in range(30):
        pool.close()
    over.set()
    for caller in callers:
        caller.result()
    pool.close()
    until(lambda: driver.open == 0)
    assert all(conn.closed == 1 for conn in driver.made)


def test_recovery_from_saturation(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=2)
    held = [pool.getconn(), pool.getconn()]
    callers = [Caller(pool.getconn, 0.01) for _ in range(10)]
    for caller in callers:
        with pytest.raises(PoolTimeout):
            caller.result()
    for conn in held:
        pool.putconn(conn)
    assert {pool.getconn(0).number, pool.getconn(0).number} == {0, 1}


def test_the_connects_of_a_failed_growth_are_tried_again(make: Make, driver: ScriptedDriver) -> None:
    pool = make(max_size=2)
    held = pool.getconn()
    driver.refusing(Failure.CAPACITY)
    waiter = Caller(pool.getconn)
    until(lambda: pool.get_stats()["connections_errors"] >= 1)
    driver.refuse = None
    assert waiter.result() is not held
