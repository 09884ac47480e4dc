"""A panel for django-debug-toolbar: what this request had of the pool, the locks and the page cache.

``"pooling.contrib.debug_toolbar.PoolingPanel"`` belongs into DEBUG_TOOLBAR_PANELS, beside the toolbar's own ones.
"""

from __future__ import annotations

from typing import Any

from debug_toolbar.panels import Panel
from django.http import HttpRequest

from ..moments import Answered, Checkout, LockHeld, LockWaited, PageAwaited, PageMade, Recording


class PoolingPanel(Panel):
    """Checkouts and their waits, groups that were waited for and held, and what became of cached pages."""

    title = "Pooling"
    template = "pooling/debug_toolbar.html"
    is_async = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._recording = Recording()

    def enable_instrumentation(self) -> None:
        self._recording.start()

    def disable_instrumentation(self) -> None:
        self._recording.stop()

    def generate_stats(self, request: HttpRequest, response: Any) -> None:
        self.record_stats(stats_of(self._recording))

    @property
    def nav_subtitle(self) -> str:
        stats = self.get_stats()
        if not stats:
            return ""
        outcomes = [page["outcome"] for page in stats["pages"]]
        cache = f", cache {', '.join(dict.fromkeys(outcomes))}" if outcomes else ""
        return f"{stats['waited']:.1f} ms waited{cache}"


def stats_of(recording: Recording) -> dict[str, Any]:
    """What the template shows: plain types, since the toolbar keeps it as JSON. Times in milliseconds."""
    checkouts: list[dict[str, Any]] = []
    locks: list[dict[str, Any]] = []
    pages: list[dict[str, Any]] = []
    made: dict[str, float] = {}
    awaited: dict[str, float] = {}
    for moment in recording.moments:
        match moment:
            case Checkout():
                checkouts.append(
                    {
                        "pool": moment.pool,
                        "milliseconds": moment.seconds * 1000,
                        "outcome": moment.error or ("waited" if moment.waited else "at once"),
                    }
                )
            case LockHeld():
                locks.append(_lock(moment, moment.waited, moment.seconds * 1000))
            case LockWaited(granted=False):
                locks.append(_lock(moment, moment.seconds, None))
            case PageAwaited():
                awaited[moment.view] = awaited.get(moment.view, 0.0) + moment.seconds
            case PageMade():
                made[moment.view] = moment.seconds
            case Answered():
                pages.append(
                    {
                        "view": moment.view,
                        "outcome": moment.outcome,
                        "status": "; ".join(moment.status),
                        "detail": moment.detail,
                        "made": _milliseconds(made.pop(moment.view, None)),
                        "waited": _milliseconds(awaited.pop(moment.view, None)),
                    }
                )
    waited = sum(one["milliseconds"] for one in checkouts) + sum(one["waited"] for one in locks)
    return {
        "checkouts": checkouts,
        "locks": locks,
        "pages": pages,
        "waited": waited + sum(page["waited"] or 0.0 for page in pages),
        "left_out": recording.left_out,
    }


def _lock(moment: LockHeld | LockWaited, waited: float, held: float | None) -> dict[str, Any]:
    return {
        "view": moment.view or "unnamed code",
        "reads": list(moment.reads),
        "writes": list(moment.writes),
        "waited": waited * 1000,
        "held": held,
    }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
