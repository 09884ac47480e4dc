from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_the_backend_under_gevents_monkey_patching(python: Callable[..., Any]) -> None:
    program = python("tests/concurrency/programs/greenlets.py", TEST_POOL='{"max_size": 3, "max_idle": 2}')
    assert program.done().endswith("fine\n")
