"""Views for the test client, sync, class-based and async, all of them doing the same to one account."""

from __future__ import annotations

from typing import Any

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View

from pooling import runtime
from pooling.decorators import locked
from tests.app.models import Account

events: list[str] = []


def state() -> str:
    held = ",".join(f"{g}:{m.name}" for h in runtime.manager().current() for g, m in h.groups)
    return f"{held or 'unlocked'} {'atomic' if connection.in_atomic_block else 'autocommit'}"


def work(name: str) -> HttpResponse:
    Account.objects.update_or_create(name=name, defaults={"balance": 7})
    events.append(f"view {state()}")
    transaction.on_commit(lambda: events.append(f"on_commit {state()}"))
    return HttpResponse("done")


@locked(writes=["accounts/{name}"])
def function(request: HttpRequest, name: str) -> HttpResponse:
    return work(name)


@locked(writes=["accounts/{name}"])
def failing(request: HttpRequest, name: str) -> HttpResponse:
    work(name)
    raise ValueError("from the view")


@locked(reads=["accounts/{name}"])
def reading(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(state())


@transaction.non_atomic_requests
@locked(writes=["accounts/{name}"])
def declined_outside(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(state())


@locked(writes=["accounts/{name}"])
@transaction.non_atomic_requests
def declined_inside(request: HttpRequest, name: str) -> HttpResponse:
    return HttpResponse(state())


class Plain(View):
    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        return work(name)


@method_decorator(locked(writes=["accounts/{name}"]), name="dispatch")
class OnDispatch(Plain):
    pass


class OnGet(View):
    @method_decorator(locked(writes=["accounts/{name}"]))
    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        return work(name)


class Rendered:
    def __str__(self) -> str:
        events.append(f"render {state()}")
        return "rendered"


@locked(writes=["accounts/{name}"])
def template(request: HttpRequest, name: str) -> TemplateResponse:
    response = TemplateResponse(request, engines["django"].from_string("{{ it }}"), {"it": Rendered()})
    response.add_post_render_callback(lambda r: events.append(f"rendered {state()}"))
    return response


@locked(writes=["accounts/{name}"])
async def asynchronous(request: HttpRequest, name: str) -> HttpResponse:
    await Account.objects.aupdate_or_create(name=name, defaults={"balance": 7})
    from asgiref.sync import sync_to_async

    return await sync_to_async(work)(name)


class AsyncPlain(View):
    async def get(self, request: HttpRequest, name: str) -> HttpResponse:
        from asgiref.sync import sync_to_async

        return await sync_to_async(work)(name)


@method_decorator(locked(writes=["accounts/{name}"]), name="dispatch")
class AsyncOnDispatch(AsyncPlain):
    pass


around: Any = locked(writes=["accounts/{name}"])

urlpatterns = [
    path("function/<str:name>", function),
    path("failing/<str:name>", failing),
    path("reading/<str:name>", reading),
    path("declined-outside/<str:name>", declined_outside),
    path("declined-inside/<str:name>", declined_inside),
    path("around/<str:name>", around(Plain.as_view())),
    path("dispatch/<str:name>", OnDispatch.as_view()),
    path("get/<str:name>", OnGet.as_view()),
    path("template/<str:name>", template),
    path("async/<str:name>", asynchronous),
    path("async-around/<str:name>", around(AsyncPlain.as_view())),
    path("async-dispatch/<str:name>", AsyncOnDispatch.as_view()),
]
