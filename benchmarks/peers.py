"""The pools that are compared, over connections to nothing: so only the pools' own work is measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from demo_site.servers import PrivateDatabase
from pooling.pool import ConnectionPool, Failure, PoolOptions

POOLING = "pooling"
REAL = "pooling, MariaDB connections"
PSYCOPG = "psycopg_pool"
SQLALCHEMY = "SQLAlchemy QueuePool"


class Peer(NamedTuple):
    """One pool. ``put(get())`` is a use; both are the pool's own functions, with nothing of ours around them."""

    name: str
    get: Callable[[], Any]
    put: Callable[[Any], object]
    close: Callable[[], None]


class Connection:
    """A connection to nothing. The attributes are those that the peers look at. ``delay``: seconds to connect."""

    autocommit = True
    closed = False
    delay = 0.0

    class pgconn:
        transaction_status: Any = None

    @classmethod
    def connect(cls, *args: Any, **kwargs: Any) -> Connection:
        if cls.delay:
            time.sleep(cls.delay)
        return cls()

    def close(self) -> None:
        self.closed = True


class Driver:
    """The least that `ConnectionPool` asks of a driver."""

    errors: tuple[type[BaseException], ...] = (OSError,)

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect

    def connect(self, timeout: float) -> Connection:
        return self._connect()

    def close(self, conn: Connection) -> None:
        conn.close()

    def alive(self, conn: Connection) -> bool:
        return not conn.closed

    def fileno(self, conn: Connection) -> int:
        return -1

    def ping(self, conn: Connection) -> bool:
        return True

    def reset(self, conn: Connection) -> bool:
        return True

    def abandon(self, conn: Connection) -> None:
        conn.closed = True

    def classify(self, error: BaseException) -> Failure:
        return Failure.OTHER


def pooling(size: int, kind: type[Connection] = Connection, least: int | None = None) -> Peer:
    options = {"min_size": size if least is None else least, "max_size": size, "timeout": 60}
    pool = ConnectionPool(Driver(kind.connect), PoolOptions.parse(options))
    pool.wait(30.0)
    return Peer(POOLING, pool.getconn, pool.putconn, pool.close)


def pooling_on(server: PrivateDatabase, size: int) -> Peer:
    """Ours with all that the MySQL driver does at a checkout and a return."""
    from pooling.backends.mysql.driver import MySQLDriver

    where = {"host": server.host, "port": server.port, "user": server.user, "password": server.password}
    driver = MySQLDriver({**where, "database": "mysql"}, autocommit=True, isolation="read committed")
    pool = ConnectionPool(driver, PoolOptions.parse({"min_size": size, "max_size": size, "timeout": 60}))
    pool.wait(30.0)
    return Peer(REAL, pool.getconn, pool.putconn, pool.close)


def psycopg(size: int, kind: type[Connection] = Connection, least: int | None = None) -> Peer:
    import psycopg_pool
    from psycopg.pq import TransactionStatus  # type: ignore[import-not-found, unused-ignore]

    class Idle(kind):  # type: ignore[misc, valid-type]
        class pgconn:
            transaction_status = TransactionStatus.IDLE

    idle: Any = Idle
    least = size if least is None else least
    pool = psycopg_pool.ConnectionPool(connection_class=idle, min_size=least, max_size=size, timeout=60, open=True)
    pool.wait()
    return Peer(PSYCOPG, pool.getconn, pool.putconn, pool.close)


def sqlalchemy(size: int, kind: type[Connection] = Connection, least: int | None = None) -> Peer:
    from sqlalchemy.pool import QueuePool

    creator: Any = kind.connect
    pool = QueuePool(creator, pool_size=size, max_overflow=0, timeout=60, reset_on_return=None)
    lent = [pool.connect() for _ in range(size if least is None else least)]
    put = _give_back if not lent else type(lent[0]).close
    for conn in lent:
        conn.close()
    return Peer(SQLALCHEMY, pool.connect, put, pool.dispose)


def _give_back(conn: Any) -> None:
    conn.close()


Maker = Callable[[int], Peer]
ALL: tuple[Maker, ...] = (pooling, psycopg, sqlalchemy)


def made(makers: tuple[Maker, ...], size: int) -> tuple[list[Peer], list[str]]:
    """A pool of each kind, and a word on those that are not installed."""
    found, absent = [], []
    for make in makers:
        try:
            found.append(make(size))
        except ImportError as error:
            if make is pooling:
                raise
            absent.append(f"{make.__name__}: {error}")
    return found, absent
