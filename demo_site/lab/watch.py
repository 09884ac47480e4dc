"""A look at a running measurement, four times a second: what was answered, how fast, and who waits for whom."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from demo_site.client import Visitor
from demo_site.lab.waits import PATH
from demo_site.web import HOST

EVERY = 0.25  # seconds; the server makes the tables below anew ten times a second at most
_MARIADB = (
    "SELECT r.trx_query, b.trx_query FROM information_schema.innodb_lock_waits w"
    " JOIN information_schema.innodb_trx r ON r.trx_id = w.requesting_trx_id"
    " JOIN information_schema.innodb_trx b ON b.trx_id = w.blocking_trx_id"
)
_MYSQL = "SELECT waiting_query, blocking_query FROM sys.innodb_lock_waits"
_FROM = re.compile(r"\b(?:FROM|INTO|UPDATE)\s+`(\w+)`", re.I)

Tick = dict[str, Any]


def statement(sql: str | None) -> str:
    """``UPDATE account``: what a statement does, without its values. None is a transaction between two statements."""
    if not sql:
        return "an open transaction"
    verb = sql.split(None, 1)[0].upper()
    table = _FROM.search(sql)
    return f"{verb} {table[1].removeprefix('boxoffice_')}" if table else verb


class Watch:
    """Calls ``say`` with a tick every quarter of a second, until it is left. A context manager.

    A tick has ``t`` (seconds since the begin), ``answered`` and ``errors`` (in all), ``rate`` (requests per second),
    ``p50`` and ``p99`` (seconds; of those since the last tick, None without any), ``connections`` and ``waits``.
    """

    def __init__(self, port: int, visitors: Sequence[Visitor], database: str, say: Callable[[Tick], None]) -> None:
        self.port = port
        self.visitors = visitors
        self.database = database
        self.say = say
        self.failure: BaseException | None = None
        self._seen = [0] * len(visitors)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._site = http.client.HTTPConnection(HOST, port, timeout=5)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()
        self._site.close()
        if self.failure is not None and error is None:
            raise self.failure

    def _run(self) -> None:
        from django.db import connection

        begin = last = time.perf_counter()
        try:
            with connection._nodb_cursor() as cursor:  # or this one would be among those that are counted
                over = False
                while not over:
                    over = self._stopped.wait(EVERY)
                    now = time.perf_counter()
                    if now - last > EVERY / 2:  # what is left at the end may be too short for a rate
                        self.say(self._tick(cursor, now - begin, now - last))
                        last = now
        except BaseException as error:  # noqa: BLE001 - raised where the watch is left
            self.failure = error

    def _tick(self, cursor: Any, seconds: float, since: float) -> Tick:
        fresh: list[float] = []
        for number, visitor in enumerate(self.visitors):
            times = visitor.times[self._seen[number] :]  # only ever appended to
            self._seen[number] += len(times)
            fresh += times
        fresh.sort()
        return {
            "t": round(seconds, 3),
            "answered": sum(self._seen),
            "errors": sum(sum(visitor.errors.copy().values()) for visitor in self.visitors),
            "rate": round(len(fresh) / since, 1),
            "p50": fresh[len(fresh) // 2] if fresh else None,
            "p99": fresh[len(fresh) * 99 // 100] if fresh else None,
            "connections": self._connections(cursor),
            "waits": [
                [*edge, number] for edge, number in sorted((self._in_site() + self._in_database(cursor)).items())
            ],
        }

    def _connections(self, cursor: Any) -> int:
        cursor.execute("SELECT COUNT(*) FROM information_schema.processlist WHERE db = %s", [self.database])
        return int(cursor.fetchone()[0])

    def _in_site(self) -> Counter[tuple[str, str]]:
        self._site.request("GET", PATH)
        answer = json.loads(self._site.getresponse().read())
        return Counter({(who, whom): number for who, whom, number in answer["waits"]})

    def _in_database(self, cursor: Any) -> Counter[tuple[str, str]]:
        cursor.execute(_MARIADB if cursor.db.mysql_is_mariadb else _MYSQL)
        return Counter((statement(waiting), statement(blocking)) for waiting, blocking in cursor.fetchall())
