"""A view that tells which connection it ran on."""

from __future__ import annotations

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path


def number(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        return HttpResponse(str(cursor.fetchone()[0]))


def broken(request: HttpRequest) -> HttpResponse:
    number(request)
    raise RuntimeError("this view breaks after its query")


urlpatterns = [path("number", number), path("broken", broken)]
