"""What ``manage.py pooling`` prints: tables for people, as wide as their terminal, and JSON for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pooling.groups import Mode
from pooling.locks.report import UNNAMED, place, who
from pooling.status.fleet import party_as_dict
from pooling.status.words import percent, span
from pooling.store.protocol import Party

NARROWEST = 8  # characters of a column that is shortened
HOLDERS = 10

Row = Sequence[str]
Paint = Callable[[str], str]


def table(head: Row, rows: Iterable[Row], width: int | None = None, right: frozenset[int] = frozenset()) -> str:
    """Columns under their names. ``width``: of the terminal; the widest columns are shortened until a line fits.
    ``right``: the columns with figures, which are set to the right."""
    lines = [[_printable(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    while width is not None and sum(widths) + 2 * (len(widths) - 1) > width:
        widest = max(range(len(widths)), key=lambda column: widths[column] if column not in right else 0)
        if widths[widest] <= NARROWEST:
            break  # longer lines are better than columns of one letter
        widths[widest] -= 1
    return "\n".join(
        "  ".join(_cell(cell, widths[at], at in right) for at, cell in enumerate(line)).rstrip() for line in lines
    )


def _cell(text: str, width: int, right: bool) -> str:
    if len(text) > width:
        text = text[: width - 1] + "…"
    return text.rjust(width) if right else text.ljust(width)


def _printable(text: str) -> str:
    """A name is what some process has said of itself: it must not move the cursor of whoever reads it."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


# -- status


def status(found: Mapping[str, Any], width: int | None, style: Any) -> str:
    """Processes, pools, who has connections, who has groups. ``found`` is `Fleet.as_dict`."""
    totals = found["totals"]
    parts = [
        f"{_count(totals['processes'], 'process', 'processes')}; "
        f"{_count(totals['size'], 'connection', 'connections')}, "
        f"{totals['busy']} of them busy; {_count(totals['waiting'], 'request waits', 'requests wait')} for one; "
        f"pages: {percent(totals['hit_ratio'])} hits, {span(totals['saved_seconds'])} saved"
    ]
    if found["doubts"] or found["problems"]:
        parts.append("\n".join(style.ERROR(f"! {_printable(one)}") for one in (*found["problems"], *found["doubts"])))
    else:
        parts.append(style.SUCCESS("No problems."))
    if found["processes"]:
        parts.append(_processes(found["processes"], width))
    if found["pools"]:
        parts.append(_pools(found["pools"], width, style))
        holders = _holders(found["pools"], width)
        parts += [holders] if holders else []
    if found["parties"]:
        parts.append(parties_of(found["parties"], width))
    return "\n\n".join(parts)


def _processes(processes: Iterable[Mapping[str, Any]], width: int | None) -> str:
    now = time.time()
    rows = [
        (
            *(one["host"], str(one["pid"]), one["program"], span(now - one["started"])),
            *(span(now - one["at"]), one["store"]["state"]),
            f"Python {one['python']}, Django {one['django']}",
        )
        for one in processes
    ]
    return table(
        ("host", "pid", "program", "up for", "seen ago", "store", "versions"), rows, width, frozenset({1, 3, 4})
    )


def _pools(pools: Iterable[Mapping[str, Any]], width: int | None, style: Any) -> str:
    head = (
        "pool",
        "server",
        "process",
        "state",
        "size",
        "busy",
        "wait",
        "requests",
        "errors",
        "wait p50",
        "p99",
        "max",
    )
    rows, paints = [], []
    for one in pools:
        rows.append(
            (
                *(one["name"], one["server"], one["process"], one["state"], f"{one['size']}/{one['max']}"),
                *(str(one["busy"]), str(one["waiting"]), str(one["stats"]["requests_num"])),
                str(one["stats"]["requests_errors"]),
                *(span(one["wait"][key]) for key in ("p50", "p99", "max")),
            )
        )
        bad = one["state"] != "up" and one["state"] != "closed"
        paints.append(style.ERROR if bad else style.WARNING if one["waiting"] else str)
    lines = table(head, rows, width, frozenset(range(4, 12))).split("\n")
    return "\n".join([lines[0], *(paint(line) for paint, line in zip(paints, lines[1:], strict=True))])


