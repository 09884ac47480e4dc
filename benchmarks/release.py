"""What ``release="transaction"`` is worth: ``python -m benchmarks.release``.

Many threads on few connections; each request is a query, a wait for something that is not the database, and another
query. Under ``release="request"`` the connection is held during the wait, so the connections bound the throughput;
under ``release="transaction"`` the threads do. Both ways run on one private server, in interleaved rounds, since a
machine's speed drifts; the table shows medians.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from typing import Any

from demo_site.servers import PrivateDatabase, private_database

from . import report, timing

RELEASES = ("request", "transaction")
THREADS, CONNECTIONS = 64, 8
REQUESTS = 10  # of one thread in a round
ELSEWHERE = 0.05  # seconds
LIMIT = 6.0


def configure(server: PrivateDatabase) -> None:
    """A Django with one database alias for each way of releasing, both on ``server``. Once in a process."""
    import django
    from django.conf import settings

    where = {"HOST": server.host, "PORT": str(server.port), "USER": server.user, "PASSWORD": server.password}
    common = {"ENGINE": "pooling.backends.mysql", "NAME": "mysql", **where}
    pool = {"min_size": CONNECTIONS, "max_size": CONNECTIONS, "timeout": 60}
    aliases = {name: {**common, "OPTIONS": {"pool": {**pool, "release": name}}} for name in RELEASES}
    settings.configure(DATABASES={"default": aliases["request"], **aliases}, USE_TZ=True)
    django.setup()


def request(alias: str) -> None:
    from django.db import connections

    connection = connections[alias]
    for pause in (ELSEWHERE, 0.0):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchall()
        if pause:
            time.sleep(pause)
    connection.close()


def once(alias: str, requests: int) -> tuple[float, list[float]]:
    """Requests per second of all threads together, and how many ms each took."""
    took: list[float] = []

    def work() -> None:
        for _ in range(requests):
            begin = time.perf_counter()
            request(alias)
            took.append((time.perf_counter() - begin) * 1000)

    return THREADS * requests / timing.together(work, THREADS), took


def run(rounds: int) -> report.Table:
    from django.db import connections

    about = (
        f"{THREADS} threads, {CONNECTIONS} connections, each request a query, {ELSEWHERE * 1000:g} ms elsewhere and a "
        f"query; medians of {rounds} interleaved rounds."
    )
    table = report.Table(about, ["`release`", "requests/s", "p50 ms", "p99 ms", "times `request`"])
    table.title = "Many threads on few connections"
    found: dict[str, timing.Rounds] = {kind: {name: [] for name in RELEASES} for kind in ("rates", "p50", "p99")}

    def turn(name: str) -> None:
        rate, took = once(name, REQUESTS)
        cuts = statistics.quantiles(took, n=100)
        for kind, value in (("rates", rate), ("p50", cuts[49]), ("p99", cuts[98])):
            found[kind][name].append(value)

    with tempfile.TemporaryDirectory(prefix="pooling-bench-") as folder, private_database(folder) as server:
        configure(server)
        for name in RELEASES:
            once(name, 1)
        timing.interleaved(RELEASES, rounds, turn)
        for name in RELEASES:
            pool: Any = connections[name]
            pool.close_pool()
    table.raw = dict(found)
    rates = found["rates"]
    for name in RELEASES:
        rate, p50, p99 = (statistics.median(each[name]) for each in found.values())
        times = timing.beside(rates, name, "request")
        table.rows.append([name, f"{rate:.0f}", f"{p50:.1f}", f"{p99:.1f}", f"{times:.1f}"])
    table.bars.append(
        report.Bar("requests/s beside `request`", timing.beside(rates, "transaction", "request"), LIMIT, least=True)
    )
    ours = {f'{report.OURS}, release="{name}"': each for name, each in rates.items()}
    table.compare(f"Requests of {THREADS} threads", "a second", ours, most=True)
    return table


if __name__ == "__main__":
    report.main(run, 5, __doc__)
