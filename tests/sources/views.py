"""A cached page of each group, and a view that writes without saying so."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import path

from pooling import locked, locked_cache
from tests.app.models import Account, Note


@locked_cache(300, reads=["notes"])
def notes(request: HttpRequest) -> HttpResponse:
    return HttpResponse("|".join(Note.objects.order_by("pk").values_list("text", flat=True)))


@locked_cache(300, reads=["bank"])
def bank(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(sum(Account.objects.values_list("balance", flat=True))))


def write(request: HttpRequest) -> HttpResponse:
    Note.objects.update(text="by a view")
    if "fail" in request.GET:
        raise RuntimeError("after the write")
    return HttpResponse("ok")


async def write_async(request: HttpRequest) -> HttpResponse:
    await Note.objects.aupdate(text="by an async view")
    return HttpResponse("ok")


@locked(writes=["notes"])
def declared(request: HttpRequest) -> HttpResponse:
    Note.objects.update(text="declared")
    return HttpResponse("ok")


class NoteAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    actions = ["shout"]

    @admin.action(description="Shout")
    def shout(self, request: HttpRequest, queryset: Any) -> None:
        queryset.update(text="SHOUTED")


site = admin.AdminSite()
site.register(Note, NoteAdmin)

urlpatterns = [
    path("notes", notes),
    path("bank", bank),
    path("write", write),
    path("write_async", write_async),
    path("declared", declared),
    path("admin/", site.urls),
]
