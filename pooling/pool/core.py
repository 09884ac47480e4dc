"""The connection pool."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Generic

from .driver import C, Driver
from .options import PoolOptions


class ConnectionPool(Generic[C]):
    """At most ``options.max_size`` connections, lent to one thread each. Safe to use from any thread."""

    def __init__(
        self,
        driver: Driver[C],
        options: PoolOptions = PoolOptions(),  # noqa: B008 - frozen
        *,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        raise NotImplementedError

    def open(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def getconn(self, timeout: float | None = None) -> C:
        raise NotImplementedError

    def putconn(self, conn: C) -> None:
        raise NotImplementedError

    def discard(self, conn: C) -> None:
        raise NotImplementedError

    def connection(self, timeout: float | None = None) -> AbstractContextManager[C]:
        raise NotImplementedError

    def check(self) -> None:
        raise NotImplementedError

    def drain(self) -> None:
        raise NotImplementedError

    def resize(self, min_size: int, max_size: int | None = None) -> None:
        raise NotImplementedError

    def wait(self, timeout: float = 30.0) -> None:
        raise NotImplementedError

    def get_stats(self) -> dict[str, int]:
        raise NotImplementedError

    def pop_stats(self) -> dict[str, int]:
        raise NotImplementedError
