"""The lab's pages. Whoever is signed in may start a run; there is one at a time."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from . import pictures, records
from .forms import PlanForm
from .plan import Plan
from .run import NAME, OUTPUT, Busy, cancel, start

_SHOWN = 10
_started: list[subprocess.Popen[bytes]] = []


def _folder() -> Path:
    return Path(settings.RUN_DIR) / "lab"


def _start(plan: Plan) -> str:
    folder, process = start(plan, _folder())
    _started[:] = [one for one in [*_started, process] if one.poll() is None]  # asked, so that none stays a zombie
    return folder.name


def _read(name: str) -> records.Run:
    if not NAME.fullmatch(name):
        raise Http404
    try:
        return records.read(_folder() / name)
    except records.Unreadable:
        raise Http404 from None


def _earlier() -> list[records.Run]:
    found = []
    for path in sorted(_folder().glob("*-*-*"), reverse=True):
        if NAME.fullmatch(path.name) and len(found) < _SHOWN:
            try:
                found.append(records.read(path))
            except records.Unreadable:
                continue  # of a version of the demo with other schemes
    return found


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    form = PlanForm(request.POST if request.method == "POST" else None)
    status = 200
    if request.method == "POST":
        if form.is_valid():
            try:
                return redirect("lab-run", _start(form.cleaned_data["plan"]))
            except Busy as error:
                form.add_error(None, str(error))
                status = 409
        else:
            status = 400
    return render(request, "lab/index.html", {"form": form, "runs": _earlier()}, status=status)


@never_cache
@login_required
@require_safe
def run(request: HttpRequest, name: str) -> HttpResponse:
    return render(request, "lab/run.html", _context(name))


@never_cache
@login_required
@require_POST
def end(request: HttpRequest, name: str) -> HttpResponse:
    """Stop a run before its time; whoever may start one may."""
    _read(name)
    cancel(_folder() / name)
    return redirect("lab-run", name)


@never_cache
@login_required
@require_safe
def state(request: HttpRequest, name: str) -> HttpResponse:
    """What of the page changes, for the script that puts it in."""
    context = _context(name)
    response = render(request, "lab/state.html", context)
    response["X-Run-Over"] = "1" if context["run"].over else "0"
    return response


def _context(name: str) -> dict[str, Any]:
    found = _read(name)
    now = f"{found.now} See {_folder() / name / OUTPUT}." if found.died else found.now
    return {
        "run": found,
        "now": now,
        "percent": round(100 * found.progress),
        "charts": pictures.charts(found),
        "waits": [(scheme, pictures.waits(scheme)) for scheme in found.schemes],
    }
