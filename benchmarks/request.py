"""What a connection costs a request of one query: ``python -m benchmarks.request``.

Each way of connecting runs in a process of its own, on one private MariaDB. A request is Django's ``request_started``,
``SELECT 1`` through a cursor of Django's, and ``request_finished``, when Django gives the connection back or closes it;
or the same through the whole of a WSGI handler with one view and no middleware. The query is the cheapest there is, so
that what connecting costs shows. Statements and new sessions are counted by the server.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from demo_site.servers import PrivateMariaDB

from . import report, timing

POOLING, KEPT, DJ, STOCK = "pooling", "Django, kept for good", "dj_db_conn_pool", "Django, a new one each time"
USES = 400
NAME = "bench"
PATH = "/one/"


class Way(NamedTuple):
    engine: str
    settings: dict[str, Any]


WAYS = {
    POOLING: Way("pooling.backends.mysql", {"OPTIONS": {"pool": True}}),
    KEPT: Way("django.db.backends.mysql", {"CONN_MAX_AGE": None}),
    DJ: Way("dj_db_conn_pool.backends.mysql", {}),
    STOCK: Way("django.db.backends.mysql", {}),
}
BARS = {KEPT: 1.35, DJ: 0.45, STOCK: 0.15}
urlpatterns: list[Any] = []


def _requests() -> dict[str, Callable[[], None]]:
    """The kinds of requests, in a process in which Django is set up."""
    from django.core.handlers.wsgi import WSGIHandler
    from django.core.signals import request_finished, request_started
    from django.db import connection
    from django.http import HttpResponse
    from django.test import RequestFactory
    from django.urls import path

    def ask() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            (one,) = cursor.fetchone()
        return str(one)

    def view(request: Any) -> HttpResponse:
        return HttpResponse(ask())

    urlpatterns.append(path(PATH.lstrip("/"), view))
    handler = WSGIHandler()
    environ = RequestFactory().get(PATH).environ

    def alone() -> None:
        request_started.send(None)
        ask()
        request_finished.send(None)

    def handled() -> None:
        response = handler(dict(environ), lambda *args: lambda data: None)
        assert response.status_code == 200
        response.close()

    return {"query": alone, "handler": handled}


def worker(way: Way, server: dict[str, Any], pipe: Connection) -> None:
    """Serve (kind, uses) -> seconds until None comes. The first answer is whether the engine is there."""
    import django
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured

    database = {"ENGINE": way.engine, "NAME": NAME, **server, **way.settings}
    settings.configure(
        DATABASES={"default": database}, ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", USE_TZ=True
    )
    try:
        django.setup()
        from django.db import connection

        connection.ensure_connection()
    except (ImportError, ImproperlyConfigured) as error:
        pipe.send(str(error))
        return
    pipe.send(None)
    requests = _requests()
    while (task := pipe.recv()) is not None:
        kind, uses = task
        use = requests[kind]
        start = time.perf_counter()
        for _ in range(uses):
            use()
        pipe.send(time.perf_counter() - start)


class Workers:
    """A process for each way of connecting."""

    def __init__(self, server: PrivateMariaDB) -> None:
        context = multiprocessing.get_context("spawn")
        where = {"HOST": server.host, "PORT": str(server.port), "USER": server.user, "PASSWORD": server.password}
        self.absent: list[str] = []
        self._pipes: dict[str, Connection] = {}
        self._processes = []
        for name, way in WAYS.items():
            ours, theirs = context.Pipe()
            process = context.Process(target=worker, args=(way, where, theirs), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            if why := ours.recv():
                self.absent.append(f"{name}: {why}")
            else:
                self._pipes[name] = ours

    @property
    def names(self) -> list[str]:
        return list(self._pipes)

    def seconds(self, name: str, kind: str, uses: int) -> float:
        self._pipes[name].send((kind, uses))
        return float(self._pipes[name].recv())

    def stop(self) -> None:
        for pipe in self._pipes.values():
            pipe.send(None)
        for process in self._processes:
            process.join(30)


def _observer(server: PrivateMariaDB) -> Any:
    import MySQLdb

    observer = MySQLdb.connect(host=server.host, port=server.port, user=server.user, passwd=server.password)
    observer.autocommit(True)
    return observer


def _ask(observer: Any, sql: str) -> list[tuple[Any, ...]]:
    with observer.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def _counted(observer: Any, workers: Workers, name: str) -> tuple[float, float]:
    """Statements and new sessions per request, out of the server's own log. A ping counts as a statement: it is a
    round trip too."""
    requests = 10
    workers.seconds(name, "query", 1)
    _ask(observer, "TRUNCATE mysql.general_log")
    _ask(observer, "SET GLOBAL general_log = ON")
    workers.seconds(name, "query", requests)
    _ask(observer, "SET GLOBAL general_log = OFF")
    mine = _ask(observer, "SELECT CONNECTION_ID()")[0][0]
    logged = _ask(observer, f"SELECT command_type FROM mysql.general_log WHERE thread_id <> {mine}")
    kinds = [str(kind) for (kind,) in logged]
    sessions = kinds.count("Connect")
    return (len(kinds) - sessions - kinds.count("Quit")) / requests, sessions / requests


def run(rounds: int) -> report.Table:
    about = f"A request of one query, medians of {rounds} interleaved rounds of {USES} requests."
    header = ["connection", "statements", "new sessions", "query alone, µs", "through a WSGI handler, µs"]
    table = report.Table(about, header)
    with tempfile.TemporaryDirectory(prefix="pooling-bench-") as folder:
        with PrivateMariaDB(folder, options=["--log-output=TABLE"]) as server:
            observer = _observer(server)
            _ask(observer, f"CREATE DATABASE {NAME}")
            workers = Workers(server)
            try:
                _fill(table, workers, observer, rounds)
            finally:
                workers.stop()
    return table


def _fill(table: report.Table, workers: Workers, observer: Any, rounds: int) -> None:
    table.absent = workers.absent
    counts = {name: _counted(observer, workers, name) for name in workers.names}
    times: dict[str, timing.Rounds] = {}
    for kind in ("query", "handler"):
        found: timing.Rounds = {name: [] for name in workers.names}
        for name in found:
            workers.seconds(name, kind, USES)

        def once(name: str, kind: str = kind, found: timing.Rounds = found) -> None:
            found[name].append(workers.seconds(name, kind, USES) / USES * 1e6)

        timing.interleaved(list(found), rounds, once)
        times[kind] = found
    table.raw = {"counts": counts, **times}
    for name, (statements, sessions) in counts.items():
        medians = (statistics.median(times[kind][name]) for kind in times)
        table.rows.append([name, f"{statements:g}", f"{sessions:g}", *(f"{median:.0f}" for median in medians)])
    table.bars.append(report.Bar("statements of a request", counts[POOLING][0], 1, unit=""))
    for peer, limit in BARS.items():
        if peer in counts:
            factor = timing.beside(times["query"], POOLING, peer)
            least = "" if peer == KEPT else f"; “{KEPT}” {timing.beside(times['query'], KEPT, peer):.2f}x"
            table.bars.append(report.Bar(f"time beside “{peer}”", factor, limit, note=least))
            table.loses(factor, f"“{peer}”", "in the time of a query alone")


if __name__ == "__main__":
    report.main(run, 9, __doc__)
