"""The server is killed and comes back: the first good checkout afterwards. ``python -m benchmarks.restart``.

The pool is full of connections that are dead by then. The time runs from the moment at which the server accepts
connections to the first answer of a statement. psycopg_pool cannot be measured here: it speaks to PostgreSQL only.
SQLAlchemy's pool is given ``pool_pre_ping``, without which the first user of each dead connection gets an error.
"""

from __future__ import annotations

import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

from demo_site.servers import PrivateDatabase, private_database

from . import report, timing

STALE = (1, 8, 32)
LIMIT = 50.0  # milliseconds


class Pool(NamedTuple):
    get: Callable[[], Any]
    put: Callable[[Any], object]
    close: Callable[[], object]


def pooling(server: PrivateDatabase, size: int) -> Pool:
    from pooling.backends.mysql.driver import MySQLDriver
    from pooling.pool import ConnectionPool, PoolOptions

    where = {"host": server.host, "port": server.port, "user": server.user, "database": "mysql"}
    driver = MySQLDriver(where, autocommit=True, isolation="read committed")
    pool = ConnectionPool(driver, PoolOptions(max_size=size))
    return Pool(pool.getconn, pool.putconn, pool.close)


def sqlalchemy(server: PrivateDatabase, size: int) -> Pool:
    from sqlalchemy import create_engine

    url = f"mysql+mysqldb://{server.user}@{server.host}:{server.port}/mysql"
    engine = create_engine(url, pool_size=size, max_overflow=0, pool_pre_ping=True)
    return Pool(engine.raw_connection, lambda conn: conn.close(), engine.dispose)


SQLALCHEMY = "SQLAlchemy QueuePool, pre_ping"
KINDS: dict[str, Callable[[PrivateDatabase, int], Pool]] = {
    "pooling": pooling,
    SQLALCHEMY: sqlalchemy,
}


def answers(conn: Any) -> bool:
    cursor = conn.cursor()
    cursor.execute("SELECT 1")
    rows = cursor.fetchall()
    cursor.close()
    return bool(rows == ((1,),))


def once(server: PrivateDatabase, make: Callable[[PrivateDatabase, int], Pool], stale: int) -> float:
    """Milliseconds."""
    pool = make(server, stale)
    lent = [pool.get() for _ in range(stale)]
    assert all(map(answers, lent))
    for conn in lent:
        pool.put(conn)
    lent.clear()
    server.kill(signal.SIGKILL)
    server.start()  # returns when it accepts
    start = time.perf_counter()
    conn = pool.get()
    assert answers(conn)
    seconds = time.perf_counter() - start
    pool.put(conn)
    pool.close()
    return seconds * 1000


def run(rounds: int) -> report.Table:
    about = f"First answer after a restart of the server, ms, longest of {rounds} rounds (median in brackets)."
    table = report.Table(about, ["pool", *(f"{stale} stale" for stale in STALE)])
    table.title = "After a restart of the server"
    kinds = dict(KINDS)
    if find_spec("sqlalchemy") is None:
        del kinds[SQLALCHEMY]
        table.absent.append("SQLAlchemy: not installed")
    with tempfile.TemporaryDirectory(prefix="pooling-bench-") as folder, private_database(folder) as server:
        for stale in STALE:
            found: timing.Rounds = {name: [] for name in kinds}
            for _number in range(rounds):
                for name, make in kinds.items():
                    found[name].append(once(server, make, stale))
            table.raw[str(stale)] = found
            table.compare(
                f"First answer after a restart, stale connections: {stale}", "ms", found, drawn=stale == STALE[-1]
            )
    for name in kinds:
        cells = [table.raw[str(stale)][name] for stale in STALE]
        table.rows.append([name, *(f"{max(cell):.1f} ({statistics.median(cell):.1f})" for cell in cells)])
    worst = max(max(table.raw[str(stale)]["pooling"]) for stale in STALE)
    table.bars.append(report.Bar("longest", worst, LIMIT, unit=" ms"))
    return table


if __name__ == "__main__":
    report.main(run, 3, __doc__)
