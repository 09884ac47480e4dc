"""Views that handle secrets, and are looked at while they do."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from pooling import locked
from pooling.errors import PoolTimeout


def look() -> None:
    """What the test looks at, in the middle of a view."""


@locked(writes=["vault"])
def slow(request: HttpRequest) -> HttpResponse:
    password = "s3cret-password"
    request.session["pin"] = "s3cret-session"
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s, %s", ["s3cret-parameter", password])
        look()
    return HttpResponse("done")


def fails(request: HttpRequest) -> Any:
    parameter = "s3cret-parameter"
    try:
        raise ValueError(parameter)
    except ValueError:
        look()
        raise PoolTimeout("The pool had no connection.") from None


urlpatterns = [
    path("slow/", slow),
    path("fails/", fails),
    path("ops/pooling/", include("pooling.urls")),
    path("admin/", admin.site.urls),
]
