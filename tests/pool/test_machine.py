"""A state machine: any sequence of what users, servers and time do to a pool, against a simple model of it."""

from __future__ import annotations

import threading

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pooling.errors import PoolClosed, PoolTimeout
from pooling.pool import ConnectionPool, PoolOptions

from .scripted import PATIENCE, Clock, Conn, ScriptedDriver, until


class User(threading.Thread):
    """Takes one connection and lives until it is told to end: the pool takes back what dead threads hold."""

    def __init__(self, pool: ConnectionPool[Conn]) -> None:
        super().__init__(daemon=True)
        self.pool = pool
        self.conn: Conn | None = None
        self.error: BaseException | None = None
        self.settled = threading.Event()
        self.leave = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            self.conn = self.pool.getconn(timeout=10**6)
        except BaseException as error:  # noqa: BLE001 - the machine looks at it
            self.error = error
        self.settled.set()
        self.leave.wait()


class PoolMachine(RuleBasedStateMachine):
    @initialize(max_size=st.integers(1, 4), min_size=st.integers(0, 2))
    def make(self, max_size: int, min_size: int) -> None:
        self.driver = ScriptedDriver()
        self.clock = Clock()
        self.max_size = max_size
        options = PoolOptions(min_size=min(min_size, max_size), max_size=max_size, max_idle=60, max_lifetime=10**6)
        self.pool = ConnectionPool(self.driver, options, name="machine", clock=self.clock)
        self.users: list[User] = []  # with a connection
        self.queue: list[User] = []  # waiting, in the order of their arrival
        self.leaving: list[User] = []

    def settle(self) -> None:
        """Wait until the pool has done all it can, and check that it served exactly those who were first."""
        room = max(0, self.max_size - len(self.users))
        served = self.queue[:room]
        for user in served:
            assert user.settled.wait(PATIENCE), f"not served: {self.pool!r}"
            assert user.error is None
        self.users += served
        self.queue = self.queue[len(served) :]
        until(lambda: len(self.pool._waiters) == len(self.queue) and not self.pool._attempts, repr(self.pool))
        for user in self.queue:
            assert not user.settled.is_set(), "served before its turn"

    def depart(self, user: User) -> Conn:
        self.users.remove(user)
        self.leaving.append(user)
        assert user.conn is not None
        return user.conn

    @rule()
    def take(self) -> None:
        known = len(self.pool._waiters)
        user = User(self.pool)
        until(lambda: user.settled.is_set() or len(self.pool._waiters) > known, repr(self.pool))
        self.queue.append(user)
        self.settle()

    @precondition(lambda self: self.users)
    @rule(data=st.data(), fate=st.sampled_from(["fine", "fine", "dead", "dirty", "broken", "discard"]))
    def give(self, data: st.DataObject, fate: str) -> None:
        conn = self.depart(data.draw(st.sampled_from(self.users)))
        conn.alive = fate != "dead"
        conn.clean = {"dirty": False, "broken": RuntimeError("broken")}.get(fate, True)
        if fate == "discard":
            self.pool.discard(conn)
        else:
            self.pool.putconn(conn)
        with pytest.raises(ValueError, match="machine"):
            self.pool.putconn(Conn(-1))
        if id(conn) not in self.pool._busy:  # not lent again to a waiter
            with pytest.raises(ValueError, match="machine"):
                self.pool.putconn(conn)
        self.settle()

    @precondition(lambda self: len(self.users) >= self.max_size)
    @rule()
    def ask_in_vain(self) -> None:
        with pytest.raises(PoolTimeout):
            self.pool.getconn(timeout=0)
        self.settle()

    @rule()
    def server_restarts(self) -> None:
        for conn in self.driver.made:
            conn.alive = False

    @rule(seconds=st.sampled_from([1, 31, 61]))
    def time_passes(self, seconds: int) -> None:
        self.clock.now += seconds
        self.pool._maintain()
        self.settle()

    @rule()
    def drain(self) -> None:
        self.pool.drain()
        self.settle()

    @rule()
    def check(self) -> None:
        self.pool.check()
        self.settle()

    @rule(max_size=st.integers(1, 4))
    def resize(self, max_size: int) -> None:
        self.pool.resize(min(self.pool._min_size, max_size), max_size)
        self.max_size = max_size
        self.settle()

    @rule()
    def close(self) -> None:
        self.pool.close()
        for user in self.queue:
            assert user.settled.wait(PATIENCE)
            assert isinstance(user.error, PoolClosed)
        self.leaving += self.queue
        self.queue = []
        self.settle()

    @invariant()
    def accounts_are_right(self) -> None:
        if not hasattr(self, "pool"):
            return
        conns = [user.conn for user in self.users]
        assert len({id(conn) for conn in conns}) == len(conns), "given twice"
        assert all(conn is not None and not conn.closed for conn in conns), "closed under its user"
        size, idle = len(self.pool._slots), len(self.pool._idle)
        assert size == idle + len(conns), f"lost: {self.pool!r}"
        assert set(self.pool._busy) == {id(conn) for conn in conns}
        assert size + len(self.pool._attempts) <= max(self.max_size, len(conns))
        assert all(conn.closed <= 1 for conn in self.driver.made)
        assert not (self.queue and idle), "idle while somebody waits"

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        self.pool.close()
        for user in self.users:
            self.pool.putconn(user.conn)  # type: ignore[arg-type]
        for user in [*self.users, *self.queue, *self.leaving]:
            user.leave.set()
            user.join(PATIENCE)
        until(lambda: self.driver.open == 0, "all closed")


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
