"""What a run of Django's test runner came to, read from what it printed."""

from __future__ import annotations

import re
from dataclasses import dataclass

_VERDICT = re.compile(r"^Ran (\d+) tests? in [^\n]*\n\n(?:OK|FAILED)(?: \(([^)]*)\))?$", re.MULTILINE)
_NAMED = re.compile(r"^={70}\n(?:FAIL|ERROR|UNEXPECTED SUCCESS): (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """How many tests ran, failed (errors included) and were skipped, and the names of those that failed.

    A run that ended before its verdict is not ``complete``.
    """

    run: int
    failed: int
    skipped: int
    names: tuple[str, ...]
    complete: bool

    @property
    def good(self) -> bool:
        return self.complete and not self.failed

    def __str__(self) -> str:
        text = f"{self.run} run, {self.failed} failed, {self.skipped} skipped"
        return text if self.complete else f"{text}, and it ended early"


def read(output: str) -> Outcome:
    """The outcome that stands in the output of one run."""
    verdicts = list(_VERDICT.finditer(output))
    total, parts = verdicts[-1].groups() if verdicts else ("0", None)
    pairs = [part.partition("=") for part in parts.split(", ")] if parts else []
    counts = {name: int(number) for name, _, number in pairs}
    return Outcome(
        run=int(total),
        failed=sum(counts.get(name, 0) for name in ("failures", "errors", "unexpected successes")),
        skipped=counts.get("skipped", 0),
        names=tuple(sorted(set(_NAMED.findall(output)))),
        complete=bool(verdicts),
    )
