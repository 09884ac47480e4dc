"""What a run found, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from .checker import KINDS
from .run import Result

_SHOWN = 10  # findings of a run; more of them say the same


class Planned(Protocol):
    """A plan, as far as `table` is concerned."""

    @property
    def name(self) -> str: ...

    @property
    def kinds(self) -> tuple[str, ...]: ...


class Injected(Protocol):
    """A result, as far as `table` is concerned."""

    @property
    def plan(self) -> Planned: ...

    @property
    def injected(self) -> Counter[str]: ...

    @property
    def slowest(self) -> Mapping[str, float]: ...


def table(results: Sequence[Injected]) -> str:
    """How many of each fault were injected in each run, and how long the slowest recovery took."""
    kinds = list(dict.fromkeys(kind for result in results for kind in result.plan.kinds))
    lines = [f"{'injected; slowest recovery':28}" + "".join(f"{result.plan.name:>22}" for result in results)]
    for kind in kinds:
        cells = [f"{result.injected[kind]:5}; {result.slowest.get(kind, 0.0):.2f} s" for result in results]
        lines.append(f"{kind:28}" + "".join(f"{cell:>22}" for cell in cells))
    return "\n".join(lines)


def words(result: Result) -> str:
    """One run: what became of the transfers, and each invariant."""
    plan = result.plan
    took = result.events[-1].time - result.events[0].time
    outcomes = Counter(story.outcome for story in result.told.values())
    refused = Counter(story.error for story in result.told.values() if story.outcome == "refused")
    lines = [
        f"{plan.name}: {took:.0f} s, seed {plan.seed}, {outcomes['done']} transfers committed, {result.alone} of them "
        f"without Redis; {outcomes['unknown']} with an unknown end, {outcomes['killed']} killed",
        f"  refused: {', '.join(f'{count} {error}' for error, count in refused.most_common()) or 'none'}",
    ]
    if not plan.fence:
        lines.append(f"  lost updates: {len(result.lost)} (the negative control must find some)")
    else:
        found = Counter(finding.kind for finding in result.findings)
        lines += [f"  {'FAILED' if found[kind] else 'holds'}: {text}" for kind, text in KINDS.items()]
    complaints = result.complaints()
    lines += [f"  ! {complaint}" for complaint in complaints[:_SHOWN]]
    if len(complaints) > _SHOWN:
        lines.append(f"  ! and {len(complaints) - _SHOWN} more")
    return "\n".join(lines)
