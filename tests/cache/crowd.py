"""A process of a crowd that asks for one page at the same time, from many threads.

``python -m tests.cache.crowd REDIS THREADS ALL KIND [SECONDS]``: ``ALL`` threads of all processes begin together.
``KIND``: ``page``; ``cookie``, an answer that cannot be stored; or ``stale``: the page is there and old. The view takes
``SECONDS``; without, it ends when all have asked, with ``stale`` when all others have their answer. Prints for each
request how long it took, what became of it, and the answer.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import redis
from django.conf import settings

LIMIT = 60.0  # seconds


class Meeting:
    """Who waits for whom, through Redis."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(url)

    def count(self, name: str) -> int:
        return int(self.client.incr(f"crowd:{name}"))

    def until(self, name: str, number: int) -> None:
        end = time.monotonic() + LIMIT
        while int(self.client.get(f"crowd:{name}") or 0) < number:
            if time.monotonic() > end:
                raise TimeoutError(f"{name} did not become {number}")
            time.sleep(0.001)


def main() -> None:
    url, threads, everybody, kind = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    seconds = float(sys.argv[5]) if len(sys.argv) > 5 else None
    settings.configure(
        SECRET_KEY="for the tests only",
        ALLOWED_HOSTS=["*"],
        USE_TZ=True,
        INSTALLED_APPS=["pooling"],
        CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}},
        POOLING={"STORE_BUDGET": 10.0},
    )
    import django

    django.setup()
    from django.http import HttpResponse
    from django.test import RequestFactory

    from pooling import invalidate, locked_cache

    meeting = Meeting(url)
    crowded = threading.Event()

    @locked_cache(300, reads=["x"], stale=600 if kind == "stale" else None)
    def page(request: Any) -> HttpResponse:
        number = meeting.count("ran")
        if not crowded.is_set():
            return HttpResponse("old")
        if seconds is not None:
            time.sleep(seconds)
        else:
            meeting.until("asked" if kind != "stale" else "served", everybody - (kind == "stale"))
        response = HttpResponse(f"new {number}")
        if kind == "cookie":
            response.set_cookie("a", "b")
        return response

    factory = RequestFactory()
    found: list[tuple[float, str, str]] = []
    if kind == "stale":
        page(factory.get("/page"))  # this process has seen it good
        meeting.count("warm")
        meeting.until("warm", everybody // threads)
        if meeting.count("written") == 1:
            invalidate("x")
            meeting.client.delete("crowd:ran")
            meeting.count("old")
        meeting.until("old", 1)
    crowded.set()

    def ask() -> None:
        request = factory.get("/page")
        meeting.count("ready")
        meeting.until("ready", everybody)
        meeting.count("asked")
        began = time.perf_counter()
        response = page(request)
        found.append((time.perf_counter() - began, response["Cache-Status"], response.content.decode()))
        meeting.count("served")

    crowd = [threading.Thread(target=ask) for _ in range(threads)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
