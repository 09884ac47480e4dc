"""The figures of the README and the manual, made from a run's data without measuring: ``python -m benchmarks.pages``.

They stand between two comments, ``<!-- figures of NAME -->`` and ``<!-- end of figures -->``; the rest of a page is
left as it is. Nobody writes them by hand: a test compares them with ``benchmarks/results/latest.json``.
"""

from __future__ import annotations

import re
from pathlib import Path

from . import plots, report
from .report import number
from .results import LATEST, PARTS, Run

ROOT = Path(__file__).resolve().parent.parent


def measured(run: Run) -> str:
    return f"Measured on {run.machine}."


def losing(run: Run) -> str:
    """Where a peer is better, and which goals are missed."""
    worse = [
        [
            f"{loss.heading}",
            f"{loss.name}: {number(loss.ours)}",
            f"{loss.peer}: {number(loss.theirs)}",
            f"{loss.factor:.2f}x",
        ]
        for table in run.all()
        for loss in table.losses()
    ]
    missed = [
        [f"{table.title}: {bar.what}", bar.reached, bar.wanted]
        for table in run.all()
        for bar in table.bars
        if not bar.met
    ]
    parts = ["No peer is better than pooling in anything that is measured."]
    if worse:
        header = ["A peer is better", "ours", "the peer's", "worse by"]
        parts = [report.grid(header, worse)]
    parts.append(report.grid(["A goal is missed", "reached", "wanted"], missed) if missed else "Every goal is reached.")
    return "\n\n".join(parts)


def images(run: Run, folder: str) -> str:
    """The plots as images of Markdown; ``folder`` is where they are, from the page."""
    parts = [part for part in PARTS if plots.panels(run, part)]
    return "\n\n".join(f"![{plots.words(run, part)}]({folder}/{plots.name_of(part)})" for part in parts)


def tables(run: Run) -> str:
    parts = []
    for part, title in PARTS.items():
        parts.append(f"## {title}")
        if plots.panels(run, part):
            parts.append(f"![{plots.words(run, part)}](img/{plots.name_of(part)})")
        parts += [f"### {table.title}\n\n{table.markdown()}" for table in run.of(part)]
    return "\n\n".join(parts)


def figures(run: Run) -> dict[tuple[Path, str], str]:
    """What stands where: (page, name of its figures) -> Markdown."""
    docs = ROOT / "docs"
    manual = "\n\n".join((measured(run), "## Where pooling loses", losing(run), tables(run)))
    scale = "\n\n".join((measured(run), *(table.markdown() for table in run.tables["scale"])))
    readme = "\n\n".join((measured(run), images(run, "docs/img"), losing(run)))
    return {
        (ROOT / "README.md", "benchmarks"): readme,
        (docs / "benchmarks.md", "benchmarks"): manual,
        (docs / "scale.md", "scale"): scale,
    }


def put(page: str, name: str, text: str) -> str:
    """The page with these figures instead of those that it has. ValueError if it has no place for them."""
    between = re.compile(rf"(<!-- figures of {name} -->\n).*?(<!-- end of figures -->)", re.DOTALL)
    new, places = between.subn(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", page)
    if places != 1:
        raise ValueError(f"The page needs one pair of the comments {between.pattern!r} for the figures of {name}.")
    return new


def write(run: Run) -> None:
    """Into all pages, or, with a ValueError, into none."""
    made = {path: put(path.read_text("utf-8"), name, text) for (path, name), text in figures(run).items()}
    for path, text in made.items():
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    write(Run.load(LATEST))
