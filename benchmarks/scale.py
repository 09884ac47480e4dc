"""What one Redis and one database bear: ``python -m benchmarks.scale``.

A private Redis and a private database are each loaded by 1, 2, 4 and 8 processes, which do one thing again and again,
each with a group, a row or a page of its own, so that nobody waits for anybody. Printed is what all of them did in a
second, and what of the server's own CPU one of these things took. The inverse of that is what one core of the server
bears when the clients are elsewhere; the first figure is less where they share the cores. Redis runs scripts on one
core; a database uses as many as there are.

The database writes each COMMIT to the disk, as one in production does, so its writes depend on the disk.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from demo_site.servers import PrivateDatabase, PrivateRedis, PrivateServer, private_database

from . import report

CLIENTS = (1, 2, 4, 8)
SECONDS = 1.0  # of one measurement
BUDGET = 10.0  # seconds; a busy machine must not break off a measurement
LASTING = ["--innodb-flush-log-at-trx-commit=1", "--innodb-flush-method=fsync"]
OWNER = {"view": "shop.views.buy", "label": "", "host": "web1", "pid": "4711", "thread": "MainThread"}
PAGE = b"x" * 8192

# Made by a process for itself: what it then does again and again.
Work = Callable[[int], Callable[[], object]]


class Found(NamedTuple):
    """``rate``: operations a second, of all clients. ``cpu``: µs of the server's CPU for one."""

    rate: float
    cpu: float


