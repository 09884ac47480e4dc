"""What a published document must look like: whoever shows it relies on these parts, and on their types.

Others than this version's code may have written it, and a page about a site in trouble must not fail itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import FunctionType
from typing import Any, Final

from .here import COLUMNS

# A type; a list of one form for all items; a dict of forms for its keys, where more keys do no harm; `float` for any
# finite number; or a function that raises ValueError.
Form = Any

_MOST: Final = 2.0**63  # of any number: what is larger was not counted by anybody, and some sums would overflow
_BUCKETS: Final = 66
_MOST_IN_A_BUCKET: Final = 2**48  # so that those of all processes have room in 64 bits


def _counts(value: object, where: str) -> None:
    """A number for each of some words."""
    check(value, dict, where)
    assert isinstance(value, dict)
    for key, number in value.items():
        check(key, str, f"a key of {where}")
        check(number, int, f"{where}[{key!r}]")


def _buckets(value: object, where: str) -> None:
    _counts(value, where)
    assert isinstance(value, dict)
    for key, number in value.items():
        if not (key.isdecimal() and int(key) < _BUCKETS and 0 <= number < _MOST_IN_A_BUCKET):
            raise ValueError(f"{where} has no bucket {key!r} with {number}")


def _history(value: object, where: str) -> None:
    check(value, {"every": float, "columns": list, "rows": [[int]]}, where)
    assert isinstance(value, dict)
    if value["columns"] != list(COLUMNS) or any(len(row) != len(COLUMNS) for row in value["rows"]):
        raise ValueError(f"{where} has other columns")


_HOLDER: Final = {"thread": str, "view": str, "seconds": float, "stack": [str]}
_STATS: Final = dict.fromkeys(
    ("requests_num", "requests_errors", "connections_num", "connections_errors", "connections_lost", "returns_bad"), int
)
_TIMES: Final = {"count": int, "total": float, "max": float, "p50": float, "p99": float, "buckets": _buckets}
_POOL: Final = {
    **dict.fromkeys(("name", "server", "state", "error"), str),
    **dict.fromkeys(("min", "max", "size", "idle", "busy", "connecting", "waiting"), int),
    "stats": _STATS,
    "wait": _TIMES,
    "holders": [_HOLDER],
}
_GROUP: Final = {"group": str, "timeouts": int, "writes": int, "hold": _TIMES, "wait": _TIMES}
_VIEW: Final = {
    "view": str,
    **dict.fromkeys(("hits", "collapsed", "misses", "stored", "stored_bytes", "not_modified"), int),
    **dict.fromkeys(("failed", "computed", "waits"), int),
    **dict.fromkeys(("hits_by", "misses_by", "not_stored", "bypassed"), _counts),
    **dict.fromkeys(("compute_seconds", "wait_seconds"), float),
}
_ERROR: Final = {**dict.fromkeys(("kind", "level", "text", "view"), str), "at": float, "count": int}
DOCUMENT: Final = {
    "version": int,
    "process": {
        **dict.fromkeys(("id", "host", "program", "python", "django", "pooling"), str),
        "pid": int,
        "started": float,
    },
    "at": float,
    "pools": [_POOL],
    "groups": [_GROUP],
    "cache": {"views": [_VIEW], "near": {"entries": int, "bytes": int, "limit": int}},
    "store": {"kind": str, "shared": bool, "state": str, "error": str},
    "errors": [_ERROR],
    "history": _history,
}


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
    elif isinstance(form, FunctionType):
        form(value, where)
    elif not isinstance(value, form):
        raise ValueError(f"{where} is no {form.__name__}")
    elif isinstance(value, str):
        value.encode()  # half a character, which JSON can have, no page can show
