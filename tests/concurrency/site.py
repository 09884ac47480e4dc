"""A WSGI site and a task queue that used the database before their workers were forked, as preloading does."""

from __future__ import annotations

import json
import os
import sys
import threading
import time

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


def rest() -> None:
    """Until no thread but this one runs. uWSGI forks without a word to Python: a lock that a thread has at that moment,
    the interpreter's own among them, is locked in the workers for ever."""
    end = time.monotonic() + 20.0
    while time.monotonic() < end:
        # By their frames: a thread that ends, as that of a deadline does, is not enumerated any more and still runs.
        awake = [
            frame.f_code.co_name
            for ident, frame in sys._current_frames().items()
            if ident != threading.get_ident()
            and frame.f_code.co_name not in ("sleep", "_run")  # those of maintenance and of the watcher
        ]
        if not awake:
            return
        time.sleep(0.01)
    raise TimeoutError(f"Threads did not come to rest in {awake}")


rest()


def report(request: HttpRequest | None = None) -> HttpResponse:
    session = number()
    size = connection.pool.get_stats()["pool_size"]  # type: ignore[union-attr]
    return HttpResponse(
        json.dumps({"pid": os.getpid(), "session": session, "size": size, "made_by": PARENTS_PID, "parent": PARENT})
    )


urlpatterns = [path("", report)]
application = get_wsgi_application()
