"""A little site with every kind of page that may be warmed, or may not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.conf.urls.i18n import i18n_patterns
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template import engines
from django.urls import include, path, re_path
from django.utils import translation
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.http import require_POST
from django.views.decorators.vary import vary_on_headers

from pooling import locked_cache
from tests.app.models import Note

seen: list[Any] = []  # requests that came through the middlewares
entered: list[Callable[[], object]] = []  # called by the view `meets`


def noting(get_response: Any) -> Any:
    def middleware(request: HttpRequest) -> Any:
        seen.append(request)
        return get_response(request)

    return middleware


@locked_cache(300, reads=["notes"])
def notes(request: HttpRequest) -> HttpResponse:
    return HttpResponse(", ".join(Note.objects.values_list("text", flat=True)))


@locked_cache(300, reads=["notes/{pk}"])
def note(request: HttpRequest, pk: int) -> HttpResponse:
    return HttpResponse(Note.objects.get(pk=pk).text)


@locked_cache(300, reads=["words"])
def words(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
    return HttpResponse(f"{request.get_full_path()} {args} {kwargs}")


@locked_cache(300, reads=[lambda request, *args, **kwargs: ["words/chosen"]])
def chosen(request: HttpRequest) -> HttpResponse:
    return HttpResponse("chosen")


@locked_cache(300, reads=["words"])
def greeting(request: HttpRequest) -> HttpResponse:
    return HttpResponse({"de": "Hallo", "fr": "Bonjour"}.get(translation.get_language() or "", "Hello"))


@locked_cache(300, reads=["words"])
@vary_on_headers("X-Kind")
def varying(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"kind {request.headers.get('X-Kind')}")


@locked_cache(300, reads=["words"])
async def asynchronous(request: HttpRequest) -> HttpResponse:
    return HttpResponse("async")


@locked_cache(300, reads=["people/{pk}"], vary_on=["user"])
def personal(request: HttpRequest, pk: int) -> HttpResponse:
    return HttpResponse(f"for {request.user}")


@locked_cache(300, reads=["words"])
def undeclared(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"for {request.user}")


@locked_cache(300, reads=["words"])
def parts(request: HttpRequest) -> HttpResponse:
    text = "{% load pooling %}{% locked_cache 300 reads='notes' %}a part{% endlocked_cache %}"
    return HttpResponse(engines["django"].from_string(text).render())


@locked_cache(300, reads=["words"])
def meets(request: HttpRequest, number: int) -> HttpResponse:
    for call in entered:
        call()
    return HttpResponse(str(number))


@locked_cache(300, reads=["words"])
def fails(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("as it must")


def uncached(request: HttpRequest) -> HttpResponse:
    return HttpResponse("as ever")


def around(view: Any) -> Any:
    @functools.wraps(view)
    def outer(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    return outer


@method_decorator(locked_cache(300, reads=["shop"]), name="dispatch")
class Shop(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("shop")


class Bare(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("bare")


shop = [
    path("", Shop.as_view(), name="index"),
    path("bare", locked_cache(300, reads=["shop"])(Bare.as_view())),
    path("<slug:slug>/", words),
]

urlpatterns = [
    path("", words),
    path("notes", around(notes)),
    path("notes/<int:pk>", note),
    path("shop/", include((shop, "shop"), namespace="shop")),
    path("of/<int:pk>/", include([path("words", words)])),
    path("50%/größe~a,b", words),
    re_path(r"^maybe(?:-not)?$", words),
    re_path(r"^archive/(\d+)$", words),
    re_path(r"^(?:new|old)-paths$", words),  # alternatives: Django cannot tell what it leads to
    path("words", words),
    path("words", words),
    path("chosen", chosen),
    path("greeting", greeting),
    path("varying", varying),
    path("async", asynchronous),
    path("people/<int:pk>", personal),
    path("undeclared", undeclared),
    path("parts", parts),
    path("meets/<int:number>", meets),
    path("posted", require_POST(words)),
    path("fails", fails),
    path("uncached", uncached),
    path("moved", lambda request: redirect("/words")),
    *i18n_patterns(path("hello", greeting)),
]

# What `--all` finds, in English.
FIXED = [
    *("/", "/notes", "/shop/", "/shop/bare", "/50%25/gr%C3%B6%C3%9Fe~a,b", "/maybe", "/words", "/chosen"),
    *("/greeting", "/varying", "/async", "/undeclared", "/parts", "/posted", "/fails", "/en/hello"),
]
