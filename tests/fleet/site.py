"""A site's process on behalf of a test: ``python -m tests.fleet.site url [seconds]``, in which it publishes. A path in,
the answer out, a line each.

``/page`` is cached. It counts in Redis how often it was computed, and takes as long as nobody pushes to the list "go".
``/write`` writes what the page reads.
"""

from __future__ import annotations

import json
import os
import sys

import django
import redis
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

from pooling import locked, locked_cache

if __name__ == "__main__":
    url = sys.argv[1]
    settings.configure(
        SECRET_KEY="x",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="__main__",
        INSTALLED_APPS=["pooling"],
        CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}},
        POOLING={"STORE_BUDGET": 10, "PUBLISH_SECONDS": float(sys.argv[2]) if sys.argv[2:] else 0.1},
    )
    django.setup()
    client = redis.Redis.from_url(url)

    @locked_cache(300, reads=["news"])
    def page(request):
        number = client.incr("computed")
        client.blpop(["go"], timeout=60)
        return HttpResponse(f"{number}")

    @locked(writes=["news"], atomic=False)
    def write(request):
        return HttpResponse(str(os.getpid()))

    urlpatterns = [path("page", page), path("write", write)]

    from django.test import Client

    for line in sys.stdin:
        response = Client().get(line.strip())
        print(json.dumps([response.content.decode(), response.headers.get("Cache-Status")]), flush=True)
