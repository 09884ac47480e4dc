"""What a page costs while Redis hangs, beside Django's cache_page: ``python -m benchmarks.outage``.

A Redis of its own on loopback is stopped (SIGSTOP): connections are accepted, and nothing is answered. The page costs
nothing to make, so all that is measured is added by the cache. Both wait 250 ms for Redis at most; cache_page is told
to ignore errors, or else no page would be answered. The first request, which finds out, is made before the clock runs;
those that try whether Redis is back are among those that are measured, and show as the longest.
"""

from __future__ import annotations

import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from demo_site.servers import PrivateRedis

from . import report, timing

BUDGET = 0.25  # seconds
SPAN = 4.0  # seconds of requests in each round: at least one of them tries whether Redis is back
SLOW_SPAN = 20  # requests of a peer are enough, each of which waits
POOLING, CACHE_PAGE, BARE = "pooling", "cache_page, django-redis", "the view alone"


def configure(url: str) -> None:
    import django
    from django.conf import settings

    limits = {"SOCKET_TIMEOUT": BUDGET, "SOCKET_CONNECT_TIMEOUT": BUDGET, "IGNORE_EXCEPTIONS": True}
    settings.configure(
        SECRET_KEY="x",
        ALLOWED_HOSTS=["testserver"],
        USE_TZ=True,
        CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url, "OPTIONS": limits}},
        POOLING={"STORE_BUDGET": BUDGET},
        LOGGING_CONFIG=None,
    )
    django.setup()


def views() -> dict[str, Callable[..., Any]]:
    from django.http import HttpResponse
    from django.views.decorators.cache import cache_page

    from pooling import locked_cache

    def page(request: Any) -> HttpResponse:
        return HttpResponse(b"page")

    return {POOLING: locked_cache(300, reads=["shop"])(page), CACHE_PAGE: cache_page(300)(page), BARE: page}


def asked(view: Callable[..., Any]) -> list[float]:
    """Seconds of each request. Raises what a view raises, and RuntimeError for another answer than the page."""
    from django.test import RequestFactory

    request = RequestFactory()
    taken: list[float] = []
    end = time.perf_counter() + SPAN
    while time.perf_counter() < end and (len(taken) < SLOW_SPAN or statistics.median(taken) < 0.01):
        one = request.get("/shop")
        start = time.perf_counter()
        response = view(one)
        taken.append(time.perf_counter() - start)
        if response.content != b"page":
            raise RuntimeError(f"A request was answered with {response.content!r}.")
    return taken


def run(rounds: int) -> report.Table:
    about = (
        f"A page while Redis hangs, {rounds} interleaved rounds of {SPAN:g} s; both wait for it {BUDGET * 1000:g} ms "
        f"at most."
    )
    table = report.Table(
        about, ["", "median, ms", "longest, ms", "longer than 2 ms", "answered"], title="While Redis hangs"
    )
    with tempfile.TemporaryDirectory(prefix="pooling-bench-") as folder, PrivateRedis(folder) as server:
        configure(server.url)
        cases = views()
        taken: timing.Rounds = {name: [] for name in cases}
        for view in cases.values():
            view_once(view)  # connected, and the page is there
        server.kill(signal.SIGSTOP)
        try:
            for view in cases.values():
                view_once(view)
            timing.interleaved(list(cases), rounds, lambda name: taken[name].extend(asked(cases[name])))
        finally:
            server.kill(signal.SIGCONT)
        from pooling import runtime

        runtime.reset_runtime()
    for name, seconds in taken.items():
        late = sum(one > 0.002 for one in seconds)
        cells = [f"{statistics.median(seconds) * 1000:.3f}", f"{max(seconds) * 1000:.0f}", f"{late} of {len(seconds)}"]
        table.rows.append([name, *cells, "all"])
    added = statistics.median(taken[POOLING]) - statistics.median(taken[BARE])
    table.bars.append(report.Bar("added by pooling once it is known", added * 1000, 2, unit=" ms"))
    return table


def view_once(view: Callable[..., Any]) -> None:
    from django.test import RequestFactory

    view(RequestFactory().get("/shop"))


if __name__ == "__main__":
    report.main(run, 3, __doc__)
