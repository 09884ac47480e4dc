"""What a thread is at: for the holder of a connection, the view that it runs and where it stands.

Looked up when somebody wants to know, so that no request pays for it. Of a frame its code and its line are told; the
only values that are looked at are the request in the frames of Django and asgiref that call a view.
"""

from __future__ import annotations

import os
import sys
from types import CodeType, FrameType
from typing import Any

from asgiref.sync import SyncToAsync
from django.core.handlers.base import BaseHandler
from django.http import HttpRequest

DEPTH = 25  # innermost frames that are told
_CALLS_VIEW: CodeType = getattr(BaseHandler, "_get_response").__code__  # noqa: B009 - the stubs know only what is public
_CALLS_SYNC: CodeType = SyncToAsync.thread_handler.__code__


def at_work(ident: int | None, with_stack: bool) -> tuple[str, list[str]]:
    """View and stack of a thread, innermost first; "" and [] where that is not known, or the stack was not asked for.

    ``ident`` is that of `threading.Thread.ident`. Greenlets of one thread cannot be told apart: they get its stack.
    """
    frame: FrameType | None = sys._current_frames().get(ident) if ident is not None else None
    view = ""
    stack: list[str] = []
    while frame is not None:
        code = frame.f_code
        if with_stack and len(stack) < DEPTH:
            stack.append(f"{_short(code.co_filename)}:{frame.f_lineno} in {code.co_qualname}")
        if not view:
            view = _view(frame)
        frame = frame.f_back
    return view, stack


def _view(frame: FrameType) -> str:
    if frame.f_code is _CALLS_VIEW:
        request = frame.f_locals.get("request")
    elif frame.f_code is _CALLS_SYNC:
        request = next(iter(frame.f_locals.get("args") or ()), None)
    else:
        return ""
    match: Any = request.resolver_match if isinstance(request, HttpRequest) else None
    return match._func_path if match is not None else ""


def _short(path: str) -> str:
    """The last three parts: which file it is, not where the site lies."""
    return "/".join(path.split(os.sep)[-3:])
