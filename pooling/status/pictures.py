"""Small pictures as inline SVG. Each says in words what it shows, for those who do not see it.

Colours are the style sheet's, by class: a strict Content-Security-Policy would refuse styles in attributes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ..histogram import middle_of
from .words import number, span

WIDTH, HEIGHT = 240, 72
_TOP, _BOTTOM = 6, 2

# A bar for each power of two from here on: 0.1 ms … 100 s. What is shorter or longer is in the first or last.
_FIRST = 1e-4
_BARS = 21
_BAR, _TALL = 5, 26


def nice(value: float) -> float:
    """The end of an axis that shows ``value``: 1, 2 or 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if value <= factor * power * (1 + 1e-9))


def chart(title: str, lines: Sequence[tuple[str, Sequence[float]]], seconds: float) -> SafeString:
    """A line for each series of equally many values, the newest at the right; all of them take ``seconds``."""
    top = nice(max((value for _, values in lines for value in values), default=0.0))
    high = HEIGHT - _TOP - _BOTTOM

    def points(values: Sequence[float]) -> str:
        step = WIDTH / max(1, len(values) - 1)
        return " ".join(f"{at * step:.1f},{_TOP + high * (1 - value / top):.1f}" for at, value in enumerate(values))

    drawn = format_html_join(
        "",
        '<polyline class="line{}" points="{}"/>',
        ((at, points(values)) for at, (_, values) in enumerate(lines) if len(values) > 1),
    )
    told = format_html_join(
        "",
        '<li><svg class="key" viewBox="0 0 20 6" aria-hidden="true"><path class="line{}" d="M0 3H20"/></svg>'
        "{} <strong>{}</strong></li>",
        ((at, name, number(values[-1]) if values else "–") for at, (name, values) in enumerate(lines)),
    )
    words = "; ".join(
        f"{name} now {number(values[-1])}, at most {number(max(values))}" for name, values in lines if values
    )
    return format_html(
        '<figure class="chart"><figcaption>{}</figcaption>'
        '<svg viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<path class="grid" d="M0 {}H{}M0 {}H{}"/>{}</svg>'
        '<p class="axis"><span>{}</span><span>{}</span></p><ul class="keys">{}</ul></figure>',
        title,
        *(WIDTH, HEIGHT, f"{title} over the last {span(seconds)}: {words or 'nothing yet'}"),
        *(_TOP, WIDTH, HEIGHT - _BOTTOM, WIDTH),
        drawn,
        *(f"up to {number(top)}", f"last {span(seconds)}"),
        told,
    )


def histogram(data: Mapping[str, Any]) -> SafeString:
    """How often it took how long, on a logarithmic axis, from a histogram as JSON has it."""
    bars = [0] * _BARS
    for bucket, count in data["buckets"].items():
        place = math.log2(max(middle_of(int(bucket)), 1e-9) / _FIRST)
        bars[min(_BARS - 1, max(0, math.floor(place)))] += count
    if not data["count"]:
        return format_html('<span class="dim">{}</span>', "–")
    most = max(1, *bars)
    drawn = format_html_join(
        "",
        '<rect class="bar" x="{}" y="{}" width="{}" height="{}"/>',
        (
            (at * _BAR, f"{_TALL * (1 - count / most):.1f}", _BAR - 1, f"{max(1.0, _TALL * count / most):.1f}")
            for at, count in enumerate(bars)
            if count
        ),
    )
    words = (
        f"{number(data['count'])} times; half within {span(data['p50'])}, 99 of 100 within {span(data['p99'])}, "
        f"at most {span(data['max'])}"
    )
    return format_html(
        '<svg class="histogram" viewBox="0 0 {} {}" role="img" aria-label="{}"><title>{}</title>'
        '<path class="grid" d="M0 {}H{}"/>{}</svg>',
        *(_BARS * _BAR, _TALL + 2, words, words, _TALL + 1.5, _BARS * _BAR),
        drawn,
    )


def bar(part: float | None, words: str) -> SafeString:
    """A share from 0 to 1 as a bar, with the words that say it."""
    width = 0.0 if part is None else 60 * min(1.0, max(0.0, part))
    return format_html(
        '<svg class="share" viewBox="0 0 60 8" aria-hidden="true"><rect class="room" width="60" height="8"/>'
        '<rect class="bar" width="{}" height="8"/></svg> {}',
        f"{width:.1f}",
        words,
    )
