"""Fork: the child starts with empty pools and does not touch its parent's sessions."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from .._forks import after_in_child

if TYPE_CHECKING:
    from .state import State

_pools: weakref.WeakSet[State[Any]] = weakref.WeakSet()


def register(pool: State[Any]) -> None:
    _pools.add(pool)


def _in_child() -> None:
    for pool in list(_pools):
        pool._after_fork_in_child()


after_in_child(_in_child)
