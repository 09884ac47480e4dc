"""Views for the tests of the cache. Each says how often it really ran, in `calls`."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.vary import vary_on_headers

from pooling import locked, locked_cache
from pooling.caching import vary_by
from tests.app.models import Account, Note

calls: Counter[str] = Counter()


def count(name: str) -> int:
    calls[name] += 1
    return calls[name]


@locked_cache(300, reads=["notes/{pk}"], writes=["notes/{pk}"])
def note(request: HttpRequest, pk: int) -> HttpResponse:
    count("note")
    if request.method == "POST":
        Note.objects.filter(pk=pk).update(text=request.POST["text"])
        if "fail" in request.POST:
            raise RuntimeError("after the write")
        return HttpResponse("saved")
    return HttpResponse(Note.objects.get(pk=pk).text)


@locked(writes=["notes"])
def wipe(request: HttpRequest) -> HttpResponse:
    Note.objects.update(text="wiped")
    return HttpResponse("ok")


@locked_cache(300, reads=["notes"])
def notes(request: HttpRequest) -> TemplateResponse:
    count("notes")
    template = engines["django"].from_string("{% for n in notes %}{{ n.text }};{% endfor %}")
    return TemplateResponse(request, template, {"notes": Note.objects.order_by("pk")})


@locked_cache(300, reads=["x"])
def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"plain {count('plain')}")


@locked_cache(0, reads=["x"])
def zero(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"zero {count('zero')}")


@locked_cache(300, reads=["x"], vary_on=["user"])
def mine(request: HttpRequest) -> HttpResponse:
    count("mine")
    return HttpResponse(f"for {request.user}")


@locked_cache(300, reads=["x"])
def answer(request: HttpRequest, kind: str) -> Any:
    """One undeclared or forbidden thing each."""
    count(kind)
    if kind == "session":
        return HttpResponse(str(request.session.get("name")))
    if kind == "session_key":
        return HttpResponse(str(request.session.session_key))
    if kind == "session_set":
        request.session["name"] = "x"
    elif kind == "user":
        return HttpResponse(f"for {request.user}")
    elif kind == "cookie":
        return HttpResponse(str(request.COOKIES.get("theme")))
    elif kind == "cookies":
        return HttpResponse(str(dict(request.COOKIES)))
    elif kind == "csrf":
        return HttpResponse(get_token(request))
    elif kind == "csrf_template":
        return TemplateResponse(request, engines["django"].from_string("{% csrf_token %}"))
    elif kind == "message":
        messages.info(request, "hello")
    elif kind == "messages_template":
        return TemplateResponse(request, engines["django"].from_string("{% for m in messages %}{{ m }}{% endfor %}"))
    elif kind == "set_cookie":
        response = HttpResponse("x")
        response.set_cookie("a", "b")
        return response
    elif kind == "streaming":
        return StreamingHttpResponse([b"a", b"b"])
    elif kind in ("private", "no-store", "no-cache", 'private="x"', "max-age=5, No-Store"):
        return HttpResponse("x", headers={"Cache-Control": kind})
    elif kind == "never":
        return never_cache(lambda request: HttpResponse("x"))(request)
    elif kind == "star":
        return HttpResponse("x", headers={"Vary": "Accept, *"})
    elif kind.isdigit():
        return HttpResponse("x", status=int(kind))
    return HttpResponse("x")


FORBIDDEN = [
    "session",
    "session_key",
    "session_set",
    "user",
    "cookie",
    "cookies",
    "csrf",
    "csrf_template",
    "message",
    "messages_template",
    "set_cookie",
    "streaming",
    "private",
    "no-store",
    "no-cache",
    "never",
    "star",
    "201",
    "204",
    "301",
    "302",
    "404",
    "500",
    "503",
]


@locked_cache(300, reads=["x"], vary_on=["session", "csrf", "cookie:theme", "header:X-Kind", "language"])
def declared(request: HttpRequest) -> HttpResponse:
    count("declared")
    name, theme = request.session.get("name"), request.COOKIES.get("theme")
    return HttpResponse(f"{name}|{theme}|{request.headers.get('X-Kind')}|{bool(get_token(request))}")


@locked_cache(300, reads=["x"], vary_on=[vary_by(lambda r: str(r.user.is_staff), covers=["user"])])
def by_callable(request: HttpRequest) -> HttpResponse:
    count("by_callable")
    return HttpResponse(f"staff: {request.user.is_staff}")


@locked_cache(300, reads=["x"])
@vary_on_headers("X-Kind")
def varying(request: HttpRequest) -> HttpResponse:
    count("varying")
    return HttpResponse(f"kind {request.headers.get('X-Kind')!r}")


@locked_cache(300, reads=["notes/{pk}"])
async def async_note(request: HttpRequest, pk: int) -> HttpResponse:
    count("async_note")
    await asyncio.sleep(0)
    return HttpResponse((await Note.objects.aget(pk=pk)).text)


@locked_cache(300, reads=["x"], vary_on=["user"])
async def async_mine(request: HttpRequest) -> HttpResponse:
    count("async_mine")
    return HttpResponse(f"for {await request.auser()}")  # type: ignore[attr-defined]


@method_decorator(locked_cache(300, reads=["notes/{pk}"], writes=["notes/{pk}"]), name="dispatch")
class NoteView(View):
    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        count("NoteView")
        return JsonResponse({"text": Note.objects.get(pk=pk).text})

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        Note.objects.filter(pk=pk).update(text=request.POST["text"])
        return HttpResponse("saved")


class Bare(View):
    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        count("Bare")
        return HttpResponse(Note.objects.get(pk=pk).text)


@method_decorator(locked_cache(300, reads=["notes/{pk}"]), name="dispatch")
class AsyncNoteView(View):
    async def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        count("AsyncNoteView")
        return HttpResponse((await Note.objects.aget(pk=pk)).text)


@locked_cache(300, reads=["accounts"])
def total(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(sum(Account.objects.values_list("balance", flat=True))))


urlpatterns = [
    path("note/<int:pk>", note),
    path("wipe", wipe),
    path("notes", notes),
    path("plain", plain),
    path("zero", zero),
    path("mine", mine),
    path("answer/<path:kind>", answer),
    path("declared", declared),
    path("by_callable", by_callable),
    path("varying", varying),
    path("async_note/<int:pk>", async_note),
    path("async_mine", async_mine),
    path("class/<int:pk>", NoteView.as_view()),
    path("bare/<int:pk>", locked_cache(300, reads=["notes/{pk}"])(Bare.as_view())),
    path("async_class/<int:pk>", AsyncNoteView.as_view()),
    path("total", total),
    path("http/", include("tests.cache.http_views")),
]
