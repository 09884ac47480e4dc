"""An exception wherever the interpreter looks for one in the project's code, as a signal handler may raise it.

CPython looks after calls, at the start of functions and at backward jumps, and nowhere else: not, for
instance, between a ``with`` block and the release of its lock.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pooling

CODE = str(Path(pooling.__file__).parent)


class Stop(BaseException):
    pass


@cache
def operations(code: CodeType) -> dict[int, str]:
    return {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}


def interrupted(number: int, action: Callable[[], object]) -> bool:
    """Run ``action``; raise Stop at the place with this number, counting those in the project. Was there such a one?"""
    count = 0
    previous: dict[FrameType, str] = {}

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.startswith(CODE):
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
