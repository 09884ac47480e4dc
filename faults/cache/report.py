"""What a run found, in words."""

from __future__ import annotations

from collections import Counter

from .checker import KINDS
from .run import HEARTBEAT, Result

_SHOWN = 10  # complaints of a run; more of them say the same


def words(result: Result) -> str:
    """One run: what became of the writes, how old answers were, and each invariant."""
    plan = result.plan
    took = result.events[-1].time - result.events[0].time
    outcomes = Counter(story.outcome for story in result.told.values())
    unanswered = Counter(event.detail["error"] for event in result.events if event.point == "no answer")
    errors = ", ".join(f"{count} {error}" for error, count in unanswered.most_common()) or "none"
    lines = [
        f"{plan.name}: {took:.0f} s, seed {plan.seed}, {outcomes['done']} writes answered, "
        f"{outcomes['refused'] + outcomes['unknown']} with an error, {outcomes['killed']} killed; "
        f"pages not answered: {errors}",
        f"  {'level':10}{'answers':>9}{'hits':>9}{'unasked':>9}   oldest after a newer write was answered",
    ]
    for name, level in result.levels.items():
        oldest = f"{level.oldest * 1000:.1f} ms" + (f" (at most {HEARTBEAT * 1000:g})" if name == "near" else "")
        lines.append(f"  {name:10}{level.answers:9}{level.hits:9}{level.unasked:9}   {oldest}")
    found = Counter(finding.kind for finding in result.findings)
    if plan.control:
        lines.append(f"  {plan.control}: {found[plan.control]} (the negative control must find some)")
    else:
        lines += [f"  {'FAILED' if found[kind] else 'holds'}: {text}" for kind, text in KINDS.items()]
    complaints = result.complaints()
    lines += [f"  ! {complaint}" for complaint in complaints[:_SHOWN]]
    if len(complaints) > _SHOWN:
        lines.append(f"  ! and {len(complaints) - _SHOWN} more")
    return "\n".join(lines)
