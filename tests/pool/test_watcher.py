"""The thread that is told of the end of connections: what it sees, what it must not do, and how one does without it."""

from __future__ import annotations

import _thread
import gc
import itertools
import os
import select
import socket
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pooling.pool import ConnectionPool, PoolOptions
from pooling.pool.slots import NEVER
from pooling.pool.watcher import NO_TRUST, TRUST

from .scripted import PATIENCE, Caller, Clock, until
from .sockets import Conn, SocketDriver

Make = Callable[..., ConnectionPool[Conn]]


@pytest.fixture
def driver() -> SocketDriver:
    return SocketDriver()


_number = itertools.count()


@pytest.fixture
def make(driver: SocketDriver) -> Iterator[Make]:
    """Pools whose names are like no other's: by its name a test knows its watcher."""
    pools: list[weakref.ref[ConnectionPool[Conn]]] = []

    def build(callbacks: Any = None, clock: Any = None, **options: Any) -> ConnectionPool[Conn]:
        more = {"clock": clock} if clock else {}
        chosen = PoolOptions(**{"timeout": 10.0, **options})
        pool = ConnectionPool(driver, chosen, name=f"watched {next(_number)}", **more, **(callbacks or {}))
        pools.append(weakref.ref(pool))
        return pool

    yield build
    for reference in pools:
        pool = reference()
        if pool is not None:
            pool.close()


def watchers(name: str) -> int:
    return sum(thread.name == f"pooling-watcher-{name}" for thread in threading.enumerate())


def filled(pool: ConnectionPool[Conn], count: int) -> list[Conn]:
    """So many idle connections, all of them watched."""
    conns = [pool.getconn() for _ in range(count)]
    for conn in conns:
        pool.putconn(conn)
    until(lambda: len(pool._watcher._numbers) == count)
    return conns


def size(pool: ConnectionPool[Conn]) -> int:
    return pool.get_stats()["pool_size"]


# ----- what it sees -----


def test_the_end_of_an_idle_connection_is_seen_without_a_checkout(make: Make) -> None:
    pool = make()
    (conn,) = filled(pool, 1)
    conn.end()
    until(lambda: conn.closed)
    stats = pool.get_stats()
    assert (stats["pool_size"], stats["pool_available"], stats["connections_lost"]) == (0, 0, 1)


def test_one_end_sweeps_all_that_are_idle(make: Make) -> None:
    pool = make()
    conns = filled(pool, 3)
    conns[0].end()  # the other two look well
    until(lambda: all(conn.closed for conn in conns))
    assert size(pool) == 0


def test_a_lent_connection_that_ends_is_not_lent_again(make: Make) -> None:
    pool = make()
    (conn,) = filled(pool, 1)
    assert pool.getconn() is conn
    conn.end()
    until(lambda: pool._slots[id(conn)].expires == NEVER)
    assert not conn.closed  # its user is to find out by himself, not by a closed socket under his hands
    pool.putconn(conn)
    assert conn.closed
    assert pool.getconn() is not conn


def test_traffic_means_nothing(make: Make) -> None:
    pool = make()
    talking, ending = filled(pool, 2)
    assert {id(pool.getconn()), id(pool.getconn())} == {id(talking), id(ending)}
    talking.peer.send(b"an answer")
    ending.end()
    until(lambda: pool._slots[id(ending)].expires == NEVER)
    assert pool._slots[id(talking)].expires != NEVER
    talking.end()  # and it has not used up the watch
    until(lambda: pool._slots[id(talking)].expires == NEVER)


def test_an_end_before_the_watch_begins_is_seen(make: Make, driver: SocketDriver) -> None:
    driver.on_connect = lambda conn: conn.end()
    pool = make(min_size=1, max_size=1)
    driver.on_fileno = lambda conn: setattr(driver, "on_connect", None)
    pool.open()
    until(lambda: driver.made and driver.made[0].closed)


def test_a_dead_connection_in_the_hands_of_a_checkout_is_not_lent(make: Make) -> None:
    """Between the `pop` and the look at the mark."""
    clock = Clock()
    pool = make(clock=clock)
    (conn,) = filled(pool, 1)
    key = id(conn)

    def between() -> float:
        pool._clock = clock
        conn.ours.close()
        Caller(pool._ended, key).result()
        return clock()

    pool._clock = between
    assert pool.getconn() is not conn


# ----- numbers of sockets are given out again -----


