"""The pool beside its peers: ``make bench``, or ``make bench ARGS="--only checkout queueing"``.

Each table is made in a process of its own by the module of its name, which can also be run alone: ``python -m
benchmarks.checkout``. What is printed is Markdown; with ``--readme`` it also takes the place of the figures in the
README. Every number that was measured is kept in ``benchmarks/results/``, one JSON file a table.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from . import report

ROOT = Path(__file__).resolve().parent.parent
FIGURES = re.compile(r"(<!-- figures: make bench ARGS=--readme -->\n).*?(<!-- /figures -->)", re.DOTALL)

TABLES = {
    "checkout": "Checkout and return",
    "queueing": "More threads than connections",
    "request": "A request of one query",
    "restart": "The server restarts",
    "slow_connect": "A slow connect",
    "idle": "Nobody uses it",
    "release": "Release after each transaction",
    "locks": "Locks",
}
# The pool's tables that know no --json.
TEXT_ONLY = ("release", "locks")
POOL = tuple(name for name in TABLES if name != "locks")


def command(name: str, rounds: int | None) -> list[str]:
    more = ["--rounds", str(rounds)] if rounds else []
    if name not in TEXT_ONLY:
        more += ["--json", str(report.RESULTS / f"{name}.json")]
    return [sys.executable, "-m", f"benchmarks.{name}", *more]


def measured(names: Sequence[str], rounds: int | None) -> str:
    """The Markdown of these tables; each is printed as soon as it is there. CalledProcessError if one fails."""
    report.RESULTS.mkdir(exist_ok=True)
    parts = [f"Measured on {report.machine()}."]
    print(parts[0], flush=True)
    for name in names:
        done = subprocess.run(command(name, rounds), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        parts.append(f"**{TABLES[name]}.** {done.stdout.strip()}")
        print(f"\n{parts[-1]}", flush=True)
    return "\n\n".join(parts) + "\n"


def into_readme(figures: str) -> None:
    readme = ROOT / "README.md"
    text, found = FIGURES.subn(lambda match: match[1] + figures + match[2], readme.read_text("utf-8"))
    if found != 1:
        raise SystemExit("README.md has no place for the figures: the two comments around them are missing.")
    readme.write_text(text, "utf-8")


def main() -> int:
    there = [name for name in TABLES if importlib.util.find_spec(f"benchmarks.{name}")]
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=there, metavar="NAME", help=f"some of: {', '.join(there)}")
    parser.add_argument("--rounds", type=int, help="rounds of each case, instead of each table's own number")
    parser.add_argument("--readme", action="store_true", help="put the figures into README.md; needs all of the pool's")
    options = parser.parse_args()
    if options.rounds is not None and options.rounds < 1:
        parser.error("at least one round is needed")
    names = options.only or [name for name in there if name in POOL]
    if options.readme and not set(names) >= set(POOL):
        parser.error("--readme replaces all figures of the pool: leave --only out")
    try:
        figures = measured(names, options.rounds)
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"{' '.join(error.cmd)} ended with status {error.returncode}.\n")
        return 1
    if options.readme:
        into_readme(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
