"""The plots of the README and the manual, from a run's data, without measuring: ``python -m benchmarks.plots``.

Each is one SVG with a ground of its own, and its colours follow the reader's light or dark mode, so that it can be read
on either page. Texts are texts. The same data give the same file: nothing in it depends on the time or on chance.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .report import OURS, Compared, number
from .results import LATEST, PARTS, Run

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "img"

# What each colour of the light mode becomes in the dark one.
GROUND, INK, ACCENT, PEER = "#ffffff", "#1f2328", "#0969da", "#aab4bf"
DARK = {GROUND: "#0d1117", INK: "#e6edf3", ACCENT: "#4493f8", PEER: "#5f6975"}

WIDTH, MARGIN = 10.4, 0.15  # inches
NAMES, BARS = 2.2, 2.1  # of each column: for the names, for the bars; the values stand in what is left
LINE, HEAD, GAP = 0.23, 0.38, 0.16  # heights of a bar, of a panel's title, and between panels


def panels(run: Run, part: str) -> list[Compared]:
    return [one for table in run.of(part) for one in table.compared if one.drawn]


def name_of(part: str) -> str:
    return f"bench-{part}.svg"


def words(run: Run, part: str) -> str:
    """What the plot shows, for those who do not see it."""
    said = []
    for one in panels(run, part):
        values = ", ".join(f"{name} {number(value)}" for name, value in one.values.items())
        said.append(f"{one.heading}: {values}.")
    return " ".join(said)


def draw(run: Run, part: str) -> str:
    """An SVG. ImportError without matplotlib."""
    import matplotlib
    from matplotlib.figure import Figure

    shown = panels(run, part)
    columns = min(2, len(shown))
    rows = [shown[at : at + columns] for at in range(0, len(shown), columns)]
    heights = [HEAD + LINE * max(len(one.values) for one in row) + GAP for row in rows]
    width, height = WIDTH / 2 * columns, sum(heights) + MARGIN
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "pooling",
        "font.family": "sans-serif",
        "font.size": 9.5,
    }
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height), facecolor=GROUND)
        top = height
        for row, tall in zip(rows, heights, strict=True):
            for column, one in enumerate(row):
                bars = LINE * len(one.values)
                left = WIDTH / 2 * column + MARGIN + NAMES
                box = (left / width, (top - HEAD - bars) / height, BARS / width, bars / height)
                _panel(figure.add_axes(box), one)
            top -= tall
        made = io.StringIO()
        title = f"Benchmarks: {part}"
        figure.savefig(made, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    return made.getvalue().replace("<defs>", f"<style>{_dark()}</style>\n <defs>", 1)


def _panel(axes: Any, one: Compared) -> None:
    names, values = list(one.values), list(one.values.values())
    places = range(len(names), 0, -1)
    colours = [ACCENT if name.startswith(OURS) else PEER for name in names]
    axes.barh(places, values, height=0.68, color=colours)
    for place, value in zip(places, values, strict=True):
        axes.annotate(number(value), (value, place), xytext=(4, 0), textcoords="offset points", va="center", color=INK)
    axes.set(xlim=(0, max(values) or 1), ylim=(0.5, len(names) + 0.5), xticks=[], facecolor="none")
    axes.set_yticks(places, names, color=INK)
    axes.tick_params(length=0)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name.startswith(OURS) else "normal")
    axes.spines[:].set_visible(False)
    # From the left edge of the names.
    axes.set_title(one.heading, loc="left", x=-NAMES / BARS, color=INK, fontsize=9.5, fontweight="bold", pad=5)


def _dark() -> str:
    # matplotlib writes colours as inline styles: only "important" is stronger than those.
    rules = "".join(f'[style*="fill: {light}"] {{fill: {dark} !important}} ' for light, dark in DARK.items())
    return f"@media (prefers-color-scheme: dark) {{{rules}}}"


def write(run: Run, folder: Path, prefix: str = "") -> list[Path]:
    """A file for each part that the run has measured. ImportError without matplotlib."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for part in PARTS:
        if panels(run, part):
            written.append(folder / f"{prefix}{name_of(part)}")
            written[-1].write_text(draw(run, part), "utf-8")
    return written


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", type=Path, default=LATEST, help="of which run (default: %(default)s)")
    parser.add_argument("--to", type=Path, default=IMAGES, help="folder (default: %(default)s)")
    options = parser.parse_args(words)
    for path in write(Run.load(options.data), options.to):
        print(path)


if __name__ == "__main__":
    main()
