"""All benchmarks, each in a process of its own: ``make bench``, ``make bench ARGS="--only request"``.

Peers are an extra (``pip install pooling[bench]``); one that is not installed is left out, and the tables say so. What
was measured is kept in ``benchmarks/results/``: a run is one file of JSON, named by its time, and its plots beside it.
``--readme`` keeps it as ``latest.json`` instead, and makes the figures and plots of the README and the manual from it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from . import machine, pages, plots
from .report import Table
from .results import BENCHMARKS, LATEST, RESULTS, Run

NAMES = [name for names in BENCHMARKS.values() for name in names]


def measure(name: str, rounds: int | None) -> list[Table]:
    """What one benchmark found. CalledProcessError if it failed; it has said why."""
    with tempfile.TemporaryDirectory(prefix="pooling-bench-") as folder:
        data = Path(folder) / "data.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(data)]
        if rounds:
            command += ["--rounds", str(rounds)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        return [Table.from_json(one) for one in json.loads(data.read_text("utf-8"))]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", action="append", choices=NAMES, help="this one; may be given again")
    parser.add_argument("--rounds", type=int, help="rounds of each case (default: what each finds right)")
    parser.add_argument("--readme", action="store_true", help="also make the README's and the manual's figures from it")
    options = parser.parse_args()
    if options.readme and options.only:
        parser.error("--readme replaces all figures by those of one run: leave --only out")
    drawing = find_spec("matplotlib") is not None
    if options.readme and not drawing:
        parser.error("--readme draws plots: pip install matplotlib")
    begin = time.monotonic()
    run, failed = Run(machine.here(), {}), []
    print(pages.measured(run), flush=True)
    for name in NAMES:
        if options.only and name not in options.only:
            continue
        try:
            run.tables[name] = measure(name, options.rounds)
        except subprocess.CalledProcessError:
            failed.append(name)
            continue
        for table in run.tables[name]:
            print(f"\n## {table.title}\n\n{table.markdown()}", flush=True)
    print(f"\n## Where pooling loses\n\n{pages.losing(run)}\n\nIt took {time.monotonic() - begin:.0f} s.", flush=True)
    if failed:
        print(f"\nFailed: {', '.join(failed)}", file=sys.stderr)
    RESULTS.mkdir(exist_ok=True)
    kept = options.readme and not failed
    path = LATEST if kept else RESULTS / time.strftime("%Y-%m-%dT%H%M%SZ.json", time.gmtime())
    run.save(path)
    print(f"\nData: {path}", flush=True)
    if kept:
        pages.write(Run.load(path))
    if drawing:
        folder, prefix = (plots.IMAGES, "") if kept else (RESULTS, f"{path.stem}-")
        print(f"Plots: {', '.join(map(str, plots.write(Run.load(path), folder, prefix)))}")
    else:
        print("Plots are left out: matplotlib is not installed.")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
