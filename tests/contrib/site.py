"""A little site for those who look on: its secrets must appear nowhere."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path

from pooling import locked, locked_cache
from tests.app.models import Account, Note

SECRET = "sesame-4711"  # a parameter of SQL, of the URL, in the session and in a password


def html(text: str) -> HttpResponse:
    return HttpResponse(f"<html><body>{text}</body></html>")


@locked_cache(300, reads=["notes/{pk}"])
def note(request: HttpRequest, pk: int) -> HttpResponse:
    return html(Note.objects.get(pk=pk).text)


@locked(writes=["accounts/{pk}"], reads=["rates"], wait=10)
def pay(request: HttpRequest, pk: int) -> HttpResponse:
    Account.objects.filter(pk=pk).update(balance=1)
    Note.objects.filter(text=SECRET).exists()
    return html("paid")


@locked(writes=["accounts/{pk}"], wait=0.01, atomic=False)
def impatient(request: HttpRequest, pk: int) -> HttpResponse:
    return html("got it")


@locked(writes=["accounts/7"], wait=0.01, atomic=False)
def reset(request: HttpRequest, token: str) -> HttpResponse:
    """Its path is a secret."""
    return html("got it")


def whoami(request: HttpRequest) -> HttpResponse:
    """Asks for its visitor, then for a connection."""
    Note.objects.exists()
    return html(str(request.user))


def quiet(request: HttpRequest) -> HttpResponse:
    return HttpResponse("nothing", headers={"Server-Timing": 'app;dur=1.0;desc="ours"'})


@locked_cache(300, reads=["notes"])
async def anote(request: HttpRequest) -> HttpResponse:
    return html(str(await Note.objects.acount()))


def fails(request: HttpRequest) -> Any:
    Note.objects.exists()
    raise ValueError(SECRET)


urlpatterns = [
    path("note/<int:pk>/", note),
    path("pay/<int:pk>/", pay),
    path("impatient/<int:pk>/", impatient),
    path("reset/<token>/", reset),
    path("whoami/", whoami),
    path("quiet/", quiet),
    path("anote/", anote),
    path("fails/", fails),
]
