"""A WSGI site and a task queue that used the database before their workers were forked, as preloading does."""

from __future__ import annotations

import json
import os

import django
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path

django.setup()


def number() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        return int(cursor.fetchone()[0])


# Two sessions of the process that imports this: one idle in the pool, one still lent when the workers are forked.
IDLE = number()
connection.close()
LENT = connection.pool.getconn()  # type: ignore[union-attr]
LENT.query("SELECT CONNECTION_ID()")
PARENT = [IDLE, LENT.store_result().fetch_row()[0][0]]
KEPT = connection.pool.getconn()  # type: ignore[union-attr]
connection.pool.putconn(KEPT)  # type: ignore[union-attr]
PARENTS_PID = os.getpid()


def report(request: HttpRequest | None = None) -> HttpResponse:
    session = number()
    size = connection.pool.get_stats()["pool_size"]  # type: ignore[union-attr]
    return HttpResponse(
        json.dumps({"pid": os.getpid(), "session": session, "size": size, "made_by": PARENTS_PID, "parent": PARENT})
    )


urlpatterns = [path("", report)]
application = get_wsgi_application()
