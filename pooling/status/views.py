"""The status page, the part of it that is fetched again and again, and its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.apps import apps
from django.db import DatabaseError, connections
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.templatetags.static import static
from django.urls import reverse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from .. import conf, fences
from ..models import Fence
from . import said
from .access import admin_is_there, may_operate, programs_only, staff_only
from .fleet import Fleet, look
from .shown import shown, shown_groups

_ASSETS = {"status.css": "text/css; charset=utf-8", "status.js": "text/javascript; charset=utf-8"}
_FOLDER = Path(__file__).resolve().parent.parent / "static" / "pooling"
_LONGEST = 200  # characters of what is searched for


@staff_only
@require_safe
def status(request: HttpRequest) -> HttpResponse:
    """The whole page."""
    context = {"said": said.take(request), "part": reverse("pooling:part"), **_state(request, _words(request))}
    answer = show(request, "pooling/status.html", "Pooling", **context)
    said.forget(request, answer)
    return answer


@staff_only
@require_safe
def part(request: HttpRequest) -> HttpResponse:
    """What of the page changes, for the script that puts it in."""
    return render(request, "pooling/status_state.html", _state(request, _words(request)))


@programs_only
@require_safe
def as_json(request: HttpRequest) -> HttpResponse:
    """All that is known, for programs."""
    text = json.dumps(look().as_dict(), allow_nan=False)
    # In strings only, and equal to what they stand for there: whatever takes it for HTML finds no tag.
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return HttpResponse(text, content_type="application/json", headers={"X-Content-Type-Options": "nosniff"})


@cache_control(max_age=300)
@require_safe
def asset(request: HttpRequest, name: str) -> HttpResponse:
    """Style sheet and script where `staticfiles` is not installed, so that nobody else would serve them."""
    if name not in _ASSETS:
        raise Http404
    return HttpResponse(
        (_FOLDER / name).read_bytes(), content_type=_ASSETS[name], headers={"X-Content-Type-Options": "nosniff"}
    )


# -- for the actions, too


def show(request: HttpRequest, template: str, title: str, status: int = 200, **context: Any) -> HttpResponse:
    """A page in the admin's look where there is an admin, else in one of its own."""
    in_admin = admin_is_there()
    around: dict[str, Any] = {}
    if in_admin:
        from django.contrib import admin

        # Without the list of the apps at the side: the tables need the room.
        around = {**admin.site.each_context(request), "is_nav_sidebar_enabled": False}
    return render(
        request,
        template,
        {
            **around,
            "base": "admin/base_site.html" if in_admin else "pooling/status_base.html",
            "in_admin": in_admin,
            "title": title,
            "style": _asset_url("status.css"),
            "script": _asset_url("status.js"),
            **context,
        },
        status=status,
    )


def _asset_url(name: str) -> str:
    if apps.is_installed("django.contrib.staticfiles"):
        return static(f"pooling/{name}")
    return reverse("pooling:asset", args=[name])


def _words(request: HttpRequest) -> str:
    return request.GET.get("q", "")[:_LONGEST]


def _state(request: HttpRequest, words: str) -> dict[str, Any]:
    fleet = look()
    every = conf.settings().PUBLISH_SECONDS
    return {
        **shown(fleet, words, _fences(fleet, words)),
        "every": f"{every:g}" if fleet.shared and every else "",
        "operator": may_operate(request),
    }


def _fences(fleet: Fleet, words: str) -> dict[str, int] | None:
    """The newest tokens that holders have claimed, of the groups that are shown; None where there are no fences.

    One short statement on connections that this request has already: nothing waits for it, nor is a database asked
    that the site does not use just now.
    """
    if not (fleet.shared and conf.settings().FENCE):
        return None
    names = shown_groups(fleet, words)
    found: dict[str, int] = {}
    for connection in connections.all(initialized_only=True):
        if connection.connection is None or not fences.is_fenced(connection.alias):
            continue
        try:
            claimed = Fence.objects.using(connection.alias).filter(grp__in=names).values_list("grp", "token")
            for name, token in claimed:
                found[name] = max(token, found.get(name, 0))
        except DatabaseError:
            continue  # no such table there: views write elsewhere
    return found
