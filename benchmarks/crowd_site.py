"""One process of a crowd: ``python -m benchmarks.crowd_site KIND URL THREADS``. See `benchmarks.crowd`.

A line of JSON on its input, ``{"key", "at", "private"}``: at this moment of CLOCK_MONOTONIC all threads ask for the
page of this key, whose answer is not for a cache if it is private. A line on its output: how often the page was made
here, and how many seconds after the moment the last thread had its answer.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

WORK = 0.1  # seconds that making the page takes
POOLING, CACHE_PAGE, CACHEOPS, DOGPILE = (
    "pooling",
    "cache_page, django-redis",
    "cacheops, lock=True",
    "dogpile, Redis lock",
)
BODY = b"x" * 10_000

Ask = Callable[[str, bool], bytes]
Made = Callable[[], bytes]


def configure(url: str, kind: str) -> None:
    import django
    from django.conf import settings

    apps = ["django.contrib.contenttypes"]
    settings.configure(
        SECRET_KEY="x",
        ALLOWED_HOSTS=["testserver"],
        USE_TZ=True,
        INSTALLED_APPS=[*apps, "cacheops"] if kind == CACHEOPS else apps,
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},  # nobody asks it
        CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}},
        CACHEOPS_REDIS=url,
        CACHEOPS={"contenttypes.contenttype": {"ops": (), "timeout": 300}},
        POOLING={"STORE_BUDGET": 10},
    )
    django.setup()


def through_views(decorate: Callable[[Any], Any], made: Made) -> Ask:
    from django.http import HttpResponse
    from django.test import RequestFactory

    factory = RequestFactory()

    def page(request: Any, key: str) -> HttpResponse:
        response = HttpResponse(made())
        if "private" in request.GET:
            response["Cache-Control"] = "private"
        return response

    view = decorate(page)
    return lambda key, private: view(factory.get(f"/{key}", {"private": "1"} if private else None), key=key).content


def through_dogpile(url: str, made: Made) -> Ask:
    from dogpile.cache import make_region  # type: ignore[import-not-found, unused-ignore]

    arguments = {"url": url, "distributed_lock": True, "thread_local_lock": False, "redis_expiration_time": 300}
    region = make_region().configure("dogpile.cache.redis", expiration_time=300, arguments=arguments)

    def ask(key: str, private: bool) -> bytes:
        page: bytes = region.get_or_create(key, made, should_cache_fn=lambda value: not private)
        return page

    return ask


def through_cacheops(made: Made) -> Ask:
    from cacheops import cached_as  # type: ignore[import-not-found, import-untyped, unused-ignore]
    from django.contrib.contenttypes.models import ContentType

    def page(key: str) -> bytes:
        return made()

    cached: Callable[[str], bytes] = cached_as(ContentType, timeout=300, lock=True)(page)
    return lambda key, private: cached(key)


def asking(kind: str, url: str, made: Made) -> Ask:
    """ImportError if the peer is not installed."""
    configure(url, kind)
    if kind == DOGPILE:
        return through_dogpile(url, made)
    if kind == CACHEOPS:
        return through_cacheops(made)
    if kind == CACHE_PAGE:
        from django.views.decorators.cache import cache_page

        return through_views(cache_page(300), made)
    from pooling import locked_cache

    return through_views(locked_cache(300, reads=["pages/{key}"]), made)


def main() -> None:
    kind, url, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    runs: list[None] = []

    def made() -> bytes:
        runs.append(None)
        time.sleep(WORK)
        return BODY

    ask = asking(kind, url, made)

    def together(key: str, at: float, private: bool) -> float:
        ended: list[float] = []

        def visit() -> None:
            time.sleep(max(at - time.monotonic(), 0.0))
            if ask(key, private) != BODY:
                raise ValueError("That is another page.")
            ended.append(time.monotonic() - at)

        crowd = [threading.Thread(target=visit) for _ in range(threads)]
        for one in crowd:
            one.start()
        for one in crowd:
            one.join()
        if len(ended) != threads:
            raise SystemExit("Not everybody had an answer.")
        return max(ended)

    print("ready", flush=True)
    for line in sys.stdin:
        runs.clear()
        last = together(**json.loads(line))
        print(json.dumps({"runs": len(runs), "last": last}), flush=True)


if __name__ == "__main__":
    main()
