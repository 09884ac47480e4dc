"""``python -m faults.cache``: does anybody get a page that is older than a write that was answered before he asked?

Once with all faults, and twice with something broken on purpose: pages stored without a look at their epochs,
and a near cache that relies for ever on what it was told. ``--seed`` (default: a new one, which is printed) decides
about faults and writes, ``--seconds`` (60) how long there are faults; each comes at least once. The pictures go to
``--out`` (.run/faults). The exit code is 0 if every invariant held, and what was broken was found.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from .. import picture
from ..__main__ import OUT
from ..report import table
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
    parser = argparse.ArgumentParser(prog="python -m faults.cache", description="The cache under faults.")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--seconds", type=float, default=60.0, help="of faults")
    parser.add_argument("--out", type=Path, default=OUT, help="where the pictures go")
    given = parser.parse_args(arguments)
    results = []
    with tempfile.TemporaryDirectory(prefix="pooling-faults-") as folder:
        for plan in plans(given.seed, given.seconds):
            print(f"{plan.name} …", flush=True)
            results.append(carry_out(plan, Path(folder), given.out))
            print(report.words(results[-1]), flush=True)
    print(f"\n{table(results)}\n\nPictures: {given.out}/*.svg")
    return 1 if any(result.complaints() for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
