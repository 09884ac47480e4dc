"""Views for the tests of validators and `vary_on`. Each says how often it ran, in `calls`."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import condition

from pooling import locked_cache

from .views import calls

TEXT = "compressible text " * 100


@locked_cache(300, reads=["x"])
def page(request: HttpRequest) -> HttpResponse:
    calls["page"] += 1
    return HttpResponse(TEXT, headers={"X-Made": "here"})


@locked_cache(300, reads=["x"])
@condition(etag_func=lambda request: '"its, own"', last_modified_func=None)
def own_etag(request: HttpRequest) -> HttpResponse:
    calls["own_etag"] += 1
    return HttpResponse(TEXT)


MODIFIED = "Wed, 21 Oct 2015 07:28:00 GMT"


@locked_cache(300, reads=["x"])
def headers(request: HttpRequest) -> HttpResponse:
    """Answers with the headers that the query names."""
    calls["headers"] += 1
    return HttpResponse(TEXT, headers=request.GET.dict())


@locked_cache(300, reads=["x"])
def conditions(request: HttpRequest) -> HttpResponse:
    """What a view sees of the request's conditions."""
    seen = [name for name in request.META if name.startswith(("HTTP_IF", "HTTP_RANGE"))]
    seen += [name for name in ("If-None-Match", "If-Modified-Since", "Range") if name in request.headers]
    return HttpResponse(str(seen))


@locked_cache(300, reads=["x"])
def uncached(request: HttpRequest) -> HttpResponse:
    calls["uncached"] += 1
    return HttpResponse(f"{request.COOKIES.get('a')}", headers={"ETag": '"mine"'})


@locked_cache(300, reads=["x"], vary_on=["header:X-Kind", "cookie:theme", "user"])
def personal(request: HttpRequest) -> HttpResponse:
    calls["personal"] += 1
    return HttpResponse(f"{request.headers.get('X-Kind')} {request.COOKIES.get('theme')} {request.user}")


@locked_cache(300, reads=["x"], vary_on=["user"])
def fresh_for_a_minute(request: HttpRequest) -> HttpResponse:
    return HttpResponse("x", headers={"Cache-Control": request.GET["control"]})


@locked_cache(300, reads=["x"])
def around(request: HttpRequest) -> Any:
    inner = page(request)
    calls["around"] += 1
    return HttpResponse(inner.content + str(calls["around"]).encode(), headers=inner.headers)


urlpatterns = [
    path("page", page),
    path("gzip", gzip_page(page)),
    path("own_etag", own_etag),
    path("headers", headers),
    path("conditions", conditions),
    path("uncached", uncached),
    path("personal", personal),
    path("minute", fresh_for_a_minute),
    path("around", around),
]
