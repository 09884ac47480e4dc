"""What a cached page costs, beside Django's cache_page: ``python -m benchmarks.cache``.

It starts a Redis of its own on loopback. A page of 10 KB, whole view calls, rounds interleaved. Requests are made
before the clock runs. The least that a page in Redis can cost is one MGET of it with its versions, so that is measured
as well, in two ways: over a bare connection, the store's own, and with redis-py, by the client that django-redis has
(and the parser that this takes by itself: hiredis where it is installed). Redis's own statistics say how many commands
a hit sends; the general log of a database of its own, how many statements, with each view run as Django runs it under
ATOMIC_REQUESTS.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from demo_site.servers import PrivateDatabase, PrivateRedis, private_database

from . import report, timing
from .request import counted as logged

HITS = 500
COUNTED = 50
BODY = b"x" * 10_000
NEAR, VALIDATED, REMOTE = "pooling, near", "pooling, validated", "pooling, remote"
LOCMEM, DJANGO_REDIS = "cache_page, locmem", "cache_page, django-redis"
BARE, REDIS_PY = "one MGET, bare connection", "one MGET, redis-py"
WRITE_NONE, WRITE_MANY = "write, no entries under its group", "write, 20,000 entries under its group"
ENTRIES = 20_000


def configure(url: str, database: PrivateDatabase) -> None:
    import django
    from django.conf import settings

    where = {"NAME": "mysql", "HOST": database.host, "PORT": str(database.port), "USER": database.user, "PASSWORD": ""}
    backend = "django_redis.cache.RedisCache"
    settings.configure(
        SECRET_KEY="x",
        ALLOWED_HOSTS=["testserver"],
        USE_TZ=True,
        DATABASES={"default": {"ENGINE": "pooling.backends.mysql", "ATOMIC_REQUESTS": True, **where}},
        CACHES={
            "default": {"BACKEND": backend, "LOCATION": url},
            "django-redis": {"BACKEND": backend, "LOCATION": url},
            "locmem": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        },
        # No request of the heartbeat shall be counted as one of a hit.
        POOLING={"STORE_BUDGET": 10, "NEAR_HEARTBEAT": 60},
    )
    django.setup()


def views() -> dict[str, Callable[..., Any]]:
    from django.http import HttpResponse
    from django.views.decorators.cache import cache_page

    from pooling import locked_cache

    def page(request: Any, slug: str) -> HttpResponse:
        return HttpResponse(BODY)

    def ours(level: str) -> Callable[..., Any]:
        return locked_cache(300, reads=["shop/{slug}"], level=level)(page)

    return {
        NEAR: ours("near"),
        VALIDATED: ours("validated"),
        REMOTE: ours("remote"),
        LOCMEM: cache_page(300, cache="locmem")(page),
        DJANGO_REDIS: cache_page(300, cache="django-redis")(page),
    }


def requests(number: int) -> list[Any]:
    from django.test import RequestFactory

    factory = RequestFactory()
    return [factory.get("/shop/books?page=2") for _ in range(number)]


def floors() -> dict[str, Callable[..., Any]]:
    """The MGET of a hit at the level "remote" and nothing around it: as the store sends it, and as redis-py does."""
    from django_redis import get_redis_connection

    from pooling import runtime
    from pooling.groups import read_epochs
    from pooling.store.redis import RedisStore

    store, names = runtime.store(), read_epochs(["shop/books"])
    assert isinstance(store, RedisStore)
    store.put("floor", BODY, 3600, (), ())
    keys = [(store._entries + "floor").encode(), *store._epoch_keys(names)]
    client = get_redis_connection("django-redis")
    assert client.mget(keys) == store._wire.call(b"MGET", *keys)
    return {
        BARE: lambda request, slug: store._wire.call(b"MGET", *keys),
        REDIS_PY: lambda request, slug: client.mget(keys),
    }


def hits(view: Callable[..., Any], number: int) -> float:
    """µs for one."""
    asked = requests(number)
    start = time.perf_counter()
    for request in asked:
        view(request, slug="books")
    return (time.perf_counter() - start) / number * 1e6


def commands(server: PrivateRedis) -> int:
    import redis

    with redis.Redis.from_url(server.url) as client:
        return sum(stat["calls"] for name, stat in client.info("commandstats").items() if name != "cmdstat_info")


def counted(server: PrivateRedis, view: Callable[..., Any]) -> float:
    """Commands for one hit. What connecting sends is not counted."""
    before = commands(server)
    nothing = commands(server) - before
    before = commands(server)
    hits(view, COUNTED)
    return round((commands(server) - before - nothing) / COUNTED, 2)


def statements(database: PrivateDatabase, view: Callable[..., Any]) -> float:
    """For one hit under ATOMIC_REQUESTS. The view itself asks the database nothing."""
    from django.core.handlers.base import BaseHandler

    as_served = BaseHandler().make_view_atomic(view)
    hits(as_served, 1)  # connected
    with logged(database) as found:
        hits(as_served, COUNTED)
    return found.count("Query") / COUNTED


def warm(view: Callable[..., Any]) -> None:
    """Until the page is in memory and its versions are known."""
    for _ in range(50):
        hits(view, 1)
        time.sleep(0.002)


def written(group: str) -> float:
    """µs for one write under its lock."""
    from pooling import locked

    start = time.perf_counter()
    for _ in range(HITS // 5):
        with locked(writes=[group], atomic=False):
            pass
    return (time.perf_counter() - start) / (HITS // 5) * 1e6


def fill(group: str) -> None:
    from pooling import runtime
    from pooling.groups import read_epochs

    store = runtime.store()
    for number in range(ENTRIES):
        names = read_epochs([f"{group}/{number}"])
        store.put(f"{group} {number}", b"x" * 100, 3600, names, store.epochs(names))


def run(rounds: int) -> report.Table:
    from redis.utils import HIREDIS_AVAILABLE

    about = (
        f"A cached page of 10 KB, whole view calls, median of {rounds} interleaved rounds of {HITS} hits; and a write. "
        f"redis-py reads answers with {'hiredis' if HIREDIS_AVAILABLE else 'its own parser, hiredis not installed'}."
    )
    table = report.Table(about, ["", "µs", "commands to Redis", "statements to the database"], title="A hit")
    with (
        tempfile.TemporaryDirectory(prefix="pooling-bench-") as folder,
        private_database(folder) as database,
        PrivateRedis(Path(folder) / "redis") as server,
    ):
        configure(server.url, database)
        cases = views()
        pages = list(cases)
        cases |= floors()
        sent = {}
        for name, view in cases.items():
            warm(view)
            sent[name] = counted(server, view)
        times: timing.Rounds = {name: [] for name in cases}
        timing.interleaved(list(cases), rounds, lambda name: times[name].append(hits(cases[name], HITS)))
        fill("many")
        groups = {WRITE_NONE: "none", WRITE_MANY: "many"}
        writes: timing.Rounds = {name: [] for name in groups}
        timing.interleaved(list(groups), rounds, lambda name: writes[name].append(written(groups[name])))
        asked = {name: statements(database, cases[name]) for name in pages}
        from pooling import runtime

        runtime.reset_runtime()
    table.raw = {"µs": {**times, **writes}, "commands": sent, "statements": asked}
    for name in times:
        to_database = f"{asked[name]:g}" if name in asked else ""
        table.rows.append([name, f"{statistics.median(times[name]):.1f}", f"{sent[name]:g}", to_database])
    table.rows += [[name, f"{statistics.median(writes[name]):.1f}", "", ""] for name in writes]
    bars = [(NEAR, LOCMEM, 0.3), (REMOTE, BARE, 1.5), (REMOTE, REDIS_PY, 1.5), (REMOTE, DJANGO_REDIS, 0.45)]
    table.bars += [report.Bar(f"{one} beside {other}", timing.beside(times, one, other), at) for one, other, at in bars]
    table.bars.append(report.Bar("write with entries beside none", timing.beside(writes, WRITE_MANY, WRITE_NONE), 1.1))
    table.bars += [
        report.Bar(f"commands of a hit, {name}", sent[name], most, unit="")
        for name, most in ((NEAR, 0), (VALIDATED, 1), (REMOTE, 1))
    ]
    most = max(asked[name] for name in (NEAR, VALIDATED, REMOTE))
    table.bars.append(report.Bar("statements of a hit under ATOMIC_REQUESTS", most, 0, unit=""))
    drawn = {name: each for name, each in times.items() if name != REDIS_PY}
    table.compare("A hit, page of 10 KB", "µs", drawn, bound=BARE)
    return table


if __name__ == "__main__":
    report.main(run, 9, __doc__)
