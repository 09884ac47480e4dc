"""`BusyMiddleware`: what cannot be served in time is answered 503 with Retry-After instead of 500."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.template.loader import render_to_string

from .errors import FenceRejected, LockLost, LockTimeout, PoolFull, PoolingError, PoolTimeout, StoreUnavailable
from .signals import busy

logger = logging.getLogger("pooling.busy")

BUSY = (PoolTimeout, PoolFull, LockTimeout, LockLost, FenceRejected, StoreUnavailable)
TEXT = "Busy at the moment. Please try again in {} s.\n"


def busy_error(error: BaseException) -> PoolingError | None:
    """The error of ours that ``error`` is, or that an OperationalError stands for; None for all others."""
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
    return None


def busy_response(request: HttpRequest, error: PoolingError) -> HttpResponse:
    """503 as HTML, JSON or plain text, whichever the client likes best. The error's text stays in the log: it names
    views and hosts."""
    seconds = max(1, int(error.retry_after))
    kind = request.get_preferred_type(["text/html", "application/json", "text/plain"])
    response: HttpResponse
    if kind == "application/json":
        response = JsonResponse({"error": "busy", "retry_after": seconds}, status=503)
    elif kind == "text/html":
        response = HttpResponse(render_to_string("pooling/busy.html", {"retry_after": seconds}), status=503)
    else:
        response = HttpResponse(TEXT.format(seconds), status=503, content_type="text/plain; charset=utf-8")
    response["Retry-After"] = str(seconds)
    response["Cache-Control"] = "no-store"
    response["Vary"] = "Accept"
    return response


class BusyMiddleware:
    """Answers PoolTimeout, PoolFull, LockTimeout, LockLost, FenceRejected and StoreUnavailable with 503.

    Views' errors come to `process_exception`; those of other middlewares further in are answered there by Django.
    The page is the template ``pooling/busy.html`` with ``retry_after`` (seconds). Other exceptions are left alone.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        """Django calls it with what a view raised."""
        error = busy_error(exception)
        if error is None:
            return None
        logger.warning(
            "503 %s %s: %s: %s", request.method, request.path, type(error).__name__, error, extra={"request": request}
        )
        busy.send_robust(sender=type(error), request=request, error=error)
        return busy_response(request, error)
