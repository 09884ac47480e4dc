"""When connection parameters are the same as others, or as they were."""

from __future__ import annotations

from collections.abc import Mapping
from types import MethodType
from typing import Any


def frozen(value: Any) -> Any:
    """A hashable stand-in for a connection parameter: equal for equal values, and for nothing else we pass."""
    if isinstance(value, Mapping):
        return tuple(sorted(((repr(key), frozen(item)) for key, item in value.items()), key=lambda pair: pair[0]))
    if isinstance(value, (list, tuple)):
        return tuple(frozen(item) for item in value)
    if value is None or isinstance(value, (str, bytes, int, float)):
        return type(value).__name__, value
    if isinstance(value, MethodType):
        return "method", value  # a new object at every access, equal if function and instance are
    return "object", id(value)


def snapshot(value: Any) -> Any:
    """``value`` as it is now: equal to it for as long as none of its dicts, lists and tuples is changed in place."""
    if isinstance(value, Mapping):
        return {key: snapshot(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        copies = [snapshot(item) for item in value]
        return tuple(copies) if isinstance(value, tuple) else copies
    return value
