"""The figures and plots of the README and the manual are those of the data that were measured."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import __main__ as bench
from benchmarks import machine, pages, plots, report
from benchmarks.results import BENCHMARKS, LATEST, PARTS, Run

LATEST_RUN = Run.load(LATEST)
SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [one.text or "" for one in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def bars(svg: str) -> list[float]:
    """Their lengths, in the order in which they are drawn."""
    shapes = ElementTree.fromstring(svg).iter(f"{SVG}path")
    coloured = [one for one in shapes if re.search(f"{plots.ACCENT}|{plots.PEER}", one.get("style", ""))]
    paths = [one.get("d", "") for one in coloured]
    numbers = [[float(x) for x in re.findall(r"[ML] ([-\d.]+)", path)] for path in paths]
    return [max(xs) - min(xs) for xs in numbers if xs]


def table(**values: Any) -> report.Table:
    made = report.Table("About it.", ["", "µs"], [["pooling", "2"], ["peer", "1"]], title="It", **values)
    made.compare("A use", "µs", {"pooling": [2.0, 4.0], "peer": [1.0, 2.0], "least": [0.5, 0.5]}, bound="least")
    made.compare("Uses", "a second", {"pooling": [100.0], "peer": [90.0]}, most=True)
    return made


def run(*tables: report.Table) -> Run:
    return Run(machine.Machine(2, "x", "CPython 3", {"Redis": "7"}, {"Django": "5"}), {"cache": list(tables)})


def test_everything_was_measured_in_that_run() -> None:
    assert set(LATEST_RUN.tables) == {name for names in BENCHMARKS.values() for name in names}
    assert {"Redis"} < set(LATEST_RUN.machine.servers)
    assert not [why for one in LATEST_RUN.all() for why in one.absent]
    for name in bench.NAMES:
        assert (pages.ROOT / "benchmarks" / f"{name}.py").exists()


@pytest.mark.parametrize(("page", "name"), list(pages.figures(LATEST_RUN)), ids=lambda one: getattr(one, "name", one))
def test_pages_show_what_was_measured(page: Path, name: str) -> None:
    text = page.read_text("utf-8")
    assert pages.put(text, name, pages.figures(LATEST_RUN)[page, name]) == text, "run python -m benchmarks.pages"


@pytest.mark.parametrize("part", PARTS)
def test_plots_show_what_was_measured(part: str) -> None:
    """By what is in them: another version of the library may write it in another way."""
    path = plots.IMAGES / plots.name_of(part)
    here, anew = path.read_text("utf-8"), plots.draw(LATEST_RUN, part)
    assert texts(here) == texts(anew), "run python -m benchmarks.plots"
    assert bars(here) == pytest.approx(bars(anew), abs=0.01), "run python -m benchmarks.plots"
    assert path.stat().st_size < 60_000
    for one in plots.panels(LATEST_RUN, part):
        assert len(one.heading) <= 56, "it would be cut off at the edge"
        assert {one.heading, *one.values, *map(report.number, one.values.values())} <= set(texts(here))


def test_no_other_plot_is_kept() -> None:
    assert {path.name for path in plots.IMAGES.iterdir()} == {plots.name_of(part) for part in PARTS}


def test_a_plot_is_the_same_each_time_and_has_both_modes() -> None:
    made = plots.draw(run(table()), "cache")
    assert made == plots.draw(run(table()), "cache")
    colours = set(re.findall(r"#[0-9a-f]{6}\b", made.replace("#000000", "")))
    assert colours == {*plots.DARK, *plots.DARK.values()}, "a colour that the dark mode does not change"


def test_bars_are_as_long_as_their_values() -> None:
    found = bars(plots.draw(run(table()), "cache"))
    assert [length / found[0] for length in found] == pytest.approx([1, 0.5, 1 / 6, 1, 0.9], abs=0.01)


def test_words_of_a_plot() -> None:
    words = "A use, µs: pooling 3, peer 1.5, least 0.5. Uses, a second (more is better): pooling 100, peer 90."
    assert plots.words(run(table()), "cache") == words


def test_losses_are_said_of_peers_only_and_both_ways() -> None:
    (loss,) = table().losses()
    assert (loss.name, loss.ours, loss.peer, loss.theirs, loss.factor) == ("pooling", 3.0, "peer", 1.5, 2.0)
    rates = report.Table("", [], title="Rates")
    rates.compare("Uses", "", {"pooling": [100.0], "peer": [150.0]}, most=True)
    rates.compare("Noise", "", {"pooling": [100.0], "peer": [102.0]}, most=True)
    rates.compare("Chance", "", {"pooling": [2.0, 2.0, 9.0], "peer": [1.0, 9.0, 8.0]})
    # Also where only the rounds, or only the medians, say so.
    assert [(loss.heading, loss.factor) for loss in rates.losses()] == [
        ("Uses (more is better)", 1.5),
        ("Chance", 1.125),
    ]


def test_what_is_missed_is_said_and_what_is_not_is_not() -> None:
    missed = report.Bar("too slow", 3, 2), report.Bar("too few", 3, 4, unit=" things", least=True)
    text = pages.losing(run(table(bars=[*missed, report.Bar("good", 1, 2)])))
    assert "| A use, µs | pooling: 3 | peer: 1.5 | 2.00x |" in text
    assert "| It: too slow | 3x | ≤ 2x |" in text
    assert "| It: too few | 3 things | ≥ 4 things |" in text
    assert "good" not in text
    good = pages.losing(run(report.Table("", [], title="Nothing")))
    assert "No peer is better" in good
    assert "Every goal is reached." in good


def test_a_run_is_kept_as_it_is(tmp_path: Path) -> None:
    made = run(table(bars=[report.Bar("good", 1.0, 2.0)], absent=["peer: gone"], raw={"µs": [1.0, 2.0]}))
    made.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == made


def test_a_page_without_a_place() -> None:
    page = "a\n<!-- figures of scale -->\n| old |\n<!-- end of figures -->\nb\n"
    assert pages.put(page, "scale", "| new |") == (
        "a\n<!-- figures of scale -->\n\n| new |\n\n<!-- end of figures -->\nb\n"
    )
    for wrong in ("nothing", page * 2):
        with pytest.raises(ValueError, match="needs one pair"):
            pages.put(wrong, "scale", "| new |")


def test_without_what_draws_a_run_is_kept_all_the_same(monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.setattr(bench, "measure", lambda name, rounds: [table()])
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    monkeypatch.setattr(bench, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "cache"])
    assert bench.main() == 0
    said = capsys.readouterr().out
    assert "Plots are left out: matplotlib is not installed." in said
    assert "| A use, µs | pooling: 3 | peer: 1.5 | 2.00x |" in said
    (path,) = tmp_path.iterdir()
    assert Run.load(path).tables == {"cache": [table()]}
    monkeypatch.setattr(sys, "argv", ["bench", "--readme"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "pip install matplotlib" in capsys.readouterr().err
