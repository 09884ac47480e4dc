"""The pooled backend under gevent's monkey patching. Ends with an AssertionError, or says "fine".

The client library blocks the whole thread while the server works: that is its nature. What the pool itself does,
waiting above all, must leave the other greenlets running.
"""

from gevent import monkey

monkey.patch_all()

import gc  # noqa: E402
import os  # noqa: E402
import threading  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import Any  # noqa: E402

import django  # noqa: E402
import gevent  # noqa: E402
from django.db import connection, connections  # noqa: E402
from gevent.event import Event  # noqa: E402

from pooling.errors import PoolTimeout  # noqa: E402

django.setup()
POOL = connection.pool  # the wrapper is looked up for each greenlet anew, the pool is one


def number() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        return int(cursor.fetchone()[0])


def until(condition: Callable[[], Any]) -> None:
    with gevent.Timeout(20):
        while not condition():
            gevent.sleep(0.005)


def all_places(size: int = 3) -> None:
    """Every place of the pool can be had at once, and no more."""
    conns = [POOL.getconn(timeout=10) for _ in range(size)]
    assert len({id(conn) for conn in conns}) == size
    try:
        POOL.getconn(timeout=0)
        raise AssertionError("one too many")
    except PoolTimeout:
        pass
    for conn in conns:
        POOL.putconn(conn)


def many_greenlets_on_few_connections() -> None:
    held: dict[int, Any] = {}
    done = []

    def work() -> None:
        for _ in range(5):
            mine = number()
            assert mine not in held, "lent twice"
            held[mine] = gevent.getcurrent()
            gevent.sleep(0.001)
            assert number() == mine
            assert held.pop(mine) is gevent.getcurrent()
            connections.close_all()
        done.append(1)

    gevent.joinall([gevent.spawn(work) for _ in range(40)], raise_error=True, timeout=60)
    assert len(done) == 40
    stats = POOL.get_stats()
    assert stats["pool_size"] == stats["pool_available"] <= 3, stats
    assert stats["requests_queued"] > 0
    assert stats["requests_errors"] == 0


def who_waits_lets_the_others_run() -> None:
    leave = Event()
    ticks = []

    def hold() -> None:
        number()
        leave.wait()
        connections.close_all()

    def tick() -> None:
        while True:
            ticks.append(1)
            gevent.sleep(0.001)

    holders = [gevent.spawn(hold) for _ in range(3)]
    until(lambda: POOL.get_stats()["pool_available"] == 0 and len(POOL.holders()) == 3)
    assert len({holding.thread for holding in POOL.holders()}) == 3, POOL.holders()
    waiter = gevent.spawn(lambda: (number(), connections.close_all()))
    until(lambda: POOL.get_stats()["requests_waiting"] == 1)
    ticker = gevent.spawn(tick)
    until(lambda: len(ticks) > 20)
    assert not waiter.ready()
    try:
        POOL.getconn(timeout=0.02)
        raise AssertionError("there was none to be had")
    except PoolTimeout as error:
        message = str(error)
    assert "busy 3" in message, message
    leave.set()
    gevent.joinall([*holders, waiter], raise_error=True, timeout=20)
    ticker.kill()
    all_places()


def killed_while_it_waits_or_holds() -> None:
    conns = [POOL.getconn() for _ in range(3)]
    waiters = [gevent.spawn(number) for _ in range(4)]
    until(lambda: POOL.get_stats()["requests_waiting"] == 4)
    gevent.killall(waiters[:2])
    assert POOL.get_stats()["requests_waiting"] == 2
    for conn in conns:
        POOL.putconn(conn)
    gevent.joinall(waiters[2:], raise_error=True, timeout=20)  # and they end without giving back
    gc.collect()
    all_places()
    stuck = gevent.spawn(lambda: (number(), gevent.sleep(1000)))
    until(lambda: len(POOL.holders()) == 1)
    stuck.kill()
    all_places()
    with gevent.Timeout(0.05, False):  # a time-out of gevent's own, in the middle of a checkout
        conns = [POOL.getconn() for _ in range(4)]
    del conn
    conns.clear()
    gc.collect()  # nobody refers to those that it got before that any more
    all_places()


def the_dead_are_found() -> None:
    first = number()
    connections.close_all()
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        victim = cursor.fetchone()[0]
    connections.close_all()
    killer = POOL.getconn()
    spare = POOL.getconn()
    for conn in (killer, spare):
        if conn.thread_id() != victim:
            conn.query(f"KILL {victim}")
            conn.store_result()
    for conn in (killer, spare):
        if conn.thread_id() == victim:
            POOL.discard(conn)
        else:
            POOL.putconn(conn)
    assert first
    assert number() != victim
    connections.close_all()


def maintained() -> None:
    """The maintenance is a greenlet as well: unused connections go without anybody asking."""
    assert POOL.get_stats()["pool_size"] > 0
    until(lambda: POOL.get_stats()["pool_size"] == 0)


def forked() -> None:
    before = number()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if number() != before else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert number() == before
    connections.close_all()


assert threading.current_thread() is threading.main_thread()
many_greenlets_on_few_connections()
who_waits_lets_the_others_run()
killed_while_it_waits_or_holds()
the_dead_are_found()
forked()
maintained()
print("fine")
