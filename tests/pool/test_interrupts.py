"""An exception wherever the interpreter looks for one in checkout and return, as a signal handler may raise it.

CPython looks after calls, at the start of functions and at backward jumps, and nowhere else: not, for
instance, between a ``with`` block and the release of its lock.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from functools import cache
from types import CodeType, FrameType
from typing import Any

import pytest

from pooling.pool import ConnectionPool

from .scripted import Conn, ScriptedDriver, until

Make = Callable[..., ConnectionPool[Conn]]


class Stop(BaseException):
    pass


@cache
def operations(code: CodeType) -> dict[int, str]:
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}


def interrupted(number: int, action: Callable[[], object]) -> bool:
    """Run ``action``; raise Stop at the place with this number, counting those in the pool. Was there such a one?"""
    count = 0
    previous: dict[FrameType, str] = {}

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        if "pooling" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            here = operations(frame.f_code)[frame.f_lasti]
            count += here in ("RESUME", "JUMP_BACKWARD") or previous.get(frame, "").startswith("CALL")
            previous[frame] = here
            if count == number:
                previous.clear()  # frames refer to what they hold
                raise Stop
        return trace

    before = sys.gettrace()
    # Python 3.12 traces opcodes only if some frame asked for it before the trace function was set.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(trace)
    try:
        action()
    except Stop:
        return True
    finally:
        sys.settrace(before)
        previous.clear()
    return False


@pytest.mark.parametrize("clean", [True, False])
def test_no_place_is_lost_wherever_it_is_interrupted(make: Make, driver: ScriptedDriver, clean: bool) -> None:
    pool = make(max_size=2)

    def use() -> None:
        conn = pool.getconn()
        conn.clean = clean
        pool.putconn(conn)

    number = 0
    happened = True
    while happened:
        number += 1
        with pool.connection(), pool.connection():
            pass
        driver.made.clear()
        happened = interrupted(number, use)
        first, second = pool.getconn(timeout=10), pool.getconn(timeout=10)  # both places can be had
        assert first is not second
        assert first.closed == second.closed == 0
        pool.putconn(first)
        pool.putconn(second)
        del first, second
        until(lambda: not pool._attempts)
        assert len(pool._slots) == len(pool._idle) == 2
        assert not pool._busy
    assert number > 6
