"""For pytest. In ``conftest.py``: ``from pooling.testing.fixtures import pooling_isolated``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .isolation import isolated


@pytest.fixture
def pooling_isolated(request: pytest.FixtureRequest) -> Iterator[None]:
    """The test is `isolated`. ``usefixtures = pooling_isolated`` in pytest's settings does it for all tests."""
    with isolated(request.node.nodeid):
        yield
