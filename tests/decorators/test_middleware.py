"""BusyMiddleware: what becomes a 503, and what does not."""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from django.db import OperationalError, connection
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


def fine(request: HttpRequest) -> HttpResponse:
    return HttpResponse("fine")


async def fine_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse("fine")


def killed(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        number = cursor.fetchone()[0]
        other = connection.copy()
        try:
            with other.cursor() as killer:
                killer.execute(f"KILL {number}")
        finally:
            other.close()
        cursor.execute("SELECT 1")
    return HttpResponse("not reached")


def failing_handler(request: HttpRequest) -> HttpResponse:
    raise errors[0]


class Inner:
    """A middleware further in that fails as a session's save does: on the way out, so no view has raised."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        self.get_response(request)
        raise errors[0]


def inner_async(get_response: Callable[[HttpRequest], Awaitable[HttpResponse]]) -> Any:
    async def middleware(request: HttpRequest) -> HttpResponse:
        await get_response(request)
        raise errors[0]

    return middleware


inner_async.async_capable = True  # type: ignore[attr-defined]
inner_async.sync_capable = False  # type: ignore[attr-defined]


class Between:
    """A middleware that fails over the answer of one further in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        self.get_response(request)
        raise ValueError("a bug")


class Login:
    """A middleware that fails before the view, as LoginRequiredMiddleware does when it asks who is there."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *args: Any) -> None:
        raise errors[0]


urlpatterns = [
    path("raising", raising),
    path("async", raising_async),
    path("waiting", waiting),
    path("fine", fine),
    path("fine-async", fine_async),
    path("killed", killed),
]

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


def with_inner(*names: str) -> Any:
    return override_settings(MIDDLEWARE=[*MIDDLEWARE, *(f"{__name__}.{name}" for name in names)])


@pytest.mark.parametrize("name", ["Inner", "Login"])
@pytest.mark.parametrize("error", OURS, ids=repr)
def test_ours_from_a_middleware_further_in_become_503(name: str, error: Exception) -> None:
    errors[:] = [error]
    with with_inner(name):
        response = Client(raise_request_exception=False).get("/fine")
    assert response.status_code == 503
    assert response["Retry-After"] == ("7" if isinstance(error, LockTimeout) else "1")


@pytest.mark.parametrize("name", ["Inner", "inner_async"])
def test_the_same_under_asgi(name: str) -> None:
    errors[:] = [wrapped(PoolTimeout("x"))]

    async def main() -> int:
        return (await AsyncClient(raise_request_exception=False).get("/fine-async")).status_code

    with with_inner(name):
        assert asyncio.run(main()) == 503


def test_other_errors_of_a_middleware_stay_500() -> None:
    errors[:] = [ValueError("x")]
    with with_inner("Inner"):
        assert Client(raise_request_exception=False).get("/fine").status_code == 500


def test_a_bug_that_comes_after_the_busy_error_stays_500() -> None:
    errors[:] = [LockTimeout("x")]
    with with_inner("Between", "Inner"):
        assert Client(raise_request_exception=False).get("/fine").status_code == 500


@pytest.mark.parametrize("templates", [[], [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]])
def test_html_without_the_template(templates: list[Any], client: Client) -> None:
    errors[:] = [LockTimeout("x", retry_after=7)]
    with override_settings(TEMPLATES=templates):
        response = client.get("/raising", headers={"accept": "text/html"})
    assert response.status_code == 503
    assert response["Content-Type"].startswith("text/html")
    assert b"try again in 7 s" in response.content


@pytest.mark.parametrize("code", [1040, 1053, 1927, 2002, 2003, 2005, 2006, 3032, 4031])
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_database_that_cannot_be_reached_is_503(
    code: int, method: str, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    errors[:] = [OperationalError(code, "as the driver says it")]
    response = getattr(client, method)("/raising")
    assert response.status_code == 503
    assert response["Retry-After"]
    # Somebody has to look after it: it is logged as an error, with its traceback.
    assert [(r.levelname, bool(r.exc_info)) for r in caplog.records if r.name == "pooling.busy"] == [("ERROR", True)]


def test_a_statement_whose_outcome_is_unknown_is_503_only_where_it_may_be_repeated(client: Client) -> None:
    errors[:] = [OperationalError(2013, "Lost connection to server during query")]
    assert client.get("/raising").status_code == 503
    with pytest.raises(OperationalError):
        client.post("/raising")


@pytest.mark.parametrize("code", [1045, 1049, 1205, 1213])
def test_other_codes_of_the_database_are_left_alone(code: int, client: Client) -> None:
    errors[:] = [OperationalError(code, "x")]
    with pytest.raises(OperationalError):
        client.get("/raising")


def test_a_session_killed_by_the_server(transactional_db: None, client: Client) -> None:
    """The server's own words, not ours: what a query raises after its session was killed is one of the codes."""
    try:
        assert client.get("/killed").status_code == 503
    finally:
        connection.close()  # the test client does not end requests as a server does


def test_an_error_page_that_needs_the_database_as_well() -> None:
    errors[:] = [wrapped(PoolTimeout("x"))]
    urlconf = types.ModuleType("urls_with_handler")
    urlconf.__dict__.update(urlpatterns=urlpatterns, handler500=failing_handler)
    with with_inner("Login"), override_settings(ROOT_URLCONF=urlconf):
        assert Client(raise_request_exception=False).get("/fine").status_code == 503
