"""What the schemes of the workload did, as a table and as a verdict. Pure: no server, no database."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from demo_site.schemes import SCHEMES, others


@dataclass(frozen=True)
class Round:
    """One scheme, driven once. ``times`` are seconds per answered request; money is what the accounts are off by."""

    times: tuple[float, ...]
    seconds: float
    connections: int
    errors: Counter[str]
    deadlocks: int | None
    done: Counter[str]
    sold_twice: int
    money_lost: Decimal
    money_astray: Decimal


@dataclass(frozen=True)
class Result:
    """All rounds of one scheme. What went wrong is added up; the rate is the median of the rounds, so that one in
    which the machine was busy with something else does not decide."""

    scheme: str
    rounds: tuple[Round, ...]

    @property
    def title(self) -> str:
        return {**SCHEMES, **others()}[self.scheme].title

    @property
    def rate(self) -> float:
        """Requests per second."""
        return statistics.median(len(one.times) / one.seconds for one in self.rounds)

    @cached_property
    def times(self) -> list[float]:
        return sorted(second for one in self.rounds for second in one.times)

    def quantile(self, percent: int) -> float:
        """Seconds within which so many per cent of all requests were answered."""
        return self.times[len(self.times) * percent // 100]

    @property
    def connections(self) -> int:
        return max(one.connections for one in self.rounds)

    @property
    def errors(self) -> Counter[str]:
        return sum((one.errors for one in self.rounds), Counter())

    @property
    def done(self) -> Counter[str]:
        return sum((one.done for one in self.rounds), Counter())

    @property
    def deadlocks(self) -> int | None:
        """None: the server does not count them."""
        counted = [one.deadlocks for one in self.rounds if one.deadlocks is not None]
        return sum(counted) if len(counted) == len(self.rounds) else None

    @property
    def sold_twice(self) -> int:
        return sum(one.sold_twice for one in self.rounds)

    @property
    def money_lost(self) -> Decimal:
        return sum((one.money_lost for one in self.rounds), Decimal(0))

    @property
    def money_astray(self) -> Decimal:
        return sum((one.money_astray for one in self.rounds), Decimal(0))

    @property
    def clean(self) -> bool:
        # Each round for itself: what one lost, another may have found.
        lost = any(one.money_lost or one.money_astray for one in self.rounds)
        return not (self.errors or self.sold_twice or lost or self.done["wrong reports"])


_HEADS = "Scheme|req/s|p50 ms|p99 ms|connections|booked|transfers|errors|deadlocks|sold twice|money lost|wrong reports"


def table(results: Sequence[Result]) -> str:
    """The results as aligned Markdown."""
    rows = [_HEADS.split("|"), *(_row(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return "| " + " | ".join(cells) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(rows[0]), line(rule), *map(line, rows[1:])])


def _row(result: Result) -> list[str]:
    return [
        result.title,
        f"{result.rate:.0f}",
        f"{result.quantile(50) * 1000:.1f}",
        f"{result.quantile(99) * 1000:.1f}",
        str(result.connections),
        str(result.done["booked"]),
        str(result.done["transferred"]),
        ", ".join(f"{count} × {kind}" for kind, count in sorted(result.errors.items())) or "0",
        "?" if result.deadlocks is None else str(result.deadlocks),
        str(result.sold_twice),
        f"{result.money_lost:.2f} ({result.money_astray:.2f} astray)" if result.money_astray else "0.00",
        f"{result.done['wrong reports']} of {result.done['reports']}",
    ]


def verdict(results: Sequence[Result]) -> tuple[str, bool]:
    """One line on who won and whether the last scheme lost anything; and whether that is as it should be."""
    last = results[-1]
    best = max(results, key=lambda result: result.rate)
    text = f"Fastest: {best.title}, {best.rate:.0f} requests/s"
    others = [result.rate for result in results if result is not best]
    if others and max(others) > 0:
        text += f", {best.rate / max(others):.1f} times the next"
    errors = sum(last.errors.values())
    lost = f"{last.sold_twice} seats sold twice, {last.money_astray:.2f} of money astray, {errors} errors"
    text += f". {last.title.capitalize()}: " + ("nothing lost, no errors." if last.clean else f"{lost}!")
    return text, last.clean and best is last
