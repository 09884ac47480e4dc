"""Views for the tests of validators and `vary_on`. Each says how often it ran, in `calls`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.functional import SimpleLazyObject
from django.utils.translation import get_language, get_language_from_request
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


@locked_cache(300, reads=["x"], vary_on=["session:cart", "timezone", "language"])
def cart(request: HttpRequest, keys: str) -> HttpResponse:
    calls["cart"] += 1
    return HttpResponse(",".join(str(request.session.get(key)) for key in keys.split(",")))


@locked_cache(300, reads=["x"], vary_on=["session:cart"])
async def async_cart(request: HttpRequest, keys: str) -> HttpResponse:
    calls["cart"] += 1
    return HttpResponse(",".join([str(await request.session.aget(key)) for key in keys.split(",")]))


@locked_cache(300, reads=["x"], vary_on=["query:page", "query:f_*", "header:X-Ask"])
def keeping(request: HttpRequest) -> HttpResponse:
    return _query(request)


@locked_cache(300, reads=["x"], vary_on=["-query:utm_*", "-query:ref", "header:X-Ask"])
def ignoring(request: HttpRequest) -> HttpResponse:
    return _query(request)


def _query(request: HttpRequest) -> HttpResponse:
    calls["query"] += 1
    asked = request.GET.get(request.headers.get("X-Ask", "page"), "")
    shown = (request.GET.dict(), request.GET.copy().urlencode(), request.META["QUERY_STRING"])
    return HttpResponse(f"{asked} {shown} {request.get_full_path()} {request.build_absolute_uri()}")


@locked_cache(300, reads=["x"])
def large(request: HttpRequest, size: int) -> HttpResponse:
    return HttpResponse(b"x" * size)


@locked_cache(300, reads=[lambda request, *args, **kwargs: []])
def groupless(request: HttpRequest) -> HttpResponse:
    calls["groupless"] += 1
    return HttpResponse("page")


def _later(request: HttpRequest) -> HttpResponse:
    who = SimpleLazyObject(lambda: f"for {request.user}")
    return TemplateResponse(request, engines["django"].from_string("{{ who }}"), {"who": who})


@sync_to_async
def _user_in_a_thread(request: HttpRequest) -> str:
    return str(request.user)


# Each reads something of its visitor in a way of its own, and says it.
SNEAKING: dict[str, Callable[[Any], Any]] = {
    "template user": lambda r: TemplateResponse(r, engines["django"].from_string("{{ user.username }}")),
    "template request": lambda r: TemplateResponse(r, engines["django"].from_string("{{ request.user }}")),
    "template perms": lambda r: TemplateResponse(r, engines["django"].from_string("{{ perms.auth.add_user }}")),
    "template session": lambda r: TemplateResponse(r, engines["django"].from_string("{{ request.session.name }}")),
    "template cookie": lambda r: TemplateResponse(r, engines["django"].from_string("{{ request.COOKIES.a }}")),
    "template agent": lambda r: TemplateResponse(r, engines["django"].from_string("{{ request.META.HTTP_DNT }}")),
    "template header": lambda r: TemplateResponse(r, engines["django"].from_string("{{ request.headers.hx_request }}")),
    "template messages": lambda r: TemplateResponse(r, engines["django"].from_string("{% if messages %}x{% endif %}")),
    "template token": lambda r: TemplateResponse(r, engines["django"].from_string("{{ csrf_token }}")),
    "evaluated while rendering": _later,
    "raw cookies": lambda r: HttpResponse(r.META.get("HTTP_COOKIE")),
    "raw environ": lambda r: HttpResponse(r.environ["HTTP_COOKIE"]),
    "signed cookie": lambda r: HttpResponse(r.get_signed_cookie("signed", "none")),
    "address": lambda r: HttpResponse(r.META["REMOTE_ADDR"]),
    "agent": lambda r: HttpResponse(r.headers.get("User-Agent")),
    "language of the browser": lambda r: HttpResponse(get_language_from_request(r)),
    "accepts": lambda r: HttpResponse(str(r.accepts("text/html"))),
    "forwarded host": lambda r: HttpResponse(r.headers.get("X-Forwarded-Host")),
    "token": lambda r: HttpResponse(get_token(r)),
    "secret": lambda r: HttpResponse(r.META.get("CSRF_COOKIE")),
    "messages": lambda r: HttpResponse(str([str(m) for m in messages.get_messages(r)])),
    "is_authenticated": lambda r: HttpResponse(str(r.user.is_authenticated)),
    "all headers": lambda r: HttpResponse(str(dict(r.headers.items()))),
    "repr": lambda r: HttpResponse(repr(r.META)),
    "session key": lambda r: HttpResponse(r.session.session_key),
    "session items": lambda r: HttpResponse(str(list(r.session.items()))),
}


@locked_cache(300, reads=["x"])
def sneaking(request: HttpRequest, how: str) -> HttpResponse:
    return SNEAKING[how](request)


ASYNC_SNEAKING: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "auser": lambda r: r.auser(),
    "session": lambda r: r.session.aget("name"),
    "session has": lambda r: r.session.ahas_key("name"),
    "session keys": lambda r: r.session.akeys(),
    "in a thread": _user_in_a_thread,
    "scope": lambda r: sync_to_async(lambda: r.scope["headers"])(),
    "scope get": lambda r: sync_to_async(lambda: r.scope.get("client"))(),
    "whole scope": lambda r: sync_to_async(lambda: dict(r.scope))(),
}


@locked_cache(300, reads=["x"])
async def async_sneaking(request: HttpRequest, how: str) -> HttpResponse:
    return HttpResponse(str(await ASYNC_SNEAKING[how](request)))


# What is in every key, or the same for all.
HARMLESS: dict[str, Callable[[Any], Any]] = {
    "host": lambda r: r.get_host(),
    "address of the page": lambda r: (r.build_absolute_uri(), r.scheme, r.is_secure(), r.path_info, r.method),
    "query": lambda r: (r.GET.dict(), r.META["QUERY_STRING"], r.POST, r.body),
    "language": lambda r: (get_language(), getattr(r, "LANGUAGE_CODE", None)),
    "match": lambda r: r.resolver_match.url_name,
    "context": lambda r: TemplateResponse(r, engines["django"].from_string("{{ request.path }}")).rendered_content,
    "server": lambda r: (r.META["SERVER_NAME"], r.META.get("SERVER_PORT"), r.META.get("CONTENT_LENGTH")),
    "passed on": lambda r: str(type((r.user, r.session, r.COOKIES, r.META, r.headers))),
}


@locked_cache(300, reads=["x"])
def harmless(request: HttpRequest, what: str) -> HttpResponse:
    return HttpResponse(str(HARMLESS[what](request)))


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
    path("cart/<keys>", cart),
    path("async_cart/<keys>", async_cart),
    path("large/<int:size>", large),
    path("groupless", groupless),
    path("sneaking/<how>", sneaking),
    path("async_sneaking/<how>", async_sneaking),
    path("harmless/<what>", harmless),
    path("keeping", keeping),
    path("ignoring", ignoring),
]
