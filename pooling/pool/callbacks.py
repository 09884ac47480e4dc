"""The functions of the user's that the pool calls, under psycopg_pool's names. None is called under the pool's lock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

from .driver import C

if TYPE_CHECKING:
    from .core import ConnectionPool


@dataclass(frozen=True, slots=True)
class Callbacks(Generic[C]):
    """``configure``, ``reset``, ``check`` and ``reconnect_failed`` as `ConnectionPool` explains them.

    Raises TypeError for one that cannot be called.
    """

    configure: Callable[[C], object] | None = None
    reset: Callable[[C], object] | None = None
    check: Callable[[C], object] | None = None
    reconnect_failed: Callable[[ConnectionPool[C]], object] | None = None

    def __post_init__(self) -> None:
        for name in ("configure", "reset", "check", "reconnect_failed"):
            value: Any = getattr(self, name)
            if value is not None and not callable(value):
                raise TypeError(f"The pool's {name!r} must be a function or None, not {value!r}.")

    def resetting(self, reset: Callable[[C], bool]) -> Callable[[C], bool]:
        """What a return calls: the driver's ``reset`` alone if there is no other, so that a return pays nothing."""
        own = self.reset
        if own is None:
            return reset

        def both(conn: C) -> bool:
            # The driver's first: the user's function finds a session without a transaction, as psycopg_pool promises.
            return reset(conn) and own(conn) is not False

        return both


def never(conn: object) -> bool:
    """In the place of `Driver.alive` on the fast path: no connection is lent there, each is examined first."""
    return False
