"""The four schemes under the same load, over HTTP: closed-loop visitors, then an audit of the database.

``python -m demo_site.workload`` needs a database of its own: it puts the demo's tables back to the start before each
measurement. `demo_site.run` makes one. Every scheme is driven WORKLOAD_ROUNDS times for WORKLOAD_SECONDS, in turns, by
WORKLOAD_VISITORS. The exit status is 1 when the pooling scheme lost anything, answered with an error, or was not the
fastest.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal
from pathlib import Path
from types import FrameType

from demo_site import people
from demo_site.client import Visitor
from demo_site.results import Result, Round, table, verdict
from demo_site.schemes import SCHEMES
from demo_site.web import THREADS, WebServer, listen

ROUNDS = 3
SECONDS = 3.0  # per scheme and round
VISITORS = 32
OPENING = Decimal(50_000)
_SAMPLE = 0.05  # seconds between two looks at the server's list of connections


class _ConnectionCount(threading.Thread):
    """Samples how many connections of other sessions use a database; ``most`` is the highest number seen."""

    def __init__(self, database: str) -> None:
        super().__init__(daemon=True)
        self.database = database
        self.most = 0
        self.failure: BaseException | None = None
        self.stopped = threading.Event()

    def run(self) -> None:
        from django.db import connection

        sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = %s"
        try:
            with connection._nodb_cursor() as cursor:  # or whoever else counts would count this one
                while True:
                    cursor.execute(sql, [self.database])
                    self.most = max(self.most, int(cursor.fetchone()[0]))
                    if self.stopped.wait(_SAMPLE):
                        return
        except Exception as error:
            self.failure = error
            raise


def _deadlocks() -> int | None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")  # MariaDB has it, MySQL has not
        row = cursor.fetchone()
    return int(row[1]) if row else None


def drive(visitors: Sequence[Visitor], seconds: float) -> float:
    """Let all visitors act at once for so long; the seconds it took. What one raises is raised here."""
    ready = threading.Barrier(len(visitors) + 1)
    end = 0.0
    failures: list[BaseException] = []

    def visit(visitor: Visitor) -> None:
        try:
            ready.wait()
            while time.perf_counter() < end:
                visitor.act()
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            visitor.leave()

    threads = [threading.Thread(target=visit, args=(visitor,), daemon=True) for visitor in visitors]
    for thread in threads:
        thread.start()
    begin = time.perf_counter()
    end = begin + seconds
    ready.wait()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return time.perf_counter() - begin


def measure(
    scheme: str,
    visitors: Sequence[Visitor],
    seconds: float,
    log: Path,
    *,
    env: Mapping[str, str] = {},
    threads: int = THREADS,
    beside: Callable[[int], AbstractContextManager[object]] = nullcontext,
) -> Round:
    """Reset the data, serve the site by this scheme, drive it, stop it, audit.

    ``beside`` is given the port of the site, and entered for as long as the visitors act.
    """
    from django.db import connection

    from demo_site.boxoffice import audit, demo_data

    demo_data.reset(OPENING)
    before = _deadlocks()
    connection.close()
    with listen() as sock, WebServer(sock, scheme, env={"DEMO_QUIET": "1", **env}, log=log, threads=threads) as web:
        for visitor in visitors:
            visitor.at(web.port)
            visitor.sign_in()
            visitor.forget()
        count = _ConnectionCount(connection.settings_dict["NAME"])
        count.start()
        with beside(web.port):
            took = drive(visitors, seconds)
        count.stopped.set()
        count.join()
        if count.failure:
            raise count.failure
    after = _deadlocks()
    errors: Counter[str] = Counter()
    done: Counter[str] = Counter()
    for visitor in visitors:
        errors.update(visitor.errors)
        done.update(visitor.done)
    result = Round(
        times=tuple(second for visitor in visitors for second in visitor.times),
        seconds=took,
        connections=count.most,
        errors=errors,
        deadlocks=None if before is None or after is None else after - before,
        done=done,
        sold_twice=audit.seats_sold_twice(),
        money_lost=audit.books().money_missing,
        money_astray=audit.money_astray(),
    )
    connection.close()
    return result


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt what the first one stops
    sys.exit(128 + number)


def main() -> int:
    """The exit status: 0, or 1 for a bad result; 130 after Ctrl-C. SIGTERM ends it, and what it started, with 143."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        return run()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def run() -> int:
    os.environ.setdefault("DEMO_SCHEME", "thread")  # this process itself only resets and audits
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_site.settings")
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    from demo_site.boxoffice import demo_data

    call_command("migrate", verbosity=0)
    demo_data.load()
    seconds = float(os.environ.get("WORKLOAD_SECONDS") or SECONDS)
    rounds = int(os.environ.get("WORKLOAD_ROUNDS") or ROUNDS)
    number = int(os.environ.get("WORKLOAD_VISITORS") or VISITORS)
    hot = people.PEOPLE[:6]
    visitors = [Visitor(hot[i % len(hot)], people.PASSWORD, seed=i) for i in range(number)]
    print(
        f"{number} visitors, {len(SCHEMES)} schemes in turns, {rounds} rounds of {seconds:g} s each, over HTTP …",
        flush=True,
    )
    found: dict[str, list[Round]] = {scheme: [] for scheme in SCHEMES}
    for turn in range(rounds):
        for scheme, of_scheme in found.items():
            for i, visitor in enumerate(visitors):
                visitor.random.seed(turn * number + i)  # the same dice for every scheme
            log = settings.RUN_DIR / f"workload-{scheme}.{turn + 1}.log"
            of_scheme.append(measure(scheme, visitors, seconds, log))
            rate = len(of_scheme[-1].times) / of_scheme[-1].seconds
            print(f"  {turn + 1}/{rounds} {SCHEMES[scheme].title}: {rate:.0f} requests/s", flush=True)
    results = [Result(scheme, tuple(of_scheme)) for scheme, of_scheme in found.items()]
    text, good = verdict(results)
    print(f"\n{table(results)}\n\n{text}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