def test_an_old_event_does_not_hit_the_next_one_with_its_number(make: Make, driver: SocketDriver) -> None:
    pool = make(max_size=1)
    (first,) = filled(pool, 1)
    number = first.ours.fileno()
    tell = pool._watcher._tell
    told, go = threading.Event(), threading.Event()

    def late(which: ConnectionPool[Conn], fd: int) -> None:
        if fd == number:
            told.set()
            assert go.wait(PATIENCE)
        tell(which, fd)
        done.set()

    done = threading.Event()
    pool._watcher._tell = late  # type: ignore[assignment, method-assign]
    pool.getconn()
    first.end()
    assert told.wait(PATIENCE)  # the event of the first is on its way …
    driver.number = number
    pool.discard(first)
    second = pool.getconn()  # … when the second gets its number
    assert second.ours.fileno() == number
    until(lambda: pool._watcher._numbers == {id(second): number})
    go.set()
    assert done.wait(PATIENCE)
    assert pool._slots[id(second)].expires != NEVER
    second.end()
    until(lambda: pool._slots[id(second)].expires == NEVER)  # and it is watched itself


def test_closed_by_others_it_does_not_take_the_watch_from_the_next_one(make: Make, driver: SocketDriver) -> None:
    pool = make(max_size=2)
    (first,) = filled(pool, 1)
    pool.getconn()
    number = first.ours.detach()
    os.close(number)  # as the client library does after an error
    driver.number = number
    second = pool.getconn()
    until(lambda: id(second) in pool._watcher._numbers)
    pool.discard(first)
    second.end()
    until(lambda: pool._slots[id(second)].expires == NEVER)


@pytest.mark.parametrize("taken", [False, True])
def test_gone_before_it_could_be_watched(make: Make, driver: SocketDriver, taken: bool) -> None:
    """Closed between the look at its number and the watch; the number may be somebody else's already."""
    pool = make(min_size=1, max_size=1)
    stranger, peer = socket.socketpair()

    def close(conn: Conn) -> None:
        driver.on_fileno = None
        number = conn.ours.fileno()
        pool.close()
        if taken:
            os.dup2(stranger.fileno(), number, inheritable=False)
            numbers.append(number)

    numbers: list[int] = []
    over = threading.Event()
    watch = pool._watch

    def watched(slot: Any) -> None:
        watch(slot)
        over.set()

    pool._watch = watched  # type: ignore[method-assign]
    driver.on_fileno = close
    try:
        pool.open()
        assert over.wait(PATIENCE)
        until(lambda: not pool._watcher._numbers and not watchers(pool.name))
        assert driver.made[0].closed
        assert pool._watcher._epoll is None
    finally:
        for number in numbers:
            os.close(number)
        stranger.close()
        peer.close()


# ----- its thread -----


def test_no_thread_before_the_first_connection_and_none_after_the_last(make: Make) -> None:
    pool = make()
    assert not watchers(pool.name)
    filled(pool, 2)
    assert watchers(pool.name) == 1
    pool.close()
    until(lambda: not watchers(pool.name))
    assert (pool._watcher._epoll, pool._watcher._bell) == (None, -1)
    (conn,) = filled(pool, 1)  # and it starts again
    conn.end()
    until(lambda: conn.closed)


def test_it_ends_with_its_pool(make: Make) -> None:
    pool = make()
    ended, conn = filled(pool, 2)
    assert {id(pool.getconn()), id(pool.getconn())} == {id(ended), id(conn)}
    slot = pool._slots[id(ended)]
    ended.end()
    until(lambda: slot.expires == NEVER)  # it has worked with the pool, and must have let it go
    name, reference = pool.name, weakref.ref(pool)
    assert watchers(name) == 1
    del pool
    gc.collect()
    until(lambda: reference() is None)
    until(lambda: not watchers(name))


def test_each_pool_has_its_own(make: Make) -> None:
    pools = [make() for _ in range(8)]
    conns = [filled(pool, 2) for pool in pools]
    for pool in pools[::2]:
        pool.close()
    for pool in pools[::2]:
        until(lambda name=pool.name: not watchers(name))  # type: ignore[misc]
    for pool, (one, other) in zip(pools[1::2], conns[1::2], strict=True):
        assert not one.closed
        one.end()
        until(lambda one=one, other=other: one.closed and other.closed)  # type: ignore[misc]
        assert size(pool) == 0


def test_fork(make: Make, driver: SocketDriver) -> None:
    pool = make()
    conns = filled(pool, 2)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert not pool._watcher._numbers
            (own,) = Caller(filled, pool, 1).result()  # type: ignore[misc]
            own.end()
            until(lambda: own.closed)
            pool.close()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert [conn.closed for conn in conns] == [False, False]
    assert len(pool._watcher._numbers) == 2
    conns[0].end()
    until(lambda: conns[0].closed)


