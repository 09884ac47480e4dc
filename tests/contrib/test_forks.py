"""What a forked child of a process with several threads finds: no mutex that a thread of its parent has."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from pooling.contrib import opentelemetry
from pooling.contrib._labels import GroupLabels
from pooling.status import recent

labels = GroupLabels()


@pytest.mark.parametrize(
    ("mutex", "use"),
    [
        (lambda: labels._mutex, lambda: labels.of("accounts/7")),
        (lambda: opentelemetry._mutex, opentelemetry.uninstrument),
        (lambda: recent._installing, recent.listen),
    ],
    ids=["labels", "opentelemetry", "recent"],
)
def test_a_child_that_was_forked_while_another_thread_was_inside(
    mutex: Callable[[], threading.Lock], use: Callable[[], object]
) -> None:
    with mutex():
        child = os.fork()
        if child == 0:  # pragma: no cover
            went_on = threading.Event()
            threading.Thread(target=lambda: (use(), went_on.set()), daemon=True).start()
            os._exit(0 if went_on.wait(20) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
