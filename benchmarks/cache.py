"""What a cached page costs, beside Django's cache_page: ``python -m benchmarks.cache``.

It starts a Redis of its own on loopback. A page of 10 KB, whole view calls, rounds interleaved. Requests are made
before the clock runs. The least that a page in Redis can cost is one MGET of it with its versions, so that is measured
as well. Redis's own statistics say how many commands a hit sends.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from demo_site.servers import PrivateRedis

from . import report, timing

HITS = 500
COUNTED = 50
BODY = b"x" * 10_000
NEAR, VALIDATED, REMOTE = "pooling, near", "pooling, validated", "pooling, remote"
LOCMEM, DJANGO_REDIS, FLOOR = "cache_page, locmem", "cache_page, django-redis", "one MGET, nothing else"
WRITE_NONE, WRITE_MANY = "write, no entries under its group", "write, 20,000 entries under its group"
ENTRIES = 20_000


def configure(url: str) -> None:
    import django
    from django.conf import settings

    backend = "django_redis.cache.RedisCache"
    settings.configure(
        SECRET_KEY="x",
        ALLOWED_HOSTS=["testserver"],
        USE_TZ=True,
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


def floor() -> Callable[..., Any]:
    """The MGET of a hit at the level "remote", by the store's own connection, and nothing around it."""
    from pooling import runtime
    from pooling.groups import read_epochs
    from pooling.store.redis import RedisStore

    store, names = runtime.store(), read_epochs(["shop/books"])
    assert isinstance(store, RedisStore)
    store.put("floor", BODY, 3600, (), ())
    words = (b"MGET", (store._entries + "floor").encode(), *store._epoch_keys(names))
    return lambda request, slug: store._wire.call(*words)


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
    about = (
        f"A cached page of 10 KB, whole view calls, median of {rounds} interleaved rounds of {HITS} hits; and a write."
    )
    table = report.Table(about, ["", "µs", "commands to Redis"], title="A hit")
    with tempfile.TemporaryDirectory(prefix="pooling-bench-") as folder, PrivateRedis(folder) as server:
        configure(server.url)
        cases = views()
        cases[FLOOR] = floor()
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
        from pooling import runtime

        runtime.reset_runtime()
    table.raw = {"µs": {**times, **writes}, "commands": sent}
    table.rows = [[name, f"{statistics.median(times[name]):.1f}", f"{sent[name]:g}"] for name in times]
    table.rows += [[name, f"{statistics.median(writes[name]):.1f}", ""] for name in writes]
    bars = [(NEAR, LOCMEM, 0.3), (REMOTE, FLOOR, 1.5), (REMOTE, DJANGO_REDIS, 0.45)]
    table.bars += [report.Bar(f"{one} beside {other}", timing.beside(times, one, other), at) for one, other, at in bars]
    table.bars.append(report.Bar("write with entries beside none", timing.beside(writes, WRITE_MANY, WRITE_NONE), 1.1))
    table.bars += [
        report.Bar(f"commands of a hit, {name}", sent[name], most, unit="")
        for name, most in ((NEAR, 0), (VALIDATED, 1), (REMOTE, 1))
    ]
    table.compare("A hit, page of 10 KB", "µs", times, bound=FLOOR)
    return table


if __name__ == "__main__":
    report.main(run, 9, __doc__)
