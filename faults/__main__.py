"""``python -m faults``: the bank with fences, without them, and with the fences alone while Redis is away.

``--seed`` (default: a new one, which is printed) decides about faults and transfers, ``--seconds`` (120) how long each
of the three runs has faults; each fault comes at least once. The pictures go to ``--out`` (.run/faults). The exit code
is 0 if every invariant held with fences, and updates were lost without them.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import tempfile
from pathlib import Path

from . import picture, report
from .run import Plan, Result, run

OUT = Path(__file__).resolve().parent.parent / ".run" / "faults"


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
    parser = argparse.ArgumentParser(prog="python -m faults", description="A bank under faults.")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--seconds", type=float, default=120.0, help="of faults in each of the three runs")
    parser.add_argument("--out", type=Path, default=OUT, help="where the pictures go")
    given = parser.parse_args(arguments)
    results = []
    with tempfile.TemporaryDirectory(prefix="pooling-faults-") as folder:
        for plan in plans(given.seed, given.seconds):
            print(f"{plan.name} …", flush=True)
            results.append(carry_out(plan, Path(folder), given.out))
            print(report.words(results[-1]), flush=True)
    print(f"\n{report.table(results)}\n\nPictures: {given.out}/*.svg")
    return 1 if any(result.complaints() for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
