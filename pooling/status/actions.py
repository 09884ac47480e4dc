"""What an operator does from the status page: asked about again on a page of its own, done by POST, and logged."""

from __future__ import annotations

import functools
import logging
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from .. import conf, runtime
from ..breaking import break_lock
from ..cache.invalidate import invalidate
from ..errors import GroupError, StoreUnavailable
from ..groups import validate
from ..locks.report import place, who
from ..store.protocol import Party
from . import orders, said, shown
from .access import View, operators_only
from .fleet import look
from .views import show
from .words import span

logger = logging.getLogger("pooling.operate")


def action(view: View) -> View:
    """For operators, by GET (to be asked) and POST. A store that is down is said on the status page."""

    @functools.wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        try:
            return view(request)
        except StoreUnavailable as error:
            return back(request, "bad", f"Not done, as far as can be told. {error}")

    return operators_only(require_http_methods(["GET", "HEAD", "POST"])(guarded))


@action
def break_(request: HttpRequest) -> HttpResponse:
    """Take a lock from its holder. A waiter has no lock yet; taken out of the queue, it would ask again."""
    ticket = given(request, "ticket")
    held = (party for party in runtime.store().parties() if party.holding and party.ticket == ticket)
    found = next(held, None)
    if request.method == "POST" and found is not None:
        found = break_lock(runtime.store(), ticket, by(request))
    if found is None:
        return back(
            request,
            "note",
            "Nobody has that lock any more: it was given back, or another operator was faster. Nothing was done.",
        )
    holder, where, groups = who(found.owner), place(found.owner), _groups(found)
    if request.method == "POST":
        return back(request, "good", f"The lock was taken from {holder}. Its view runs on; what it writes is refused.")
    lines = [
        f"{holder} ({where}) has held {groups} for {span(found.seconds)}.",
        "The next in the queue gets the groups. The view runs on, and its COMMIT is refused: one visitor gets an "
        "error, and nothing is left half written.",
        "Until its transaction ends, the database keeps the rows that it has written from others. Does it hang in a "
        "statement, end that there as well (KILL).",
    ]
    return ask(request, "Break this lock?", lines, "Break the lock", {"ticket": ticket})


@action
def invalidate_(request: HttpRequest) -> HttpResponse:
    """Make every page that was made from a group a miss."""
    group = given(request, "group").strip()
    title = "Invalidate a group?"
    try:
        validate(group)
    except GroupError as error:
        return ask(request, title, [], "Go on", {}, group=group, error=str(error), status=400)
    if not conf.settings().ENABLED:
        return back(request, "note", "POOLING['ENABLED'] is False: nothing is cached, so nothing was done.")
    if request.method == "POST":
        invalidate(group)
        logger.warning("%r invalidated %s", by(request), group, extra={"groups": [group]})
        return back(request, "good", f"Every page that was made from {group}, or from anything below it, is made anew.")
    lines = [
        f"Every page that was made from {group}, or from anything below it, is made anew when it is next asked for."
    ]
    return ask(request, title, lines, "Invalidate", {"group": group})


@action
def drain(request: HttpRequest) -> HttpResponse:
    """Have a pool's connections replaced, in one process or in all."""
    name, process = given(request, "pool"), given(request, "process")
    found = [pool for pool in look().pools if pool["name"] == name and process in ("", pool["process"])]
    if not found:
        return back(request, "note", "That pool is gone: its process has ended. Nothing was done.")
    where = f"in process {process}" if process else "in all processes"
    if request.method == "POST":
        orders.drain(name, process or None)
        logger.warning("%r drained the pool %r %s", by(request), name, where, extra={"pool": name})
        wait = (
            f" Other processes do it within {orders.lifetime() / 3:g} s."
            if runtime.store().shared and conf.settings().PUBLISH_SECONDS
            else ""
        )
        return back(request, "good", f"The pool {name} {where} replaces its connections.{wait}")
    lines = [
        f"The pool {name} {where}: {sum(pool['size'] for pool in found)} open, "
        f"{sum(pool['busy'] for pool in found)} of them in use.",
        "All are replaced: those that are idle now, the others when they come back. Nobody is interrupted.",
    ]
    return ask(request, "Drain this pool?", lines, "Drain the pool", {"pool": name, "process": process})


# -- details


def by(request: HttpRequest) -> str:
    """Who does it, for the log and for whoever's lock is broken."""
    found: Any = getattr(request, "user", None)
    return f"{found.get_username()} (status page)"


def given(request: HttpRequest, name: str) -> str:
    return (request.POST if request.method == "POST" else request.GET).get(name, "")


def back(request: HttpRequest, kind: str, text: str) -> HttpResponse:
    """To the status page, which says this. ``kind``: "good", "note" or "bad"."""
    answer = HttpResponseRedirect(reverse("pooling:status"))
    said.put(request, answer, kind, text)
    return answer


def ask(
    request: HttpRequest,
    title: str,
    lines: list[str],
    button: str,
    fields: dict[str, str],
    status: int = 200,
    **context: Any,
) -> HttpResponse:
    """The page that asks whether it is meant. ``fields`` are sent with the POST."""
    more = {"lines": lines, "button": button, "fields": fields, **context}
    return show(request, "pooling/status_ask.html", title, status, **more)


def _groups(party: Party) -> str:
    return ", ".join(f"{group} ({how})" for group, how in shown.wanted(party)) or "nothing"