def _holders(pools: Iterable[Mapping[str, Any]], width: int | None) -> str:
    held = [(holder, pool) for pool in pools for holder in pool["holders"]]
    held.sort(key=lambda pair: -pair[0]["seconds"])
    rows = [
        (
            *(pool["name"], span(one["seconds"]), pool["process"], one["thread"], one["view"] or UNNAMED),
            one["stack"][0] if one["stack"] else "",
        )
        for one, pool in held[:HOLDERS]
    ]
    head = ("connection of", "held for", "process", "thread", "view", "is at")
    return table(head, rows, width, frozenset({1})) if rows else ""


# -- stats

SORTS = {
    "waited": lambda group: group["wait"]["total"],
    "held": lambda group: group["hold"]["total"],
    "asked": lambda group: group["asked"],
}


def stats(found: Mapping[str, Any], width: int | None, style: Any, *, top: int, sort: str) -> str:
    """Groups by how long they were waited for, or else, and cached views by requests; ``top`` of each."""
    groups = ranked(found["groups"], sort)
    views = found["views"]
    parts = []
    if groups:
        parts.append(_groups(groups[:top], width) + _more(len(groups) - top))
    if views:
        parts.append(_views(views[:top], width) + _more(len(views) - top))
    return "\n\n".join(parts) or "Nothing was counted yet."


def ranked(groups: Iterable[Mapping[str, Any]], sort: str) -> list[Mapping[str, Any]]:
    return sorted(groups, key=lambda group: (-SORTS[sort](group), group["group"]))


def _more(number: int) -> str:
    return f"\n… and {number} more" if number > 0 else ""


def _groups(groups: Iterable[Mapping[str, Any]], width: int | None) -> str:
    head = ("group", "asked", "waited", "gave up", "share", "wait p50", "p99", "max", "hold p50", "p99", "max")
    rows = [
        (
            *(one["group"], str(one["asked"]), str(one["waited"]), str(one["timeouts"]), percent(one["share"])),
            *(span(one[which][key]) for which in ("wait", "hold") for key in ("p50", "p99", "max")),
        )
        for one in groups
    ]
    return table(head, rows, width, frozenset(range(1, 11)))


def _views(views: Iterable[Mapping[str, Any]], width: int | None) -> str:
    head = ("cached view", "requests", "hits", "misses", "ratio", "made in", "saved", "waits", "not stored", "errors")
    rows = [
        (
            one["view"],
            str(one["hits"] + one["collapsed"] + one["misses"] + sum(one["bypassed"].values()) + one["failed"]),
            *(str(one["hits"] + one["collapsed"]), str(one["misses"]), percent(one["hit_ratio"])),
            span(one["compute_seconds"] / one["computed"]) if one["computed"] else "–",
            *(span(one["saved_seconds"]), str(one["waits"]), str(sum(one["not_stored"].values()))),
            str(one["failed"]),
        )
        for one in views
    ]
    return table(head, rows, width, frozenset(range(1, 10)))


# -- locks


def what(party: Party) -> str:
    return " ".join(f"{group}:{Mode(mode).name}" for group, mode in party.wants)


def parties(found: Sequence[Party], width: int | None = None) -> str:
    """Holders, and then waiters in the order of the queue."""
    if not found:
        return "Nobody holds or waits for anything."
    return parties_of([party_as_dict(party) for party in found], width)


def parties_of(found: Iterable[Mapping[str, Any]], width: int | None) -> str:
    rows = [
        (
            *(one["state"], span(one["seconds"]), one["ticket"], f"{who(one)} on {place(one)}"),
            " ".join(f"{group}:{mode}" for group, mode in one["groups"].items()),
        )
        for one in found
    ]
    return table(("", "for", "ticket", "who", "groups"), rows, width)


def as_json(found: Any, *, lines: bool) -> str:
    """``lines``: each look on a line of its own, for programs that read one after the other."""
    return json.dumps(found, indent=None if lines else 2)
