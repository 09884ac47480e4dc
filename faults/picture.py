"""The history as a picture: a lane for each worker, what was held in it, and the faults across all lanes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from .checker import Story, calm_times
from .history import Event

WORKERS = 4

_SECONDS = 30.0  # in one strip
_SCALE = 40.0  # pixels for a second
_LABEL, _LABELS = 9, 6  # height of a line of labels over a strip, and how many there are
_LETTER = 4.3  # pixels of a label's letter, about
_LANE, _MARGIN, _TITLE = 16, 50, _LABEL * _LABELS + 6
_STRIP = _TITLE + WORKERS * _LANE + 8
_COLOURS = {
    "committed": "#2e7d32",
    "gone alone": "#1565c0",
    "waiting": "#cfd8dc",
    "refused": "#ef6c00",
    "unknown": "#8e24aa",
    "killed": "#000000",
    "standing still": "#9e9e9e",
}


def write(
    out: Path,
    name: str,
    seed: str,
    events: Sequence[Event],
    told: Mapping[str, Story],
    marks: Sequence[tuple[float, int]],
    meaning: str,
) -> None:
    """`draw` into a file of this folder that is called after the run."""
    out.mkdir(parents=True, exist_ok=True)
    file = "".join(sign if sign.isalnum() else "-" for sign in name).strip("-")
    (out / f"{file}.svg").write_text(draw(f"{name}, seed {seed}", events, told, marks, meaning), encoding="utf-8")


def draw(
    title: str,
    events: Sequence[Event],
    told: Mapping[str, Story],
    marks: Sequence[tuple[float, int]],
    meaning: str,
) -> str:
    """An SVG. ``marks``, each a time and a worker, get a ring; ``meaning`` says what that is."""
    begin, end = events[0].time, events[-1].time
    strips = int((end - begin) / _SECONDS) + 1
    width, height = _MARGIN + _SECONDS * _SCALE + 10, _MARGIN + strips * _STRIP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" font-family="sans-serif"'
        f' font-size="10"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="16" font-size="13">{escape(title)}</text>',
        *_legend(meaning),
    ]
    labels = _Labels()
    for from_, to, kind in _faults(events):
        fill = "#e8f5e9" if kind == "no faults" else "#ffebee"
        for x, y, length, first in _pieces(from_ - begin, to - begin):
            box = f'x="{x:.1f}" y="{y + _TITLE}" width="{max(length, 1):.1f}" height="{WORKERS * _LANE}" fill="{fill}"'
            parts.append(f"<rect {box}/>")
            if first and kind != "no faults":
                parts.append(labels.put(x, y, kind))
    for strip in range(strips):
        y = _MARGIN + strip * _STRIP
        parts.append(f'<text x="4" y="{y + _TITLE - 4}">{strip * _SECONDS:.0f} s</text>')
        for worker in range(WORKERS):
            parts.append(f'<text x="4" y="{_lane(y, worker) + 10}" fill="#607d8b">worker {worker}</text>')
    paths: defaultdict[str, list[str]] = defaultdict(list)
    drawn: dict[tuple[str, int], tuple[int, int]] = {}
    for from_, to, worker, kind in _bars(events, told):
        for x, y, length, _ in _pieces(from_ - begin, to - begin):
            # A hundred holds within one pixel are one line of it.
            if drawn.get((kind, worker)) == (round(x), y) and length < 1:
                continue
            drawn[kind, worker] = round(x), y
            paths[kind].append(f"M{x:.1f} {_lane(y, worker) + 7}h{max(length, 0.6):.1f}")
    for kind, colour in _COLOURS.items():
        thick = 3 if kind in ("waiting", "standing still") else 9
        parts.append(f'<path d="{"".join(paths[kind])}" stroke="{colour}" stroke-width="{thick}" fill="none"/>')
    parts += _rings(marks, begin)
    return "\n".join([*parts, "</svg>\n"])


class _Labels:
    """Names of faults over a strip, each in the lowest line where it covers no other; they come in order of time."""

    def __init__(self) -> None:
        self._ends: dict[tuple[int, int], float] = {}  # of the last one, by strip and line

    def put(self, x: float, y: int, text: str) -> str:
        """An SVG text with a stroke down to what began at ``x`` in the strip at ``y``."""
        width = len(text) * _LETTER
        left = min(x + 2, _MARGIN + _SECONDS * _SCALE - width)
        free = (line for line in range(_LABELS) if self._ends.get((y, line), 0.0) <= left)
        line = next(free, _LABELS - 1)
        self._ends[y, line] = left + width + _LETTER
        base = y + _TITLE - 3 - line * _LABEL
        return (
            f'<path d="M{x:.1f} {base - 6}V{y + _TITLE}" stroke="#ef9a9a" stroke-width="0.8"/>'
            f'<text x="{left:.1f}" y="{base}" font-size="8" fill="#b71c1c">{escape(text)}</text>'
        )


def _legend(meaning: str) -> Iterator[str]:
    x = 420
    for kind, colour in _COLOURS.items():
        yield f'<rect x="{x}" y="8" width="10" height="9" fill="{colour}"/><text x="{x + 14}" y="16">{kind}</text>'
        x += 100
    yield f'<circle cx="{x + 5}" cy="12" r="5" fill="none" stroke="#d50000" stroke-width="2"/>'
    yield f'<text x="{x + 14}" y="16">{escape(meaning)}</text>'


def _faults(events: Sequence[Event]) -> Iterator[tuple[float, float, str]]:
    """From, to, what."""
    begun = 0.0
    for event in events:
        if event.point == "fault":
            begun = event.time
        elif event.point == "healed":
            yield begun, event.time, event.detail["kind"]
    for from_, to in calm_times(events):
        yield from_, to, "no faults"


def _bars(events: Sequence[Event], told: Mapping[str, Story]) -> Iterator[tuple[float, float, int, str]]:
    """From, to, worker, what: one of `_COLOURS`."""
    following: dict[int, Event] = {}
    for event in reversed(events):  # who is stopped stands still until he says the next thing, or his successor does
        if event.point == "stopped" and event.worker in following:
            yield event.time, following[event.worker].time, event.worker, "standing still"
        if event.transfer or event.point == "stopped":  # else it is said by another thread
            following[event.worker] = event
    for story in told.values():
        held = min((story.reached[name] for name in ("granted", "claimed") if name in story.reached), default=None)
        last = max(story.reached.values())
        if "waiting" in story.reached:
            yield story.reached["waiting"], held or last, story.worker, "waiting"
        kind = "committed" if story.outcome == "done" else story.outcome
        if kind == "committed" and story.alone:
            kind = "gone alone"
        if kind in _COLOURS:
            yield held or last, last, story.worker, kind


def _rings(marks: Sequence[tuple[float, int]], begin: float) -> Iterator[str]:
    for moment, worker in marks:
        for x, y, _, _ in _pieces(moment - begin, moment - begin):
            centre = _lane(y, worker) + 7
            yield f'<circle cx="{x:.1f}" cy="{centre}" r="6" fill="none" stroke="#d50000" stroke-width="2"/>'


def _pieces(from_: float, to: float) -> Iterator[tuple[float, int, float, bool]]:
    """A span of time, cut at the ends of strips: x, y of the strip, length, whether it is the first piece."""
    first = True
    while first or from_ < to:
        strip = int(from_ / _SECONDS)
        until = min(to, (strip + 1) * _SECONDS)
        x = _MARGIN + (from_ - strip * _SECONDS) * _SCALE
        yield x, _MARGIN + strip * _STRIP, (until - from_) * _SCALE, first
        from_, first = max(until, (strip + 1) * _SECONDS) if until < to else to, False


def _lane(y: int, worker: int) -> int:
    return y + _TITLE + worker * _LANE
