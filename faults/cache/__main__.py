"""``python -m faults.cache``: does anybody get a page that is older than a write that was answered before he asked?

Once with all faults, and twice with something broken on purpose: pages stored without a look at their epochs,
and a near cache that relies for ever on what it was told. ``--seed`` (default: a new one, which is printed) decides
about faults and writes, ``--seconds`` (60) how long there are faults; each comes at least once. The pictures go to
``--out`` (.run/faults). The exit code is 0 if every invariant held, and what was broken was found.
"""

from __future__ import annotations

import sys
from pathlib import Path

from .. import command, picture
from . import report
from .run import Plan, Result, run

CONTROL = 60.0  # seconds at most until what is broken must have been found


def plans(seed: str, seconds: float) -> list[Plan]:
    return [
        Plan("cache", seed, seconds),
        Plan("epochs unchecked", seed, CONTROL, ("stop of a reader",), broken="epochs"),
        Plan("no heartbeat", seed, CONTROL, ("cut off, no sign",), broken="heartbeat"),
    ]


def carry_out(plan: Plan, folder: Path, out: Path) -> Result:
    """Run it, with the servers' data in ``folder``, and write its picture into ``out``."""
    result = run(plan, folder)
    picture.write(out, plan.name, plan.seed, result.events, result.told, result.marks, "too old")
    return result


def main(arguments: list[str] | None = None) -> int:
    return command.main(
        arguments,
        prog="python -m faults.cache",
        about="The cache under faults.",
        seconds=60.0,
        each="of faults",
        plans=plans,
        carry_out=carry_out,
        words=report.words,
    )


if __name__ == "__main__":
    sys.exit(main())
