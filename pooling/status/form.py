"""What a published document must look like: whoever shows it relies on these parts, and on their types.

Others than this version's code may have written it, and a page about a site in trouble must not fail itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# A type; a list of one form for all items; a dict of forms for its keys, where more keys do no harm; and `float` for
# any finite number.
Form = Any

_HOLDER: Final = {"thread": str, "view": str, "seconds": float, "stack": [str]}
_STATS: Final = dict.fromkeys(
    ("requests_num", "requests_errors", "connections_num", "connections_errors", "connections_lost", "returns_bad"), int
)
_TIMES: Final = {"count": int, "total": float, "max": float, "p50": float, "p99": float, "buckets": dict}
_POOL: Final = {
    **dict.fromkeys(("name", "server", "state", "error"), str),
    **dict.fromkeys(("min", "max", "size", "idle", "busy", "connecting", "waiting"), int),
    "stats": _STATS,
    "wait": _TIMES,
    "holders": [_HOLDER],
}
_GROUP: Final = {"group": str, "timeouts": int, "writes": int, "hold": _TIMES, "wait": _TIMES}
DOCUMENT: Final = {
    "process": {
        **dict.fromkeys(("id", "host", "program", "python", "django", "pooling"), str),
        "pid": int,
        "started": float,
    },
    "at": float,
    "pools": [_POOL],
    "groups": [_GROUP],
    "cache": {"views": [dict], "near": {"entries": int, "bytes": int, "limit": int}},
    "store": {"kind": str, "shared": bool, "state": str, "error": str},
    "errors": [dict],
    "history": {"every": float, "columns": [str], "rows": [[int]]},
}
_MOST: Final = 2.0**63  # of any number: what is larger was not counted by anybody, and some sums would overflow


def check(value: object, form: Form = DOCUMENT, where: str = "document") -> None:
    """ValueError, naming the part, unless ``value`` has this form."""
    if isinstance(form, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} is no object")
        for key, inner in form.items():
            if key not in value:
                raise ValueError(f"{where} has no {key!r}")
            check(value[key], inner, f"{where}[{key!r}]")
    elif isinstance(form, list):
        if not isinstance(value, list):
            raise ValueError(f"{where} is no list")
        for at, item in enumerate(value):
            check(item, form[0], f"{where}[{at}]")
    elif form in (int, float):
        kinds = (int,) if form is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not abs(value) < _MOST:
            raise ValueError(f"{where} is no number")
    elif not isinstance(value, form):
        raise ValueError(f"{where} is no {form.__name__}")