def test_churn(make: Make, driver: SocketDriver) -> None:
    """Numbers change hands all the time, connections end at any moment: none that is well is taken for dead."""
    pools = [make(max_size=3) for _ in range(2)]
    wrong: list[Conn] = []
    ended: set[int] = set()  # by id; every connection is kept in `driver.made`

    def work(pool: ConnectionPool[Conn], seed: int) -> None:
        for number in range(150):
            conn = pool.getconn()
            if (number + seed) % 3 == 0:
                ended.add(id(conn))
                conn.end()
            if (number + seed) % 4 == 0:
                pool.discard(conn)
            else:
                pool.putconn(conn)

    for pool in pools:
        swept = pool._died

        def died(slot: Any, swept: Any = swept) -> None:
            if id(slot.conn) not in ended:
                wrong.append(slot.conn)
            swept(slot)

        pool._died = died  # type: ignore[method-assign]
    callers = [Caller(work, pool, seed) for seed in range(3) for pool in pools]
    for caller in callers:
        caller.result()
    assert not wrong
    for pool in pools:
        pool.close()
    until(lambda: all(conn.closed for conn in driver.made))
    for pool in pools:
        watcher = pool._watcher
        until(lambda watcher=watcher: not watcher._numbers, repr(watcher._numbers))  # type: ignore[misc]
        until(lambda pool=pool: not watchers(pool.name), repr(pool))  # type: ignore[misc]
        assert watcher._keys == {}


# ----- when to look all the same -----


def test_just_returned_it_is_lent_without_a_look_and_later_with_one(make: Make, driver: SocketDriver) -> None:
    clock = Clock()
    pool = make(clock=clock)
    (conn,) = filled(pool, 1)
    until(lambda: pool._slots[id(conn)].trust == TRUST)
    looks = driver.looks
    pool.putconn(pool.getconn())
    assert driver.looks == looks
    clock.now += 2 * TRUST
    pool.putconn(pool.getconn())
    assert driver.looks == looks + 1


def test_a_waiter_takes_a_watched_connection_without_a_look(make: Make, driver: SocketDriver) -> None:
    pool = make(max_size=1)
    (conn,) = filled(pool, 1)
    until(lambda: pool._slots[id(conn)].trust == TRUST)
    assert pool.getconn() is conn
    pool._clock = Clock()  # stands still: handed over in the moment of its return
    waiter = Caller(pool.getconn, 10**6)
    until(lambda: len(pool._waiters) == 1)
    looks = driver.looks
    pool.putconn(conn)
    assert waiter.result() is conn
    assert driver.looks == looks


def test_without_epoll_each_checkout_looks(make: Make, driver: SocketDriver, monkeypatch: Any) -> None:
    monkeypatch.delattr(select, "epoll")
    looked_at_each_checkout(make(), driver)


def test_among_greenlets_each_checkout_looks(make: Make, driver: SocketDriver, monkeypatch: Any) -> None:
    start = _thread.start_new_thread
    monkeypatch.setattr(_thread, "start_new_thread", lambda *args: start(*args))  # what gevent does: it is not C's
    looked_at_each_checkout(make(), driver)


def test_without_a_thread_each_checkout_looks(make: Make, driver: SocketDriver, monkeypatch: Any) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("pooling-watcher"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    pool = make()
    looked_at_each_checkout(pool, driver)
    assert (pool._watcher._epoll, pool._watcher._bell) == (None, -1)


@pytest.mark.parametrize("how", [{"leak_after": 60}, {"callbacks": {"check": lambda conn: None}}])
def test_what_is_examined_at_each_checkout_stays_so(make: Make, driver: SocketDriver, how: dict[str, Any]) -> None:
    pool = make(**how)
    (conn,) = filled(pool, 1)
    assert pool._slots[id(conn)].trust == NO_TRUST
    conn.end()
    until(lambda: conn.closed)  # it is watched all the same


def looked_at_each_checkout(pool: ConnectionPool[Conn], driver: SocketDriver) -> None:
    conn = pool.getconn()
    pool.putconn(conn)
    assert not watchers(pool.name)
    until(lambda: pool._slots[id(conn)].trust == NO_TRUST and pool._maintained)
    looks = driver.looks
    pool.putconn(pool.getconn())
    assert driver.looks == looks + 1
    conn.end()
    assert pool.getconn() is not conn
