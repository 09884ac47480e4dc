"""Every test here starts and ends without locks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection

from pooling import runtime


@pytest.fixture(autouse=True)
def no_leftovers() -> Iterator[None]:
    runtime.reset_runtime()
    yield
    assert runtime.store().parties() == []
    assert runtime.manager().current() == ()


@pytest.fixture
def atomic_requests() -> Iterator[None]:
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    yield
    connection.settings_dict["ATOMIC_REQUESTS"] = False
