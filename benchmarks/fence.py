"""What a fence adds to a write transaction: ``python -m benchmarks.fence``.

The same ``with locked(writes=[…])`` around one UPDATE, of a row for each group, once with ``fence=True`` and once with
``fence=False``; a private Redis and a private database on loopback, one thread. Rounds are interleaved. The database
does not wait for the disk at a COMMIT, as one in production does: there the transaction takes longer, and the fence is
a smaller part of it.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from demo_site.servers import PrivateDatabase, PrivateRedis, private_database

from . import report, timing

TRANSACTIONS = 100  # of one case in a round
BUDGET = 10.0  # seconds; a busy machine must not break off a measurement
FIVE = range(1, 6)
CASES = {
    "1 group": ["stock1"],
    "5 groups": [f"stock{number}" for number in FIVE],
    "1 group of two levels": ["accounts/1"],
    "5 groups of two levels": [f"accounts/{number}" for number in FIVE],
}
BARS = {"1 group": 25, "5 groups": 30}  # %
FENCED, PLAIN = "fenced", "not fenced"


def configure(redis: PrivateRedis, database: PrivateDatabase) -> None:
    """A Django on these servers, with the table of the fences and one with rows to write. Once in a process."""
    import django
    import MySQLdb
    from django.conf import settings

    with MySQLdb.connect(host=database.host, port=database.port, user=database.user, autocommit=True) as admin:
        admin.cursor().execute("CREATE DATABASE bench CHARACTER SET utf8mb4")
    where = {"NAME": "bench", "HOST": database.host, "PORT": str(database.port), "USER": database.user}
    settings.configure(
        DATABASES={"default": {"ENGINE": "pooling.backends.mysql", **where, "OPTIONS": {"pool": True}}},
        CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis.url}},
        POOLING={"STORE_BUDGET": BUDGET},
        INSTALLED_APPS=["pooling"],
        USE_TZ=True,
    )
    django.setup()
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL)")
        cursor.executemany("INSERT INTO account VALUES (%s, 0)", [(number,) for number in FIVE])


def written(groups: list[str], fence: bool, transactions: int) -> float:
    """µs of one transaction. RuntimeError if they did not write what they should."""
    from django.db import connection

    from pooling import locked

    rows = list(FIVE)[: len(groups)]
    sql = f"UPDATE account SET balance = balance + 1 WHERE id IN ({', '.join(['%s'] * len(rows))})"
    start = time.perf_counter()
    for _ in range(transactions):
        with locked(writes=groups, fence=fence), connection.cursor() as cursor:
            cursor.execute(sql, rows)
            if cursor.rowcount != len(rows):
                raise RuntimeError(f"{cursor.rowcount} rows were written, not {len(rows)}.")
    return (time.perf_counter() - start) / transactions * 1e6


def claims() -> int:
    """How many of the groups' rows bear a token: every fenced group's, and no other."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM pooling_fence WHERE token > 0")
        return int(cursor.fetchone()[0])


def run(rounds: int) -> report.Table:
    about = (
        f"A transaction of one UPDATE under `locked`, median of {rounds} interleaved rounds of {TRANSACTIONS} "
        f"transactions, one thread; a row for each group."
    )
    table = report.Table(about, ["groups", "not fenced, µs", "fenced, µs", "the fence adds"], title="Fences")
    times: timing.Rounds = {f"{name}, {kind}": [] for name in CASES for kind in (PLAIN, FENCED)}
    with tempfile.TemporaryDirectory(prefix="pooling-bench-") as folder:
        redis = PrivateRedis(Path(folder) / "redis")
        with redis, private_database(folder) as database:
            configure(redis, database)

            def once(name: str, transactions: int = TRANSACTIONS) -> float:
                case, kind = name.rsplit(", ", 1)
                return written(CASES[case], kind == FENCED, transactions)

            # Before it counts: is it fenced where it shall be, and only there?
            for kind, expected in ((PLAIN, 0), (FENCED, 2 * len(FIVE))):
                for case in CASES:
                    once(f"{case}, {kind}", TRANSACTIONS // 10)
                if claims() != expected:
                    raise RuntimeError(f"{claims()} groups have been claimed by transactions {kind}, not {expected}.")
            timing.interleaved(list(times), rounds, lambda name: times[name].append(once(name)))
            close()
    table.raw = {"µs": times}
    for name in CASES:
        plain, fenced = f"{name}, {PLAIN}", f"{name}, {FENCED}"
        added = (timing.beside(times, fenced, plain) - 1) * 100
        medians = [f"{statistics.median(times[one]):.0f}" for one in (plain, fenced)]
        table.rows.append([name, *medians, f"{added:.0f} %"])
        if name in BARS:
            table.bars.append(report.Bar(f"a fence adds, {name}", added, BARS[name], unit=" %"))
    return table


def close() -> None:
    from django.db import connection

    from pooling.runtime import reset_runtime

    pool: Any = connection
    pool.close()
    pool.close_pool()
    reset_runtime()


if __name__ == "__main__":
    report.main(run, 31, __doc__)
