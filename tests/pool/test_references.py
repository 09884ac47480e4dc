"""The reference counts that tell a lost connection from one in use are not spoilt by a tracer at import."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys

kept = []


def tracer(frame, event, arg):
    # Not of the standard library: Python 3.12 has modules that look through their own variables while they are made.
    if "pooling" in frame.f_code.co_filename:
        kept.append(frame.f_locals)  # before Python 3.13 a dict that refers to all variables
    return tracer


if sys.argv[1:] == ["traced"]:
    sys.settrace(tracer)
from pooling.pool import state
from pooling.backends.mysql import release

sys.settrace(None)
print(state._LOST_SLOT, state._LOST_CONN, release._ALONE)
"""


def counts(*arguments: str) -> list[int]:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return [int(word) for word in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]


def test_a_debugger_at_import_makes_nothing_in_use_look_lost() -> None:
    plain, traced = counts(), counts("traced")
    assert len(plain) == 3
    assert all(watched <= usual for watched, usual in zip(traced, plain, strict=True))
