"""What a run has written so far, read back: for the page, and for the command at a terminal."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from demo_site.lab.plan import Plan, known
from demo_site.lab.run import EVENTS, STOPPING, alive

_EDGES = 8


class Unreadable(LookupError):
    """There is no such run, or one whose plan means nothing here."""


@dataclass
class Scheme:
    """One scheme of a run. ``result`` is None until it has been measured to the end; ``begun`` is before any tick."""

    name: str
    title: str
    number: int
    ticks: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] | None = None
    begun: bool = False

    @property
    def p50(self) -> float | None:
        """Milliseconds."""
        return self._milliseconds("p50")

    @property
    def p99(self) -> float | None:
        """Milliseconds."""
        return self._milliseconds("p99")

    def _milliseconds(self, name: str) -> float | None:
        seconds = self.result and self.result[name]
        return None if seconds is None else seconds * 1000

    @property
    def waits(self) -> list[tuple[str, str, float]]:
        """Who waited for whom, and how many there were of these on average, the heaviest first."""
        edges: Counter[tuple[str, str]] = Counter()
        for tick in self.ticks:
            for who, whom, number in tick["waits"]:
                edges[_view(who), _view(whom)] += number
        return [(who, whom, number / len(self.ticks)) for (who, whom), number in edges.most_common(_EDGES)]

    @property
    def went_wrong(self) -> list[str]:
        """In words, what no visitor should have seen; empty if nothing did."""
        result = self.result or {}
        found = [f"{number} × {kind}" for kind, number in sorted(result.get("errors", {}).items())]
        if result.get("sold_twice"):
            found.append(f"{_number(result['sold_twice'], 'seat')} sold twice")
        if float(result.get("money_astray", 0)):
            found.append(f"{result['money_astray']} of money astray")
        if result.get("done", {}).get("wrong reports"):
            found.append(_number(result["done"]["wrong reports"], "wrong report"))
        return found


def _view(name: str) -> str:
    """Without the path that all views of the demo have in common."""
    return name.removeprefix("demo_site.boxoffice.views.")


def _number(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Run:
    """A run, as far as it has come. ``failure`` says why it ended before its time; ``died``: it could not say why."""

    name: str
    plan: Plan
    schemes: tuple[Scheme, ...]
    failure: str = ""
    ended: bool = False
    died: bool = False
    stopping: bool = False

    @property
    def over(self) -> bool:
        return self.ended or self.died or bool(self.failure)

    @property
    def started(self) -> datetime:
        return datetime.strptime(self.name[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        if self.ended:
            return 1.0
        done = 0.0
        for scheme in self.schemes:
            if scheme.result is not None:
                done += 1
            elif scheme.ticks:
                done += min(1.0, scheme.ticks[-1]["t"] / self.plan.seconds)
        return done / len(self.schemes)

    @property
    def now(self) -> str:
        """What happens at the moment, in words."""
        if self.failure:
            return f"The run ended early: {self.failure}"
        if self.ended:
            return "Done: every scheme has been measured."
        if self.died:
            return "The run's process was killed, or ended without a word."
        if self.stopping:
            return "Stopping …"
        under_way = next((scheme for scheme in self.schemes if scheme.begun and scheme.result is None), None)
        if under_way is None:
            return "Setting up the database …" if self.schemes[0].result is None else "Going on to the next scheme …"
        return f"{'Measuring' if under_way.ticks else 'Setting up, visitors sign in'}: {under_way.title} …"

    @cached_property
    def best(self) -> Scheme | None:
        """The fastest of those in which nothing went wrong."""
        clean = [scheme for scheme in self.schemes if scheme.result is not None and not scheme.went_wrong]
        return max(clean, key=lambda scheme: scheme.result["rate"]) if clean else None  # type: ignore[index]


def read(folder: Path) -> Run:
    """The run in ``folder``. Unreadable if there is none."""
    try:
        lives = alive(folder)  # before its events: it may end in between, and has then said so
        plan = Plan.from_json(json.loads((folder / "plan.json").read_text()))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, KeyError) as error:
        raise Unreadable(f"{folder} has no run that can be read here: {error}") from error
    titles = known()
    schemes = {name: Scheme(name, titles.get(name, name), number) for number, name in enumerate(plan.schemes)}
    failure, ended = "", False
    events = folder / EVENTS
    lines = events.read_text().splitlines(keepends=True) if events.exists() else []
    for line in lines:
        if not line.endswith("\n"):
            break  # being written at this moment
        event = json.loads(line)
        match event["kind"]:
            case "begins":
                schemes[event["scheme"]].begun = True
            case "tick":
                schemes[event["scheme"]].ticks.append(event)
            case "result":
                schemes[event["scheme"]].result = event
            case "failed":
                failure = event["why"]
            case "ended":
                ended = True
    died = not (lives or failure or ended)
    stopping = (folder / STOPPING).exists()
    return Run(folder.name, plan, tuple(schemes.values()), failure, ended, died, stopping)
