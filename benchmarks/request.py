"""A request of one query, in the way of Django: ``python -m benchmarks.request``.

Django's signals begin and end it, as they do for every request, and between them one statement is sent. Each kind of
connection has a thread of its own, as in a threaded server. What reaches the server is counted by its general log, so
what a backend sends besides (to see that a connection is alive, to set it up, to clean it) counts as well.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from demo_site.servers import PrivateDatabase, private_database

from . import report, timing

REQUESTS = 1_000
COUNTED = 50
POOLING, KEPT, STOCK, PEER = "pooling", "Django's, kept", "Django's, not kept", "dj_db_conn_pool"
BARS = {KEPT: 1.35, PEER: 0.45, STOCK: 0.15}


def databases(server: PrivateDatabase) -> dict[str, dict[str, Any]]:
    where = {"NAME": "mysql", "HOST": server.host, "PORT": str(server.port), "USER": server.user, "PASSWORD": ""}
    kinds: dict[str, dict[str, Any]] = {
        POOLING: {"ENGINE": "pooling.backends.mysql", "OPTIONS": {"pool": {"max_size": 4}}},
        KEPT: {"ENGINE": "django.db.backends.mysql", "CONN_MAX_AGE": None},
        STOCK: {"ENGINE": "django.db.backends.mysql", "CONN_MAX_AGE": 0},
    }
    if find_spec("dj_db_conn_pool") is not None:
        kinds[PEER] = {"ENGINE": "dj_db_conn_pool.backends.mysql", "POOL_OPTIONS": {"POOL_SIZE": 4, "MAX_OVERFLOW": 0}}
    return {"default": {**where, **kinds[STOCK]}, **{name: {**where, **kind} for name, kind in kinds.items()}}


def requests(alias: str, number: int) -> None:
    from django.core import signals
    from django.db import connections

    for _ in range(number):
        signals.request_started.send(sender=None, environ={})
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchall()
        signals.request_finished.send(sender=None)


class Served(threading.Thread):
    """The thread of one kind of connection: does what it is told, one thing at a time."""

    def __init__(self, alias: str) -> None:
        super().__init__(daemon=True)
        self.alias = alias
        self.number = 0
        self.seconds = 0.0
        self.failure: BaseException | None = None
        self.asked, self.done = threading.Semaphore(0), threading.Semaphore(0)
        self.start()

    def run(self) -> None:
        from django.db import connections

        while self.asked.acquire() and self.number:
            start = time.perf_counter()
            try:
                requests(self.alias, self.number)
            except BaseException as error:  # noqa: BLE001 - raised by who asked
                self.failure = error
            self.seconds = time.perf_counter() - start
            self.done.release()
        connections.close_all()

    def serve(self, number: int) -> float:
        """Seconds for so many requests."""
        self.number = number
        self.asked.release()
        self.done.acquire()
        if self.failure is not None:
            raise self.failure
        return self.seconds

    def end(self) -> None:
        self.number = 0
        self.asked.release()
        self.join()


@contextmanager
def counted(server: PrivateDatabase) -> Iterator[list[str]]:
    """What others than this send to the server meanwhile, each by its kind: Query, Ping, Connect, …"""
    import MySQLdb

    observer = MySQLdb.connect(host=server.host, port=server.port, user=server.user, autocommit=True)
    found: list[str] = []
    try:
        cursor = observer.cursor()
        cursor.execute("SET GLOBAL log_output = 'TABLE'")
        cursor.execute("TRUNCATE mysql.general_log")
        cursor.execute("SET GLOBAL general_log = 1")
        yield found
        cursor.execute("SET GLOBAL general_log = 0")
        cursor.execute("SELECT command_type FROM mysql.general_log WHERE thread_id <> CONNECTION_ID()")
        found += [kind for (kind,) in cursor.fetchall()]
    finally:
        observer.close()


def run(rounds: int) -> report.Table:
    import django
    from django.conf import settings

    about = f"A request of one query, median of {rounds} interleaved rounds of {REQUESTS} requests, one thread."
    table = report.Table(about, ["connection", "µs", "sent to the server per request"])
    table.title = "A request of one query"
    with tempfile.TemporaryDirectory(prefix="pooling-bench-") as folder, private_database(folder) as server:
        settings.configure(DATABASES=databases(server), USE_TZ=True)
        django.setup()
        if find_spec("dj_db_conn_pool") is None:
            table.absent.append("dj_db_conn_pool: not installed")
        served = {name: Served(name) for name in databases(server) if name != "default"}
        times: timing.Rounds = {name: [] for name in served}
        sent: dict[str, float] = {}
        try:
            for name, thread in served.items():
                thread.serve(REQUESTS // 5)
                with counted(server) as found:
                    thread.serve(COUNTED)
                sent[name] = len(found) / COUNTED
            timing.interleaved(
                list(served), rounds, lambda name: times[name].append(served[name].serve(REQUESTS) / REQUESTS * 1e6)
            )
        finally:
            for thread in served.values():
                thread.end()
    table.raw = {"µs": times, "sent": sent}
    table.rows = [[name, f"{statistics.median(times[name]):.1f}", f"{sent[name]:g}"] for name in times]
    table.compare("A request of one query", "µs", times)
    table.bars.append(report.Bar("statements per request", sent[POOLING], 1, unit=""))
    for peer, limit in BARS.items():
        if peer in times:
            factor = timing.beside(times, POOLING, peer)
            # A kept connection is the least that a request can cost, so a bar below it is out of everybody's reach.
            least = "" if peer == KEPT else f"; {KEPT}: {timing.beside(times, KEPT, peer):.2f}x"
            table.bars.append(report.Bar(f"beside {peer}", factor, limit, note=least))
    return table


if __name__ == "__main__":
    report.main(run, 9, __doc__)
