"""The lab's pages. Whoever is signed in may start a run; there is one at a time."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from . import pictures, records
from .forms import PlanForm
from .plan import Plan
from .run import Busy, alone

_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
_SHOWN = 10


def _folder() -> Path:
    return Path(settings.RUN_DIR) / "lab"


def start(plan: Plan) -> str:
    """Begin a run in a process of its own, and say its name. Busy if there is one already."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    with alone(_folder()):  # it takes this itself; asked here as well, so that the visitor hears of it at once
        folder = _folder() / name
        folder.mkdir()
        (folder / "plan.json").write_text(json.dumps(plan.to_json()))
    with open(folder / "output.log", "wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "demo_site.lab.run", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,  # it ends with us, by itself, and cleans up before
        )
    _runs.append(process)
    return name


_runs: list[subprocess.Popen[bytes]] = []


def _running() -> bool:
    _runs[:] = [process for process in _runs if process.poll() is None]
    return bool(_runs)


def _read(name: str) -> records.Run:
    if not _NAME.fullmatch(name):
        raise Http404
    try:
        return records.read(_folder() / name)
    except FileNotFoundError:
        raise Http404 from None


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    form = PlanForm(request.POST if request.method == "POST" else None)
    status = 200
    if request.method == "POST":
        if form.is_valid():
            try:
                return redirect("lab-run", start(form.cleaned_data["plan"]))
            except Busy as error:
                form.add_error(None, str(error))
                status = 409
        else:
            status = 400
    earlier = sorted((path.name for path in _folder().glob("*-*-*") if _NAME.fullmatch(path.name)), reverse=True)
    runs = [records.read(_folder() / name) for name in earlier[:_SHOWN]]
    return render(request, "lab/index.html", {"form": form, "runs": runs}, status=status)


@never_cache
@login_required
@require_safe
def run(request: HttpRequest, name: str) -> HttpResponse:
    return render(request, "lab/run.html", _context(name))


@never_cache
@login_required
@require_safe
def state(request: HttpRequest, name: str) -> HttpResponse:
    """What of the page changes, for the script that puts it in."""
    context = _context(name)
    response = render(request, "lab/state.html", context)
    response["X-Run-Over"] = "1" if context["over"] else "0"
    return response


def _context(name: str) -> dict[str, object]:
    found = _read(name)
    died = not found.over and not _running()
    return {
        "run": found,
        "over": found.over or died,
        "now": "It ended without a word; its output is beside it." if died else found.now,
        "percent": round(100 * found.progress),
        "charts": pictures.charts(found),
        "waits": [(scheme, pictures.waits(scheme)) for scheme in found.schemes if scheme.ticks],
    }
