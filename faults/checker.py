"""What must hold whatever happened. Pure: from the history, the audit and the accounts to what is wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .bank import Audit
from .history import Event


@dataclass(frozen=True)
class Finding:
    """Something that is wrong. ``kind`` is one of `KINDS`; ``transfer`` is the one to look at, "" for none."""

    kind: str
    text: str
    transfer: str = ""


SUM, LOST, TOKENS, ANSWERS = "sum", "lost update", "tokens", "answers"
OVERLAP, OVERTAKEN, PROGRESS, REST, BROKEN = "overlap", "overtaken", "progress", "rest", "broken"
KINDS = {
    SUM: "the sum is conserved",
    LOST: "no update is lost: each version of an account is read by one committed transfer",
    TOKENS: "tokens of committed writers strictly grow, for each account",
    ANSWERS: "what was said to be done is in the audit, what was refused is not",
    OVERLAP: "without faults no two holds of an account overlap",
    OVERTAKEN: "without faults nobody overtakes a conflicting waiter",
    PROGRESS: "everybody commits again within lease + ε of each heal",
    REST: "at rest Redis has a fixed few keys",
    BROKEN: "no error but those that are documented",
}


@dataclass
class Story:
    """One transfer in the history. Times in seconds, None for a point that it did not reach."""

    transfer: str
    worker: int
    start: float
    accounts: tuple[int, ...]
    token: int = 0
    outcome: str = "killed"
    error: str = ""
    alone: bool = False
    reached: dict[str, float] = field(default_factory=dict)

    @property
    def end(self) -> float | None:
        return next(
            (self.reached[name] for name in ("done", "refused", "unknown", "broken") if name in self.reached), None
        )


def stories(events: Iterable[Event]) -> dict[str, Story]:
    """The transfers, in the order in which they began."""
    found: dict[str, Story] = {}
    for event in events:
        if not event.transfer:
            continue
        if event.point == "start":
            found[event.transfer] = Story(event.transfer, event.worker, event.time, tuple(event.detail["accounts"]))
        story = found[event.transfer]
        story.reached.setdefault(event.point, event.time)
        story.token = event.detail.get("token", 0) or story.token
        story.alone = story.alone or event.detail.get("alone", False)
        if event.point in ("done", "refused", "unknown", "broken"):
            story.outcome, story.error = event.point, event.detail.get("error", "")
    return found


def lost_updates(audit: Sequence[Audit]) -> list[Finding]:
    """Two that have read the same version of an account: the second one overwrote what the first one wrote."""
    readers: defaultdict[tuple[int, int], list[Audit]] = defaultdict(list)
    for row in audit:
        readers[row.source, row.source_version].append(row)
        readers[row.target, row.target_version].append(row)
    return [
        Finding(
            LOST, f"{', '.join(row.transfer for row in rows)} read version {version} of account {number}", row.transfer
        )
        for (number, version), rows in sorted(readers.items())
        for row in rows[1:]
    ]


def check_bank(accounts: Mapping[int, tuple[int, int]], audit: Sequence[Audit], balance: int) -> list[Finding]:
    """Replay the audit for each account, from ``balance``: sum, lost updates, tokens."""
    found = lost_updates(audit)
    total = sum(money for money, _ in accounts.values())
    if total != balance * len(accounts):
        found.append(Finding(SUM, f"the accounts have {total}, not {balance * len(accounts)}"))
    for number, (money, version) in accounts.items():
        steps = [(row.source_version, row.source_balance, -row.amount, row) for row in audit if row.source == number]
        steps += [(row.target_version, row.target_balance, row.amount, row) for row in audit if row.target == number]
        steps.sort(key=lambda step: (step[0], step[3].token))
        due, token = balance, 0
        for place, (read_version, read, change, row) in enumerate(steps):
            if read_version != place or read != due:
                text = (
                    f"{row.transfer} read {read} (version {read_version}) in account {number}, due was {due} ({place})"
                )
                found.append(Finding(LOST, text, row.transfer))
                break
            if row.token <= token:
                text = f"{row.transfer} wrote account {number} with token {row.token} after {token}"
                found.append(Finding(TOKENS, text, row.transfer))
            due, token = due + change, row.token
        else:
            if (money, version) != (due, len(steps)):
                text = f"account {number} has {money} (version {version}), by the audit {due} ({len(steps)})"
                found.append(Finding(LOST, text))
    return found


def check_answers(told: Mapping[str, Story], audit: Sequence[Audit]) -> list[Finding]:
    """Does what the workers were told agree with what is in the database?"""
    written = {row.transfer for row in audit}
    found = []
    for story in told.values():
        if story.outcome == "done" and story.transfer not in written:
            found.append(Finding(ANSWERS, f"{story.transfer} was done, and is not in the audit", story.transfer))
        if story.outcome == "refused" and story.transfer in written:
            text = f"{story.transfer} was refused ({story.error}), and is in the audit"
            found.append(Finding(ANSWERS, text, story.transfer))
        if story.outcome == "broken":
            found.append(Finding(BROKEN, f"{story.transfer}: {story.error}", story.transfer))
    found += [Finding(ANSWERS, f"{name} is in the audit and in no history", name) for name in written - told.keys()]
    return found


def calm_times(events: Iterable[Event]) -> list[tuple[float, float]]:
    """When there were no faults: from, to."""
    begun, found = 0.0, []
    for event in events:
        if event.point == "calm":
            begun = event.time
        elif event.point == "calm over":
            found.append((begun, event.time))
    return found


def check_calm(told: Mapping[str, Story], calm: Sequence[tuple[float, float]]) -> list[Finding]:
    """Without faults: no overlap of conflicting holds, and nobody passes one who waits."""
    found = []
    for begin, over in calm:
        inside = [
            story
            for story in told.values()
            if begin <= story.start and story.end is not None and story.end <= over and "granted" in story.reached
        ]
        found += _overlaps(inside)
        found += _overtakings(inside)
    return found


def _overlaps(inside: list[Story]) -> list[Finding]:
    found = []
    last: dict[int, Story] = {}
    for story in sorted(inside, key=lambda story: story.reached["granted"]):
        for number in story.accounts:
            other = last.get(number)
            if other is not None and _held_until(other) > story.reached["granted"]:
                text = f"{story.transfer} was granted account {number} inside the hold of {other.transfer}"
                found.append(Finding(OVERLAP, text, story.transfer))
            last[number] = story
    return found


def _held_until(story: Story) -> float:
    """It held at least until then: it says so before it unlocks."""
    return max(story.reached.get(name, 0.0) for name in ("granted", "claimed", "read", "commit", "committed"))


def _overtakings(inside: list[Story]) -> list[Finding]:
    found = []
    waited = [story for story in inside if "waiting" in story.reached]
    for older in waited:
        for younger in inside:
            # It stood in the queue when the other one had not even asked.
            later = younger.start > older.reached["waiting"]
            if later and younger.token < older.token and set(older.accounts) & set(younger.accounts):
                text = f"{younger.transfer} came after {older.transfer} and was granted before it"
                found.append(Finding(OVERTAKEN, text, younger.transfer))
    return found
