"""Documents as processes publish them, for tests that need several."""

from __future__ import annotations

from typing import Any

from pooling.histogram import Histogram, bucket_of
from pooling.status import here


def histogram(*seconds: float, zeros: int = 0) -> dict[str, Any]:
    made = Histogram()
    for one in seconds:
        made.add(one, bucket_of(one))
    return made.as_json(zeros)


def pool(name: str = "default", **changes: Any) -> dict[str, Any]:
    counters = (
        *("requests_num", "requests_queued", "requests_wait_ms", "requests_errors", "usage_ms"),
        *("returns_bad", "connections_num", "connections_ms", "connections_errors", "connections_lost"),
    )
    return {
        **{"name": name, "server": "db:3306/shop", "state": "up", "min": 2, "max": 8, "size": 5, "idle": 3, "busy": 2},
        **{"connecting": 0, "waiting": 0, "stats": dict.fromkeys(counters, 0), "wait": histogram(), "holders": []},
        **{"error": "", **changes},
    }


def group(name: str, waits: tuple[float, ...] = (), holds: tuple[float, ...] = (0.1,)) -> dict[str, Any]:
    return {
        **{"group": name, "asked": len(holds), "waited": len(waits), "timeouts": 0, "writes": len(holds)},
        **{"hold": histogram(*holds), "wait": histogram(*waits, zeros=len(holds) - len(waits))},
    }


def document(pid: int = 1, host: str = "web", **changes: Any) -> dict[str, Any]:
    return {
        "version": here.VERSION,
        "process": {
            **{"id": f"{host}:{pid}:abc", "host": host, "pid": pid, "program": "gunicorn", "started": 1.0},
            **{"python": "3.12.1", "django": "5.2", "pooling": "0.1.0"},
        },
        "every": 5.0,
        "at": 100.0,
        "pools": [pool()],
        "groups": [],
        "cache": {"views": [], "near": {"entries": 0, "bytes": 0, "limit": 1}},
        "store": {"kind": "redis", "shared": True, "state": "up", "error": ""},
        "errors": [],
        "history": {"every": 5.0, "columns": list(here.COLUMNS), "rows": []},
        **changes,
    }
