"""All tables, one after the other, each in a process of its own: ``make bench``, ``make bench ARGS="--only request"``.

Peers are an extra (``pip install pooling[bench]``); one that is not installed is left out, and the table says so. What
was measured is kept in ``benchmarks/results/``: every number as JSON, the tables as Markdown. ``--readme`` puts the
tables of the pool into README.md, in place of those that are there.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from . import report

README = Path(__file__).resolve().parent.parent / "README.md"
FIGURES = re.compile(r"(<!-- figures of the pool -->\n).*?(<!-- end of figures -->)", re.DOTALL)

# Those that also write JSON, and take --json for it.
POOL_TABLES = ("checkout", "request", "queueing", "restart", "connects", "idle")
TABLES = (*POOL_TABLES, "fence")
OTHERS = ("release", "locks", "scale", "cache", "crowd", "outage")
OF_THE_POOL = (*POOL_TABLES, "release")


def into_readme(text: str) -> None:
    """ValueError if the README has no place for it."""
    old = README.read_text("utf-8")
    new, places = FIGURES.subn(lambda match: f"{match[1]}{text}\n{match[2]}", old)
    if places != 1:
        raise ValueError(f"{README} needs one pair of the comments {FIGURES.pattern!r} for the figures.")
    README.write_text(new, "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=(*TABLES, *OTHERS), help="this one; may be given again")
    parser.add_argument("--rounds", type=int, help="rounds of each case (default: what each finds right)")
    parser.add_argument("--readme", action="store_true", help="also put the pool's tables into README.md")
    options = parser.parse_args()
    if options.readme and options.only and not set(options.only) >= set(OF_THE_POOL):
        parser.error(f"--readme replaces all tables of the pool: leave --only out, or name {', '.join(OF_THE_POOL)}")
    report.RESULTS.mkdir(exist_ok=True)
    machine = f"Measured on {report.machine()}."
    texts = {"machine": machine}
    print(machine, flush=True)
    failed = []
    for name in options.only or (*TABLES, *OTHERS):
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        if options.rounds:
            command += ["--rounds", str(options.rounds)]
        if name in TABLES:
            command += ["--json", str(report.RESULTS / f"{name}.json")]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            failed.append(name)
        texts[name] = done.stdout.strip()
        print(f"\n{texts[name]}", flush=True)
    if not options.only:
        (report.RESULTS / "pool.md").write_text("\n\n".join(texts.values()) + "\n")
    if failed:
        print(f"\nFailed: {', '.join(failed)}", file=sys.stderr)
    elif options.readme:
        into_readme("\n\n".join(texts[name] for name in ("machine", *OF_THE_POOL)))
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
