"""`ServerTimingMiddleware`: what a request waited for here, in the header ``Server-Timing``, which browsers show."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest

from .moments import Answered, Checkout, LockWaited, Moment, PageAwaited, PageMade, Recording

HEADER = "Server-Timing"


class ServerTimingMiddleware:
    """Adds ``Server-Timing: pool;dur=0.1, lock;dur=12.5, cache;desc="miss", compute;dur=31.0`` (milliseconds).

    ``pool``     waiting for connections, connecting included.
    ``lock``     waiting for groups, and for another request that makes the same page.
    ``cache``    "hit", "stale", "collapsed", "miss" or "bypass": what `locked_cache` did, once for each of its views.
    ``compute``  the view, after a miss, to the end of its COMMIT.

    Only what happened is there. How long things take can tell an attacker what is in them, so not everybody sees it:
    with DEBUG all do, else staff. It asks for no user itself, which would cost a query and make answers vary by cookie:
    a request counts as one of staff if something further in has asked for its user, as the admin and each view that
    looks at ``request.user`` do. For another rule override `may_see`.

    The header goes behind one that is there. It belongs before all other middlewares: what is further out is not
    measured, and Django's UpdateCacheMiddleware would keep the header with the page. Requests that cannot be of staff,
    without a session's cookie, are not measured either.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._async = iscoroutinefunction(get_response)
        if self._async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if not self.may_be_seen(request):
            return self.get_response(request)
        if self._async:
            return self._acall(request)
        with Recording() as recording:
            response = self.get_response(request)
        return self._tell(request, response, recording)

    async def _acall(self, request: HttpRequest) -> Any:
        with Recording() as recording:
            response = await self.get_response(request)
        return self._tell(request, response, recording)

    def may_be_seen(self, request: HttpRequest) -> bool:
        """Before the view: is it worth to measure? It must not look at ``request.user``."""
        return settings.DEBUG or settings.SESSION_COOKIE_NAME in request.COOKIES

    def may_see(self, request: HttpRequest) -> bool:
        """After the view: is the header for this visitor?"""
        if settings.DEBUG:
            return True
        # Where Django keeps the user that was asked for, in sync and in async code.
        user = getattr(request, "_cached_user", None) or getattr(request, "_acached_user", None)
        return bool(getattr(user, "is_active", False) and getattr(user, "is_staff", False))

    def _tell(self, request: HttpRequest, response: Any, recording: Recording) -> Any:
        found = metrics(recording.moments)
        if found and self.may_see(request):
            if earlier := response.headers.get(HEADER):
                found.insert(0, earlier)
            response.headers[HEADER] = ", ".join(found)
        return response


def metrics(moments: Iterable[Moment]) -> list[str]:
    """The entries of the header."""
    seconds: dict[str, float] = {}
    answers = []
    for moment in moments:
        match moment:
            case Checkout():
                name = "pool"
            case LockWaited() | PageAwaited():
                name = "lock"
            case PageMade():
                name = "compute"
            case Answered():
                answers.append(f'cache;desc="{moment.outcome}"')
                continue
            case _:
                continue
        seconds[name] = seconds.get(name, 0.0) + moment.seconds
    timed = {name: f"{name};dur={total * 1000:.1f}" for name, total in seconds.items()}
    waits = [timed[name] for name in ("pool", "lock") if name in timed]
    return [*waits, *answers, *(timed[name] for name in ("compute",) if name in timed)]
