"""``make matrix``: the project's tests and Django's on other servers, Pythons and Djangos, and a table at the end.

What this machine does not have is unpacked or installed into ``.run/matrix``, which ``make clean`` removes; what cannot
be had is said in the table. The exit code is 0 if nothing that ran has failed, and something ran.
"""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType

from .combinations import COMBINATIONS, chosen
from .debian import NotFound
from .running import FOLDER, PARTS, Result, Row, run

HEADINGS = ("Database", "Store", "Python", "Django", "The project's tests", "Django's tests")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make matrix", description=__doc__)
    parser.add_argument("words", nargs="*", help="only combinations with all of these in their name: mysql-9 py3.13")
    parser.add_argument("--list", action="store_true", help="name the combinations, and run none")
    parser.add_argument("--only", choices=list(PARTS), help="only the project's tests, or only Django's")
    parser.add_argument("--again", action="store_true", help="also what has passed with this same code before")
    return parser.parse_args()


def table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in [HEADINGS, *rows]) for column in range(len(HEADINGS))]
    lines = [HEADINGS, tuple("-" * width for width in widths), *rows]
    padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def _cells(row: Row) -> tuple[str, ...]:
    results = (str(row.results.get(part, "not asked for")) for part in PARTS)
    return (row.database, row.store, row.python, row.django, *results)


def _stop(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # the tests that run are ended with us, and their servers with them


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, _stop)
    combinations = chosen(options.words)
    if options.list or not combinations:
        print("\n".join(one.name for one in (combinations or COMBINATIONS)))
        if not combinations:
            print(f"No combination has all of these in its name: {' '.join(options.words)}.", file=sys.stderr)
        return 0 if combinations else 2
    FOLDER.mkdir(parents=True, exist_ok=True)
    parts = [options.only] if options.only else list(PARTS)
    cells: list[tuple[str, ...]] = []
    results: list[Result] = []
    for one in combinations:
        try:
            row = run(one, parts, again=options.again, say=lambda text: print(text, flush=True))
        except NotFound as error:
            cells.append((one.database, one.store, one.python, one.django, f"not found: {error}", ""))
            continue
        cells.append(_cells(row))
        results += row.results.values()
    print(table(cells))
    return 0 if results and all(result.good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
