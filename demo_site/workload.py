"""The four schemes under the same load, over HTTP: closed-loop visitors, then an audit of the database.

``python -m demo_site.workload`` needs a database of its own: it puts the demo's tables back to the start before each
scheme. `demo_site.run` makes one. WORKLOAD_SECONDS and WORKLOAD_VISITORS change its size. The exit status is 1 when
the pooling scheme lost anything, answered with an error, or was not the fastest.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import FrameType

from demo_site import people
from demo_site.client import Visitor
from demo_site.schemes import SCHEMES
from demo_site.web import WebServer, listen

SECONDS = 8.0  # per scheme
VISITORS = 32
OPENING = Decimal(50_000)
_SAMPLE = 0.05  # seconds between two looks at the server's list of connections


@dataclass(frozen=True)
class Result:
    """What one scheme did. ``p50`` and ``p99`` are seconds; money is what the accounts are off by, summed."""

    scheme: str
    requests: int
    seconds: float
    p50: float
    p99: float
    connections: int
    errors: dict[str, int]
    deadlocks: int | None
    done: dict[str, int]
    sold_twice: int
    money_lost: Decimal
    money_astray: Decimal

    @property
    def rate(self) -> float:
        return self.requests / self.seconds

    @property
    def clean(self) -> bool:
        return not (
            self.errors or self.sold_twice or self.money_lost or self.money_astray or self.done.get("wrong reports")
        )


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

        sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = %s AND id <> CONNECTION_ID()"
        try:
            while True:
                with connection.cursor() as cursor:
                    cursor.execute(sql, [self.database])
                    self.most = max(self.most, int(cursor.fetchone()[0]))
                if self.stopped.wait(_SAMPLE):
                    return
        except Exception as error:
            self.failure = error
            raise
        finally:
            connection.close()


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


def measure(scheme: str, visitors: Sequence[Visitor], seconds: float, log: Path) -> Result:
    """Reset the data, serve the site by this scheme, drive it, stop it, audit."""
    from django.db import connection

    from demo_site.boxoffice import audit, demo_data

    demo_data.reset(OPENING)
    before = _deadlocks()
    connection.close()
    with listen() as sock, WebServer(sock, scheme, env={"DEMO_QUIET": "1"}, log=log) as web:
        for visitor in visitors:
            visitor.at(web.port)
            visitor.sign_in()
            visitor.forget()
        count = _ConnectionCount(connection.settings_dict["NAME"])
        count.start()
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
    times = sorted(second for visitor in visitors for second in visitor.times)
    result = Result(
        scheme=scheme,
        requests=len(times),
        seconds=took,
        p50=times[len(times) // 2],
        p99=times[len(times) * 99 // 100],
        connections=count.most,
        errors=dict(errors),
        deadlocks=None if before is None or after is None else after - before,
        done=dict(done),
        sold_twice=audit.seats_sold_twice(),
        money_lost=audit.books().money_missing,
        money_astray=audit.money_astray(),
    )
    connection.close()
    return result


_HEADS = "Scheme|req/s|p50 ms|p99 ms|connections|booked|transfers|errors|deadlocks|sold twice|money lost|wrong reports"


def table(results: Sequence[Result]) -> str:
    """The results as aligned Markdown."""
    rows = [_HEADS.split("|")]
    for result in results:
        reports = result.done.get("reports", 0)
        rows.append(
            [
                SCHEMES[result.scheme].title,
                f"{result.rate:.0f}",
                f"{result.p50 * 1000:.1f}",
                f"{result.p99 * 1000:.1f}",
                str(result.connections),
                str(result.done.get("booked", 0)),
                str(result.done.get("transferred", 0)),
                ", ".join(f"{count} × {kind}" for kind, count in sorted(result.errors.items())) or "0",
                "?" if result.deadlocks is None else str(result.deadlocks),
                str(result.sold_twice),
                f"{result.money_lost:.2f} ({result.money_astray:.2f} astray)" if result.money_astray else "0.00",
                f"{result.done.get('wrong reports', 0)} of {reports}",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return "| " + " | ".join(cells) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(rows[0]), line(rule), *map(line, rows[1:])])


def verdict(results: Sequence[Result]) -> tuple[str, bool]:
    """One line on who won and whether the last scheme lost anything; and whether that is as it should be."""
    last = results[-1]
    best = max(results, key=lambda result: result.rate)
    text = f"Fastest: {SCHEMES[best.scheme].title}, {best.rate:.0f} requests/s"
    others = [result.rate for result in results if result is not best]
    if others and max(others) > 0:
        text += f", {best.rate / max(others):.1f} times the next"
    errors = sum(last.errors.values())
    lost = f"{last.sold_twice} seats sold twice, {last.money_astray:.2f} of money astray, {errors} errors"
    text += f". {SCHEMES[last.scheme].title.capitalize()}: " + (
        "nothing lost, no errors." if last.clean else f"{lost}!"
    )
    return text, last.clean and best is last


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
    number = int(os.environ.get("WORKLOAD_VISITORS") or VISITORS)
    hot = people.PEOPLE[:6]
    visitors = [Visitor(hot[i % len(hot)], people.PASSWORD, seed=i) for i in range(number)]
    print(f"{number} visitors, {seconds:g} s for each of {len(SCHEMES)} schemes, over HTTP …", flush=True)
    results = []
    for scheme in SCHEMES:
        for i, visitor in enumerate(visitors):
            visitor.random.seed(i)  # the same dice for every scheme
        log = settings.RUN_DIR / f"workload-{scheme}.log"
        results.append(measure(scheme, visitors, seconds, log))
        print(f"  {SCHEMES[scheme].title}: {results[-1].rate:.0f} requests/s", flush=True)
    text, good = verdict(results)
    print(f"\n{table(results)}\n\n{text}", flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
