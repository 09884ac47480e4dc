"""The site: a few shelves, each one a number that only grows, views that write them and cached pages that show them.

So of two answers about a shelf it is plain which one is older, and by which write.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse

from pooling import invalidate, locked, locked_cache

SHELVES = 6  # few, so that there is always somebody who reads what is being written
TABLES = (
    "CREATE TABLE shelf (id INT PRIMARY KEY, version INT NOT NULL) ENGINE=InnoDB",
    f"INSERT INTO shelf VALUES {', '.join(f'({number}, 0)' for number in range(SHELVES))}",
)
WORK = 0.002  # seconds that a page takes after it has read, and a write before its COMMIT: others come in between
WAIT = 0.3  # seconds for a lock at most: who is cut off with one in hand must not keep all writers from all shelves
LEVELS = ("near", "validated", "remote")

Reached = Callable[[str], None]
View = Callable[..., HttpResponse]


def version_of(shelf: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT version FROM shelf WHERE id = %s", [shelf])
        return int(cursor.fetchone()[0])


def write(shelf: int) -> int:
    """One more; the new version. In a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("UPDATE shelf SET version = version + 1 WHERE id = %s", [shelf])
    time.sleep(WORK)
    return version_of(shelf)


def pages(reached: Reached) -> dict[str, View]:
    """The cached page at each level. ``reached`` is told when one has read what it shows and is not stored yet."""

    def page(request: HttpRequest, shelf: int) -> HttpResponse:
        found = version_of(shelf)
        reached("read")
        time.sleep(WORK)
        return HttpResponse(str(found))

    def at(level: str) -> View:
        def named(request: HttpRequest, shelf: int) -> HttpResponse:
            return page(request, shelf)

        named.__qualname__ = f"page_{level}"  # pages of one view share their entries
        view: View = locked_cache(300, reads=["shelves/{shelf}"], level=level)(named)
        return view

    return {level: at(level) for level in LEVELS}


def writers(reached: Reached) -> dict[str, View]:
    """Each way to write. ``reached`` is told when its transaction has begun."""

    @locked(writes=["shelves/{shelf}"], wait=WAIT)
    def under_lock(request: HttpRequest, shelf: int) -> HttpResponse:
        reached("claimed")
        return HttpResponse(str(write(shelf)))

    def and_invalidate(request: Any, shelf: int) -> HttpResponse:
        with transaction.atomic():
            reached("claimed")
            found = write(shelf)
            invalidate(f"shelves/{shelf}")
        return HttpResponse(str(found))

    return {"locked": under_lock, "invalidate": and_invalidate}
