"""What a run of all benchmarks has found, kept as data: ``benchmarks/results/``.

``latest.json`` is the run that the README and the manual show; they and their plots are made from it alone. Further
runs are kept beside it, each in a file of its own.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .machine import Machine
from .report import Table

RESULTS = Path(__file__).parent / "results"
LATEST = RESULTS / "latest.json"
# What there is, and the benchmarks of each in the order in which they are shown; each part has a plot of its own.
PARTS = {"pool": "The pool", "locks": "Locks and fences", "cache": "The cache"}
BENCHMARKS = {
    "pool": ("checkout", "request", "queueing", "restart", "connects", "idle", "release"),
    "locks": ("locks", "fence"),
    "cache": ("cache", "crowd", "outage"),
    "scale": ("scale",),
}
DIGITS = 4  # of each number; the measurements are not more exact

# Innermost lists and objects are written on one line.
_SMALL = re.compile(r"[\[{][^\[\]{}]*[\]}]")


@dataclass(frozen=True)
class Run:
    """``tables``: name of the benchmark -> what it found."""

    machine: Machine
    tables: dict[str, list[Table]]

    def all(self) -> list[Table]:
        return [table for tables in self.tables.values() for table in tables]

    def of(self, part: str) -> list[Table]:
        return [table for name in BENCHMARKS[part] for table in self.tables.get(name, [])]

    def save(self, path: Path) -> None:
        text = json.dumps(_rounded(dataclasses.asdict(self)), indent=1, ensure_ascii=False)
        path.write_text(_SMALL.sub(lambda found: re.sub(r"\s*\n\s*", " ", found[0]), text) + "\n", "utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """ValueError or KeyError for a file of another kind."""
        found = json.loads(path.read_text("utf-8"))
        tables = {name: [Table.from_json(one) for one in each] for name, each in found["tables"].items()}
        return cls(Machine(**found["machine"]), tables)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return value
