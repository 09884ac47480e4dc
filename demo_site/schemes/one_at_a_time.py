"""One lock around every request: what "make it thread-safe" often comes to."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from demo_site.lab import waits


class OneAtATime:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response
        self.lock = waits.lock()

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with self.lock:
            return self.get_response(request)
