"""What is to happen in a forked child, also where `os.register_at_fork` is not heard of.

uWSGI forks its workers in C and, unless told ``py-call-osafterfork``, runs none of Python's hooks: workers of a site
that was loaded before the fork would all speak on the same inherited sessions. It has a hook of its own instead, which
its module ``uwsgidecorators`` takes for itself when it is imported; so we go through that one where it is to be had.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable

_chain: list[Callable[[], None]] = []


def after_in_child(function: Callable[[], None]) -> None:
    """Call ``function`` in each forked child, before anything else runs there. It may be called twice in a row."""
    os.register_at_fork(after_in_child=function)
    if not _chain and "uwsgi" in sys.modules:
        _hook_into_uwsgi()
    _chain.append(function)


def _run() -> None:
    for function in _chain:
        function()


def _hook_into_uwsgi() -> None:
    try:
        importlib.import_module("uwsgidecorators").postfork_chain.append(_run)
    except Exception:  # noqa: BLE001 - it is not installed, or refuses to work without a master process
        uwsgi = sys.modules["uwsgi"]
        before = getattr(uwsgi, "post_fork_hook", None)

        def both() -> None:
            _run()
            if before is not None:
                before()

        uwsgi.post_fork_hook = both  # type: ignore[attr-defined]
