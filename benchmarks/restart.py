"""How soon after a restart of the server a checkout is good again: ``python -m benchmarks.restart``.

A pool has idle connections, the MariaDB is stopped and started, and from the moment in which it accepts connections the
time is taken until a checkout and a statement have worked. Either somebody asks all along, every 2 ms; or nobody asked
while the server was away. Beside it SQLAlchemy's QueuePool with ``pre_ping`` on the same server. psycopg_pool speaks to
PostgreSQL only: a run on another server would compare the servers.
"""

from __future__ import annotations

import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import MySQLdb

from demo_site.servers import PrivateMariaDB

from . import peers, report

STALE = (1, 8, 32)
LIMIT = 0.05  # seconds


def pooling(server: PrivateMariaDB, size: int) -> peers.Peer:
    return peers.pooling_on(server, size)._replace(name=peers.POOLING)


def sqlalchemy(server: PrivateMariaDB, size: int) -> peers.Peer:
    from sqlalchemy.dialects.mysql.mysqldb import MySQLDialect_mysqldb
    from sqlalchemy.pool import QueuePool

    def connect() -> Any:
        return MySQLdb.connect(host=server.host, port=server.port, user=server.user, passwd=server.password)

    dialect: Any = MySQLDialect_mysqldb(dbapi=MySQLdb)
    pool = QueuePool(connect, pool_size=size, max_overflow=0, timeout=60, pre_ping=True, dialect=dialect)
    lent = [pool.connect() for _ in range(size)]
    for conn in lent:
        conn.close()
    return peers.Peer(peers.SQLALCHEMY, pool.connect, type(lent[0]).close, pool.dispose)


def works(peer: peers.Peer) -> bool:
    """Do a checkout and a statement work now?"""
    try:
        conn = peer.get()
    except Exception:  # noqa: BLE001 - each pool has its own errors, and all say the same
        return False
    try:
        cursor = conn.cursor()
        cursor.execute("SELECT 1")
        cursor.fetchall()
        cursor.close()
        return True
    except MySQLdb.Error:
        return False
    finally:
        peer.put(conn)


def accepting(server: PrivateMariaDB) -> bool:
    """Does the server greet whoever connects?"""
    try:
        with socket.create_connection((server.host, server.port), timeout=1.0) as link:
            return link.recv(5)[4:5] == b"\x0a"
    except OSError:
        return False


@contextmanager
def restarting(server: PrivateMariaDB) -> Iterator[None]:
    """The server is away when this begins, and comes back meanwhile."""
    server.stop()
    starter = threading.Thread(target=server.start)
    starter.start()
    try:
        yield
    finally:
        starter.join()


def when(condition: Callable[[], bool], pause: float) -> float:
    """The time at which it held."""
    while not condition():
        time.sleep(pause)
    return time.perf_counter()


def once(server: PrivateMariaDB, peer: peers.Peer, all_along: bool) -> float:
    """Seconds from the server's first greeting to the first good checkout."""
    with restarting(server):
        good: list[float] = []
        asker = threading.Thread(target=lambda: good.append(when(lambda: works(peer), 0.002)))
        if all_along:
            asker.start()
        back = when(lambda: accepting(server), 0.001)
        if not all_along:
            asker.start()
        asker.join()
    return max(0.0, good[0] - back)


def run(rounds: int) -> report.Table:
    about = f"First good checkout after the server accepts again, ms, the worst of {rounds} restarts."
    header = ["pool", *(f"{number} stale, {how}" for number in STALE for how in ("asked then", "asked all along"))]
    table = report.Table(about, header)
    with tempfile.TemporaryDirectory(prefix="pooling-bench-") as folder, PrivateMariaDB(folder) as server:
        for make in (pooling, sqlalchemy):
            try:
                _row(table, server, make, rounds)
            except ImportError as error:
                table.absent.append(f"{make.__name__}: {error}")
    worst = max(max(times) for times in table.raw[peers.POOLING].values())
    table.bars.append(report.Bar("the worst of all", worst * 1000, LIMIT * 1000, unit=" ms"))
    for case, times in table.raw[peers.POOLING].items():
        other = table.raw.get(peers.SQLALCHEMY, {}).get(case)
        if other and statistics.median(times) > statistics.median(other) + 0.005:
            table.loses(statistics.median(times) / statistics.median(other), peers.SQLALCHEMY, f"({case})")
    return table


def _row(
    table: report.Table, server: PrivateMariaDB, make: Callable[[PrivateMariaDB, int], peers.Peer], rounds: int
) -> None:
    found: dict[str, list[float]] = {}
    for number in STALE:
        for all_along in (False, True):
            times = found[f"{number} stale, {'asked all along' if all_along else 'asked then'}"] = []
            for _ in range(rounds):
                peer = make(server, number)
                try:
                    times.append(once(server, peer, all_along))
                finally:
                    peer.close()
    table.raw[peer.name] = found
    table.rows.append([peer.name, *(f"{max(times) * 1000:.0f}" for times in found.values())])


if __name__ == "__main__":
    report.main(run, 3, __doc__)
