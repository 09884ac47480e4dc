from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pooling.pool import ConnectionPool, PoolOptions

from .scripted import Clock, Conn, ScriptedDriver


@pytest.fixture
def driver() -> ScriptedDriver:
    return ScriptedDriver()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(driver: ScriptedDriver) -> Iterator[Callable[..., ConnectionPool[Conn]]]:
    """A function that makes pools over ``driver``; they are closed at the end."""
    pools: list[ConnectionPool[Conn]] = []

    def build(*, clock: Any = None, name: str = "test", callbacks: Any = None, **options: Any) -> ConnectionPool[Conn]:
        more = {"clock": clock} if clock else {}
        pools.append(
            ConnectionPool(driver, PoolOptions(**{"timeout": 10.0, **options}), name=name, **more, **(callbacks or {}))
        )
        return pools[-1]

    yield build
    if driver.gate:
        driver.gate.set()
    if driver.close_gate:
        driver.close_gate.set()
    for pool in pools:
        pool.close()
