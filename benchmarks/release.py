"""What ``release="transaction"`` is worth: ``python -m benchmarks.release``.

Many threads on few connections; each request is a query, a wait for something that is not the database, and another
query. Under ``release="request"`` the connection is held during the wait, so the connections bound the throughput;
under ``release="transaction"`` the threads do. Both ways run on one private MariaDB, in interleaved rounds, since a
machine's speed drifts; the table shows medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from typing import Any, NamedTuple

import django
from django.conf import settings
from django.db import connections

from demo_site.servers import PrivateDatabase, private_database

RELEASES = ("request", "transaction")


class Load(NamedTuple):
    """``elsewhere`` is in seconds, ``requests`` are those of one thread in one round."""

    threads: int = 64
    connections: int = 8
    elsewhere: float = 0.05
    requests: int = 10


class Round(NamedTuple):
    """Requests per second of all threads together, and how long each request took, in seconds."""

    rate: float
    took: list[float]


def configure(server: PrivateDatabase, load: Load) -> None:
    """A Django with one database alias for each way of releasing, both on ``server``. Once in a process."""
    common = {
        "ENGINE": "pooling.backends.mysql",
        "NAME": "mysql",
        "HOST": server.host,
        "PORT": str(server.port),
        "USER": server.user,
        "PASSWORD": server.password,
    }
    pool = {"min_size": load.connections, "max_size": load.connections, "timeout": 60}
    aliases = {name: {**common, "OPTIONS": {"pool": {**pool, "release": name}}} for name in RELEASES}
    settings.configure(DATABASES={"default": aliases["request"], **aliases}, USE_TZ=True)
    django.setup()


def request(alias: str, elsewhere: float) -> None:
    connection = connections[alias]
    for pause in (elsewhere, 0.0):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchall()
        if pause:
            time.sleep(pause)
    connection.close()


def run(alias: str, load: Load) -> Round:
    """One round. Raises what a request raised."""
    barrier = threading.Barrier(load.threads + 1)
    took: list[float] = []
    failures: list[BaseException] = []

    def work() -> None:
        barrier.wait()
        try:
            for _ in range(load.requests):
                begin = time.perf_counter()
                request(alias, load.elsewhere)
                took.append(time.perf_counter() - begin)
        except BaseException as error:  # noqa: BLE001 - raised in the main thread
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(load.threads)]
    for thread in threads:
        thread.start()
    barrier.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    if failures:
        raise failures[0]
    return Round(len(took) / seconds, took)


def measure(load: Load, rounds: int) -> dict[str, list[Round]]:
    """Rounds of each way, interleaved, after one that does not count. Starts and stops a server of its own."""
    found: dict[str, list[Round]] = {name: [] for name in RELEASES}
    with tempfile.TemporaryDirectory(prefix="pooling-bench-") as folder, private_database(folder) as server:
        configure(server, load)
        for number in range(rounds + 1):
            for name in RELEASES:
                once = run(name, load._replace(requests=1) if number == 0 else load)
                if number:
                    found[name].append(once)
        for name in RELEASES:
            pool: Any = connections[name]
            pool.close_pool()
    return found


def table(found: dict[str, list[Round]], load: Load) -> str:
    """Markdown."""
    lines = [
        f"{load.threads} threads, {load.connections} connections, each request a query, {load.elsewhere * 1000:g} ms "
        f"elsewhere and a query; medians of {len(found['request'])} interleaved rounds.",
        "",
        "| `release` | requests/s | p50 ms | p99 ms | times `request` |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    base = statistics.median(once.rate for once in found["request"])
    for name, rounds in found.items():
        rate = statistics.median(once.rate for once in rounds)
        cuts = [statistics.quantiles(once.took, n=100) for once in rounds]
        p50, p99 = (statistics.median(cut[at] for cut in cuts) * 1000 for at in (49, 98))
        lines.append(f"| {name} | {rate:.0f} | {p50:.1f} | {p99:.1f} | {rate / base:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.release", description=__doc__)
    parser.add_argument("--threads", type=int, default=Load().threads)
    parser.add_argument("--connections", type=int, default=Load().connections)
    parser.add_argument("--elsewhere", type=float, default=Load().elsewhere, help="seconds (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=Load().requests, help="of each thread in one round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    load = Load(options.threads, options.connections, options.elsewhere, options.requests)
    print(table(measure(load, options.rounds), load))


if __name__ == "__main__":
    main()
