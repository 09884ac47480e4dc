"""What a benchmark hands back: tables, as Markdown for readers and as JSON for what draws and compares."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from . import timing

NOISE = 1.03  # a factor below this is none
OURS = "pooling"  # what the names of all that is ours begin with


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

    @property
    def reached(self) -> str:
        return f"{self.value:.3g}{self.unit}"

    @property
    def wanted(self) -> str:
        return f"{'≥' if self.least else '≤'} {self.limit:g}{self.unit}"

    def __str__(self) -> str:
        verdict = "" if self.met else ", **missed**"
        return f"{self.what} {self.reached} ({self.wanted}{verdict}{self.note})"


@dataclass(frozen=True)
class Loss:
    """Where a peer is better: ``factor`` times, in the value ``ours`` of ``name`` against ``theirs`` of ``peer``."""

    heading: str
    name: str
    ours: float
    peer: str
    theirs: float
    factor: float


@dataclass(frozen=True)
class Compared:
    """One thing that was measured of ours and of peers. Names of ours begin with ``OURS``.

    ``values`` are medians over the rounds. ``factors``: for each of ours, how many times as good each peer is, as the
    median over the rounds, each compared within itself, so that a machine whose speed drifts harms nobody. ``most``:
    more is better. ``bound`` names what is the least that anybody can need, and is no peer. ``drawn``: in the plot.
    """

    what: str
    unit: str
    values: dict[str, float]
    factors: dict[str, dict[str, float]]
    most: bool = False
    bound: str = ""
    drawn: bool = True

    @classmethod
    def of(cls, what: str, unit: str, found: timing.Rounds, most: bool, bound: str, drawn: bool) -> Self:
        peers = [name for name in found if not name.startswith(OURS) and name != bound]
        factors = {
            name: {
                peer: timing.beside(found, peer, name) if most else timing.beside(found, name, peer) for peer in peers
            }
            for name in found
            if name.startswith(OURS)
        }
        values = {name: statistics.median(each) for name, each in found.items()}
        return cls(what, unit, values, factors, most, bound, drawn)

    @property
    def heading(self) -> str:
        more = " (more is better)" if self.most else ""
        return f"{self.what}{', ' if self.unit else ''}{self.unit}{more}"

    def losses(self) -> list[Loss]:
        """Where the rounds or the medians say so, and by what the worse of the two says."""
        found = []
        for name, beside in self.factors.items():
            for peer, factor in beside.items():
                ours, theirs = self.values[name], self.values[peer]
                worse = max(factor, theirs / ours if self.most else ours / theirs)
                if worse > NOISE:
                    found.append(Loss(self.heading, name, ours, peer, theirs, worse))
        return found


@dataclass
class Table:
    """``raw`` is every number that was measured, ``absent`` a word on each peer that is not installed."""

    about: str
    header: list[str]
    rows: list[list[str]] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)
    compared: list[Compared] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    raw: dict[str, Any] = field(default_factory=dict)
    title: str = ""

    def compare(
        self,
        what: str,
        unit: str,
        found: timing.Rounds,
        *,
        most: bool = False,
        bound: str = "",
        drawn: bool = True,
    ) -> None:
        """See `Compared`."""
        self.compared.append(Compared.of(what, unit, found, most, bound, drawn))

    def losses(self) -> list[Loss]:
        return [loss for one in self.compared for loss in one.losses()]

    def markdown(self) -> str:
        lines = [self.about, "", grid(self.header, self.rows)]
        if self.bars:
            lines += ["", "To be reached: " + "; ".join(map(str, self.bars)) + "."]
        if losses := self.losses():
            said = [f"{loss.heading}: {loss.name} {loss.factor:.2f}x {loss.peer}" for loss in losses]
            lines += ["", "Here pooling loses: " + "; ".join(said) + "."]
        lines += [text for why in self.absent for text in ("", f"Left out: {why}.")]
        return "\n".join(lines)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        bars = [Bar(**bar) for bar in values["bars"]]
        return cls(**{**values, "bars": bars, "compared": [Compared(**one) for one in values["compared"]]})


def number(value: float) -> str:
    """Three significant digits, or all of a whole number's."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown: text on the left, numbers on the right."""
    align = ["--", *["--:" for _ in header[1:]]]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, align, *rows))


def main(run: Callable[[int], Table | list[Table]], rounds: int, about: str | None) -> None:
    """The command line of one benchmark."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help="rounds of each case (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="also write every number there")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("at least one round is needed")
    found = run(options.rounds)
    tables = found if isinstance(found, list) else [found]
    print("\n\n".join(table.markdown() for table in tables))
    if options.json:
        options.json.write_text(json.dumps([dataclasses.asdict(table) for table in tables]), "utf-8")
