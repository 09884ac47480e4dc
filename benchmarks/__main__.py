"""All tables, one after the other, each in a process of its own: ``make bench``, ``make bench ARGS="--only request"``.

Peers are an extra (``pip install pooling[bench]``); one that is not installed is left out, and the table says so. What
was measured is kept in ``benchmarks/results/``: every number as JSON, the tables as Markdown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from . import report

# Those that also write JSON, and take --json for it.
TABLES = ("checkout", "request", "queueing", "restart", "connects", "idle")
OTHERS = ("release", "locks")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=(*TABLES, *OTHERS), help="this one; may be given again")
    parser.add_argument("--rounds", type=int, help="rounds of each case (default: what each finds right)")
    options = parser.parse_args()
    report.RESULTS.mkdir(exist_ok=True)
    machine = f"Measured on {report.machine()}."
    texts = [machine]
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
        texts.append(done.stdout.strip())
        print(f"\n{texts[-1]}", flush=True)
    if not options.only:
        (report.RESULTS / "pool.md").write_text("\n\n".join(texts) + "\n")
    if failed:
        print(f"\nFailed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
