"""``python -m faults``: the bank with fences, without them, and with the fences alone while Redis is away.

``--seed`` (default: a new one, which is printed) decides about faults and transfers, ``--seconds`` (120) how long each
of the three runs has faults; each fault comes at least once. The pictures go to ``--out`` (.run/faults). The exit code
is 0 if every invariant held with fences, and updates were lost without them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from . import command, picture, report
from .run import Plan, Result, run


def plans(seed: str, seconds: float) -> list[Plan]:
    return [
        Plan("fenced", seed, seconds),
        Plan("no fence (control)", seed, seconds, fence=False),
        Plan("fence while down", seed, seconds, on_store_down="fence"),
    ]


def carry_out(plan: Plan, folder: Path, out: Path) -> Result:
    """Run it, with the servers' data in ``folder``, and write its picture into ``out``."""
    result = run(plan, folder)
    picture.write(out, plan.name, plan.seed, result.events, result.told, result.marks, "lost update")
    return result


def main(arguments: list[str] | None = None) -> int:
    return command.main(
        arguments,
        prog="python -m faults",
        about="A bank under faults.",
        seconds=120.0,
        each="of faults in each of the three runs",
        plans=plans,
        carry_out=carry_out,
        words=report.words,
    )


if __name__ == "__main__":
    sys.exit(main())
