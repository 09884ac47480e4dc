"""What a benchmark hands back, as Markdown for the README and as JSON for machines."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    *("Django", "mysqlclient", "psycopg-pool", "SQLAlchemy", "django-db-connection-pool"),
    *("django-redis", "django-cacheops", "dogpile.cache"),
)


@dataclass(frozen=True)
class Bar:
    """What is to be reached: ``value`` at most ``limit``, or at least. ``note`` stands behind the verdict."""

    what: str
    value: float
    limit: float
    unit: str = "x"
    least: bool = False
    note: str = ""

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.least else self.value <= self.limit

    def __str__(self) -> str:
        sense = "≥" if self.least else "≤"
        verdict = "" if self.met else ", **missed**"
        return f"{self.what} {self.value:.3g}{self.unit} ({sense} {self.limit:g}{self.unit}{verdict}{self.note})"


@dataclass
class Table:
    """``losses`` says in words where pooling is worse than a peer; ``raw`` is every number that was measured."""

    about: str
    header: list[str]
    rows: list[list[str]] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)

    def loses(self, factor: float, peer: str, where: str) -> None:
        """Say so if pooling needs ``factor`` times as much as ``peer``, and that is more than noise."""
        if factor > 1.03:
            self.losses.append(f"{factor:.2f} times {peer} {where}")

    def markdown(self) -> str:
        align = ["--", *["--:" for _ in self.header[1:]]]
        lines = [self.about, ""]
        lines += ["| " + " | ".join(cells) + " |" for cells in (self.header, align, *self.rows)]
        if self.bars:
            lines += ["", "To be reached: " + "; ".join(map(str, self.bars)) + "."]
        if self.losses:
            lines += ["", "Here pooling loses: " + "; ".join(self.losses) + "."]
        lines += [text for why in self.absent for text in ("", f"Left out: {why}.")]
        return "\n".join(lines)


def machine() -> str:
    """What this was measured on."""
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{os.cpu_count()} cores, {platform.machine()}, {python}, {', '.join(versions)}"


def main(run: Callable[[int], Table], rounds: int, about: str | None) -> None:
    """The command line of one benchmark."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help="rounds of each case (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write every number there")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("at least one round is needed")
    table = run(options.rounds)
    print(table.markdown())
    if options.json:
        options.json.write_text(json.dumps(dataclasses.asdict(table), indent=1, ensure_ascii=False))