def cpu_of(server: PrivateServer) -> float:
    """Seconds of CPU that the server's process has used."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _client(make: Work, number: int, seconds: float, pipe: Any) -> None:
    use = make(number)
    for _ in range(20):
        use()  # scripts are loaded, statements and rows known
    pipe.send("ready")
    pipe.recv()
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        use()
        count += 1
    pipe.send(count)
    pipe.recv()  # its connections end only when the server's CPU has been read


def measure(server: PrivateServer, make: Work, clients: int, seconds: float) -> Found:
    """Load ``server`` from so many processes. RuntimeError if one of them failed."""
    context = multiprocessing.get_context("fork")
    started = []
    for number in range(clients):
        here, there = context.Pipe()
        process = context.Process(target=_client, args=(make, number, seconds, there))
        process.start()
        there.close()
        started.append((process, here))

    def hear(pipe: Any) -> Any:
        try:
            return pipe.recv()
        except EOFError:
            raise RuntimeError("A client failed; what it raised stands above.") from None

    try:
        for _, pipe in started:
            hear(pipe)
        before, begin = cpu_of(server), time.monotonic()
        for _, pipe in started:
            pipe.send("go")
        done = sum(hear(pipe) for _, pipe in started)
        took, used = time.monotonic() - begin, cpu_of(server) - before
        for _, pipe in started:
            pipe.send("end")
    finally:
        for process, pipe in started:
            pipe.close()
            process.join(10.0)
            if process.is_alive():
                process.terminate()
    return Found(done / took, used / done * 1e6)


# -- Redis


def redis_works(server: PrivateRedis) -> dict[str, Work]:
    import redis

    from pooling.groups import plan, write_epochs
    from pooling.store._driver import RedisDriver
    from pooling.store.protocol import LockRequest
    from pooling.store.redis import RedisStore

    def store() -> RedisStore:
        return RedisStore(RedisDriver(redis.Redis.from_url(server.url)), budget=BUDGET)

    def locking(groups: int) -> Work:
        def make(number: int) -> Callable[[], object]:
            mine, count = store(), iter(range(sys.maxsize))
            names = [f"events/{number}-{one}" for one in range(groups)]
            wants, renews = plan([], names, {}).wants, write_epochs(names)

            def use() -> None:
                ticket = f"bench.{number}.{next(count)}"
                if mine.acquire(LockRequest(ticket, wants, 30.0, 60.0, renews=renews, owner=OWNER)) is None:
                    raise RuntimeError("A group of one's own was not granted at once.")
                mine.release(ticket, renews)

            return use

        return make

    def hitting(number: int) -> Callable[[], object]:
        mine = store()
        names = ("U:events/1", "D:events")
        key = f"page{number}"
        mine.put(key, PAGE, 3600.0, names, mine.epochs(names))

        def use() -> None:
            if mine.fetch(key, names).entry is None:
                raise RuntimeError("A page was not there.")

        return use

    return {
        "lock and unlock one group to write": locking(1),
        "lock and unlock five groups to write": locking(5),
        "a page of 8 KiB from the cache": hitting,
    }


# -- the database


def configure(server: PrivateDatabase) -> None:
    """A Django on the server, with a table of accounts and that of the fences. Leaves no connection open."""
    import django
    import MySQLdb
    from django.conf import settings

    with MySQLdb.connect(host=server.host, port=server.port, user=server.user, autocommit=True) as admin:
        admin.cursor().execute("CREATE DATABASE bench CHARACTER SET utf8mb4")
    where = {"NAME": "bench", "HOST": server.host, "PORT": str(server.port), "USER": server.user}
    default = {"ENGINE": "pooling.backends.mysql", **where, "OPTIONS": {"pool": {"max_size": 1, "timeout": 60}}}
    settings.configure(DATABASES={"default": default}, INSTALLED_APPS=["pooling"], USE_TZ=True)
    django.setup()
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL)")
        cursor.executemany("INSERT INTO account VALUES (%s, 0)", [(number,) for number in range(1000)])
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]


def _read(number: int) -> Callable[[], object]:
    from django.db import connection

    def use() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT balance FROM account WHERE id = %s", [number])
            cursor.fetchall()
        connection.close()

    return use


def _written(fenced: bool) -> Work:
    def make(number: int) -> Callable[[], object]:
        from django.db import connection, transaction

        from pooling import fences

        group = f"accounts/{number}"
        fences.prepare("default", [], [group])

        def use() -> None:
            with transaction.atomic():
                if fenced:
                    fences.claim("default", [], [group], time.time_ns() // 1000)
                with connection.cursor() as cursor:
                    cursor.execute("UPDATE account SET balance = balance + 1 WHERE id = %s", [number])
            connection.close()

        return use

    return make


DATABASE_WORKS: dict[str, Work] = {
    "a request of one query": _read,
    "a transaction that writes one row": _written(False),
    "the same with a fence": _written(True),
}


# -- all of it


def table(about: str, server: PrivateServer, works: dict[str, Work], rounds: int, seconds: float) -> report.Table:
    """A line for each work, with the medians of interleaved rounds."""
    found: dict[tuple[str, int], list[Found]] = {}
    for _ in range(rounds):
        for name, make in works.items():
            for clients in CLIENTS:
                found.setdefault((name, clients), []).append(measure(server, make, clients, seconds))
    head = ["", "1 client", *(f"{clients} clients" for clients in CLIENTS[1:])]
    made = report.Table(about, [*head, "CPU of the server, µs", "one core bears"], title=f"One {server.label}")
    for name in works:
        rates = [statistics.median(one.rate for one in found[name, clients]) for clients in CLIENTS]
        # Under load: a server that is seldom asked spends more on waking up than on the work.
        cpu = statistics.median(one.cpu for one in found[name, CLIENTS[-1]])
        # The kernel counts in hundredths of a second: in a very short run there may be none.
        last = [f"{cpu:.0f}", f"{1e6 / cpu:,.0f}"] if cpu else ["too short", "too short"]
        made.rows.append([name, *(f"{rate:,.0f}" for rate in rates), *last])
        made.raw[name] = {str(clients): [one._asdict() for one in found[name, clients]] for clients in CLIENTS}
    return made


@contextmanager
def servers() -> Iterator[tuple[PrivateRedis, PrivateDatabase]]:
    with tempfile.TemporaryDirectory(prefix="pooling-bench-") as folder:
        redis = PrivateRedis(Path(folder) / "redis")
        with redis, private_database(folder, options=LASTING) as database:
            yield redis, database


def run(rounds: int) -> list[report.Table]:
    with servers() as (redis, database):
        configure(database)
        said = f"a second, medians of {rounds} rounds"
        durably = "each COMMIT is on the disk before it is answered"
        return [
            table(f"One Redis, {said}:", redis, redis_works(redis), rounds, SECONDS),
            table(f"One {database.label}, {said}; {durably}:", database, DATABASE_WORKS, rounds, SECONDS),
        ]


if __name__ == "__main__":
    report.main(run, 3, __doc__)
