"""The command line of a run of faults: its plans one after the other, told and drawn."""

from __future__ import annotations

import argparse
import secrets
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from . import report

OUT = Path(__file__).resolve().parent.parent / ".run" / "faults"


def main(
    arguments: list[str] | None,
    *,
    prog: str,
    about: str,
    seconds: float,
    each: str,
    plans: Callable[[str, float], Iterable[Any]],
    carry_out: Callable[[Any, Path, Path], Any],
    words: Callable[[Any], str],
) -> int:
    """``seconds`` of faults by default, ``each`` says of what. ``carry_out`` runs one of the ``plans`` with the data of
    the servers in a folder, and writes its picture into another; ``words`` tells what came of it. 1 if one complains.
    """
    parser = argparse.ArgumentParser(prog=prog, description=about)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--seconds", type=float, default=seconds, help=each)
    parser.add_argument("--out", type=Path, default=OUT, help="where the pictures go")
    given = parser.parse_args(arguments)
    results = []
    with tempfile.TemporaryDirectory(prefix="pooling-faults-") as folder:
        for plan in plans(given.seed, given.seconds):
            print(f"{plan.name} …", flush=True)
            results.append(carry_out(plan, Path(folder), given.out))
            print(words(results[-1]), flush=True)
    print(f"\n{report.table(results)}\n\nPictures: {given.out}/*.svg")
    return 1 if any(result.complaints() for result in results) else 0
