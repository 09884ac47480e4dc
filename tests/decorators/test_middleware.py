"""BusyMiddleware: what becomes a 503, and what does not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from pooling import FenceRejected, LockLost, LockTimeout, PoolFull, PoolTimeout, StoreUnavailable
from pooling.decorators import locked
from pooling.signals import busy

MIDDLEWARE = ["pooling.middleware.BusyMiddleware"]
errors: list[BaseException] = []


def raising(request: HttpRequest) -> HttpResponse:
    raise errors[0]


async def raising_async(request: HttpRequest) -> HttpResponse:
    raise errors[0]


@locked(writes=["a"], wait=0.01, atomic=False)
def waiting(request: HttpRequest) -> HttpResponse:
    return HttpResponse("got it")


urlpatterns = [path("raising", raising), path("async", raising_async), path("waiting", waiting)]

pytestmark = pytest.mark.urls(__name__)


@pytest.fixture(autouse=True)
def with_middleware() -> Iterator[None]:
    with override_settings(MIDDLEWARE=MIDDLEWARE):
        yield


def wrapped(error: Exception) -> OperationalError:
    try:
        raise OperationalError("no connection") from error
    except OperationalError as outer:
        return outer


OURS = [
    LockTimeout("x", retry_after=7),
    LockLost("x"),
    FenceRejected("x"),
    StoreUnavailable("x"),
    wrapped(PoolTimeout("x")),
    wrapped(PoolFull("x")),
    wrapped(wrapped(PoolTimeout("x"))),
]


@pytest.mark.parametrize("error", OURS, ids=repr)
@pytest.mark.parametrize("route", ["raising", "async"])
def test_ours_become_503(error: Exception, route: str, client: Client, caplog: pytest.LogCaptureFixture) -> None:
    errors[:] = [error]
    response = client.get(f"/{route}", headers={"accept": "text/html,*/*;q=0.8"})
    assert response.status_code == 503
    assert response["Retry-After"] == ("7" if isinstance(error, LockTimeout) else "1")
    assert response["Cache-Control"] == "no-store"
    assert response["Content-Type"].startswith("text/html")
    assert b"busy at the moment" in response.content
    assert [r.levelname for r in caplog.records if r.name == "pooling.busy"] == ["WARNING"]


@pytest.mark.parametrize("error", [ValueError("x"), OperationalError("gone away"), KeyError("x")], ids=repr)
def test_others_are_left_alone(error: Exception, client: Client) -> None:
    errors[:] = [error]
    with pytest.raises(type(error)):
        client.get("/raising")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", "application/json"),
        ("text/plain", "text/plain"),
        ("*/*", "text/html"),
        ("image/png", "text"),
    ],
)
def test_by_accept(accept: str, kind: str, client: Client) -> None:
    errors[:] = [LockTimeout("secret holder")]
    response = client.get("/raising", headers={"accept": accept})
    assert response["Content-Type"].startswith(kind)
    assert b"secret" not in response.content
    if kind == "application/json":
        assert response.json() == {"error": "busy", "retry_after": 1}


def test_with_the_async_client() -> None:
    errors[:] = [LockTimeout("x")]

    async def main() -> int:
        return (await AsyncClient().get("/async")).status_code

    assert asyncio.run(main()) == 503


def test_a_real_lock_timeout_and_its_signal(client: Client) -> None:
    entered, go = threading.Event(), threading.Event()
    seen: list[Any] = []

    def holder() -> None:
        with locked(writes=["a"], atomic=False):
            entered.set()
            go.wait(30)

    def receiver(sender: type, **kwargs: Any) -> None:
        seen.append(sender)

    busy.connect(receiver)
    thread = threading.Thread(target=holder)
    thread.start()
    entered.wait(30)
    try:
        assert client.get("/waiting").status_code == 503
    finally:
        go.set()
        thread.join(30)
        busy.disconnect(receiver)
    assert client.get("/waiting").content == b"got it"
    assert seen == [LockTimeout]
