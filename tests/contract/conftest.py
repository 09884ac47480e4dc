"""The stores that the contract suite runs against. A new store adds a harness here, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pytest

from pooling.store.memory import MemoryStore
from pooling.store.protocol import Store


class Harness(Protocol):
    """One kind of store under test."""

    store: Store

    def elapse(self, seconds: float) -> None:
        """Make the store believe that so many seconds have passed, for leases, patience and times to live."""

    def at_rest(self) -> int:
        """How many records of locks (not epochs, not entries) the store keeps now."""

    def close(self) -> None: ...


class MemoryHarness:
    def __init__(self) -> None:
        self.now = 1000.0
        self.store = MemoryStore(clock=lambda: self.now, entry_bytes=100_000)

    def elapse(self, seconds: float) -> None:
        self.now += seconds

    def at_rest(self) -> int:
        table = self.store._table
        return len(table.tickets) + len(table._nodes) + len(table.woken)

    def close(self) -> None:
        self.store.close()


HARNESSES = {"memory": MemoryHarness}


@pytest.fixture(params=HARNESSES)
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    made = HARNESSES[request.param]()
    yield made
    made.close()


@pytest.fixture
def store(harness: Harness) -> Store:
    return harness.store
