"""Numbers in words, and small pictures."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pooling.status import pictures
from pooling.status.words import number, percent, size, span

from .documents import histogram


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        *((0, "0 ms"), (-1, "0 ms"), (1e-7, "0 ms"), (0.00004, "40 µs"), (0.0004, "0.4 ms"), (0.00994, "9.9 ms")),
        *((0.01, "10 ms"), (0.9994, "999 ms")),
        *(
            (0.9999, "1.0 s"),
            (9.94, "9.9 s"),
            (9.96, "10 s"),
            (59.4, "59 s"),
            (59.6, "1 min"),
            (61, "1 min 1 s"),
            (3599.6, "1 h"),
            (7500, "2 h 5 min"),
        ),
        *((86399, "1 d"), (90000, "1 d 1 h"), (1e7, "115 d 18 h")),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    assert span(seconds) == expected


@given(st.floats(min_value=0, max_value=1e9))
def test_no_duration_is_of_sixty_of_a_unit(seconds: float) -> None:
    assert not re.search(r"\b(60 s|60 min|24 h|10\.0 s|1000 ms|0\.0 ms|100 µs)", span(seconds))


def test_other_numbers() -> None:
    assert [number(one) for one in (0, 0.25, 1.23, 100.4, 12345)] == ["0", "0.25", "1.2", "100", "12,345"]
    assert [size(one) for one in (0, 512, 12345, 5e8, 2e12)] == ["0 B", "512 B", "12 KiB", "477 MiB", "1,862.6 GiB"]
    assert [percent(one) for one in (None, 0, 1, 0.001, 0.9999, 0.5)] == [
        "–",
        "0 %",
        "100 %",
        "< 1 %",
        "> 99 %",
        "50 %",
    ]


@given(st.floats(min_value=1e-9, max_value=1e12))
def test_an_axis_ends_above_what_it_shows_and_not_far(value: float) -> None:
    assert value * 0.999 <= pictures.nice(value) <= value * 2.6


@given(st.lists(st.integers(0, 10**9), max_size=60))
def test_a_chart_has_each_value_within_its_frame(values: list[int]) -> None:
    made = pictures.chart("Some <things>", [("a & b", values), ("none", [0] * len(values))], 300)
    figure = ElementTree.fromstring(made)
    lines = [one.attrib["points"].split() for one in figure.iter("polyline")]
    assert [len(line) for line in lines] == ([len(values)] * 2 if len(values) > 1 else [])
    for point in (point for line in lines for point in line):
        x, y = map(float, point.split(","))
        assert 0 <= x <= pictures.WIDTH
        assert 0 <= y <= pictures.HEIGHT
    label = figure.find("svg").attrib["aria-label"]  # type: ignore[union-attr]
    assert label.startswith("Some <things> over the last 5 min: ")
    assert ("a & b now" in label) is bool(values)


@given(st.lists(st.floats(1e-9, 1e5), max_size=20), st.integers(0, 3))
def test_a_histogram_has_bars_as_tall_as_what_was_counted(seconds: list[float], zeros: int) -> None:
    made = pictures.histogram(histogram(*seconds, zeros=zeros))
    root = ElementTree.fromstring(made)
    heights = [float(one.attrib["height"]) for one in root.iter("rect")]
    assert bool(heights) is bool(seconds)
    assert all(0 < height <= 26 for height in heights)
    assert not heights or max(heights) == 26
