"""`BusyMiddleware`: what cannot be served in time is answered 503 with Retry-After instead of 500."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.core.signals import got_request_exception
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.template import TemplateDoesNotExist
from django.template.loader import render_to_string

from . import sightings
from .errors import FenceRejected, LockLost, LockTimeout, PoolFull, PoolingError, PoolTimeout, StoreUnavailable
from .signals import busy
from .spec import name_of
from .trace import trace_of

logger = logging.getLogger("pooling.busy")

BUSY = (PoolTimeout, PoolFull, LockTimeout, LockLost, FenceRejected, StoreUnavailable)
# What client library and server say when there is no server to talk to, or no room on it: nothing was carried out.
UNREACHABLE = frozenset({1040, 1053, 1927, 2002, 2003, 2005, 2006, 3032, 4031})
# The connection was lost while an answer was awaited. If the statement was a COMMIT, it may have happened.
OUTCOME_UNKNOWN = frozenset({2013, 2055})
REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})

TEXT = "Busy at the moment. Please try again in {} s.\n"
PAGE = '<!doctype html>\n<html lang="en"><title>Busy at the moment</title><p>{}</p></html>\n'
_REMEMBERED = "_pooling_busy"


def busy_error(error: BaseException | None, method: str | None = None) -> PoolingError | OperationalError | None:
    """The error of ours that ``error`` is, or that an OperationalError stands for, or an OperationalError that says
    that the database cannot be reached; None for all others.

    A connection lost in the middle of a statement counts only if the request's ``method`` may be repeated: told to try
    again after a COMMIT that did happen, a visitor would order twice.
    """
    if isinstance(error, BUSY):
        return error
    if not isinstance(error, OperationalError):
        return None
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, BUSY):
            return cause
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    code = error.args[0] if error.args else None
    if code in UNREACHABLE or (code in OUTCOME_UNKNOWN and method in REPEATABLE):
        return error
    return None


def busy_response(request: HttpRequest, error: PoolingError | OperationalError) -> HttpResponse:
    """503 as HTML, JSON or plain text, whichever the client likes best. The error's text stays in the log: it names
    views and hosts."""
    seconds = max(1, int(getattr(error, "retry_after", PoolingError.retry_after)))
    kind = request.get_preferred_type(["text/html", "application/json", "text/plain"])
    response: HttpResponse
    if kind == "application/json":
        response = JsonResponse({"error": "busy", "retry_after": seconds}, status=503)
    elif kind == "text/html":
        response = HttpResponse(_page(seconds), status=503)
    else:
        response = HttpResponse(TEXT.format(seconds), status=503, content_type="text/plain; charset=utf-8")
    response["Retry-After"] = str(seconds)
    response["Cache-Control"] = "no-store"
    response["Vary"] = "Accept"
    return response


def _page(seconds: int) -> str:
    try:
        return render_to_string("pooling/busy.html", {"retry_after": seconds})
    except TemplateDoesNotExist:  # a project without APP_DIRS, or with no engine at all
        return PAGE.format(TEXT.format(seconds).strip())


def _view_of(request: HttpRequest) -> str:
    """The dotted name of the view, as locks and pages have it; nothing if the request has not come that far."""
    match = request.resolver_match
    return "" if match is None else name_of(getattr(match.func, "view_class", match.func))


def _route_of(request: HttpRequest) -> str:
    """Where the request went, as the URLs have it: a path itself may be a secret, such as that of a new password."""
    match = request.resolver_match
    return "(no view yet)" if match is None else match.route


def _remember(sender: Any, request: HttpRequest | None = None, **kwargs: Any) -> None:
    # Sent by Django inside its `except`, once for each error that it turns into a 500. The last one counts: what came
    # before it was not what the answer is about.
    if request is not None:
        setattr(request, _REMEMBERED, busy_error(sys.exc_info()[1], request.method))


got_request_exception.connect(_remember, dispatch_uid="pooling.middleware")


class BusyMiddleware:
    """Answers PoolTimeout, PoolFull, LockTimeout, LockLost, FenceRejected and StoreUnavailable with 503, and so an
    OperationalError that says that the database cannot be reached.

    Views' errors come to `process_exception`. Those of the middlewares further in are made a 500 by Django on the spot;
    that 500 is replaced here, so this middleware belongs before all that use the database or a session.
    The page is the template ``pooling/busy.html`` with ``retry_after`` (seconds). Other exceptions are left alone.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._async = iscoroutinefunction(get_response)
        if self._async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self._async:
            return self._acall(request)
        try:
            response = self.get_response(request)
        except Exception as error:  # the project's handler500 failed as well
            if (answer := self.process_exception(request, error)) is None:
                raise
            return answer
        return self._instead_of(request, response) if response.status_code == 500 else response

    async def _acall(self, request: HttpRequest) -> Any:
        sightings.begin()  # under ASGI Django's signal sets nothing in the request's own context
        try:
            response = await self.get_response(request)
        except Exception as error:
            if (answer := await sync_to_async(self.process_exception)(request, error)) is None:
                raise
            return answer
        # In the thread for synchronous code: receivers and the project's template may want the database.
        return await sync_to_async(self._instead_of)(request, response) if response.status_code == 500 else response

    def _instead_of(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        error = getattr(request, _REMEMBERED, None)
        return response if error is None else self._answer(request, error)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        """Django calls it with what a view raised."""
        error = busy_error(exception, request.method)
        return None if error is None else self._answer(request, error)

    def _answer(self, request: HttpRequest, error: PoolingError | OperationalError) -> HttpResponse:
        ours = isinstance(error, PoolingError)
        logger.log(
            logging.WARNING if ours else logging.ERROR,  # to be busy is normal, to have no database is not
            "503 %s %s: %s: %s",
            request.method,
            _route_of(request),
            type(error).__name__,
            error,
            exc_info=None if ours else error,
            extra={
                "view": _view_of(request),
                "trace": trace_of(request),
                "status_code": 503,
                "error": type(error).__name__,
                "retry_after": getattr(error, "retry_after", PoolingError.retry_after),
                "waited": getattr(error, "waited", 0.0),
            },
        )
        busy.send_robust(sender=type(error), request=request, error=error)
        return busy_response(request, error)
