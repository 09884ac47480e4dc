"""Pictures of a run as inline SVG: lines over time, and who waited for whom. Colours are the page's, by class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from demo_site.lab.records import Run, Scheme

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 320, 150, 38, 18, 8
_HEAD = 20
_LONGEST = 20  # letters
_LINE = 22  # pixels from one name to the next in the picture of the waits


def _nice(value: float) -> float:
    """The end of an axis that shows ``value``: 1, 2 or 5 times a power of ten."""
    step = 1e-3
    while True:
        for factor in (1, 2, 5):
            if value <= factor * step:
                return factor * step
        step *= 10


def lines(run: Run, title: str, value: Callable[[dict[str, Any]], float | None]) -> SafeString:
    """One line for each scheme, all from the moment on at which its visitors began."""
    end = max([run.plan.seconds, *(tick["t"] for scheme in run.schemes for tick in scheme.ticks)])
    most = _nice(max((value(tick) or 0 for scheme in run.schemes for tick in scheme.ticks), default=0) or 1)
    right, high = WIDTH - LEFT - 6, HEIGHT - TOP - BOTTOM

    def path(ticks: Sequence[dict[str, Any]]) -> str:
        """Broken where nothing was measured: where nobody was answered, nobody was answered within 0 ms."""
        parts: list[list[str]] = [[]]
        for tick in ticks:
            found = value(tick)
            if found is None:
                parts.append([])
            else:
                parts[-1].append(f"{LEFT + right * tick['t'] / end:.1f},{TOP + high * (1 - found / most):.1f}")
        # A value between two gaps is a short line, or it could not be seen.
        return "".join(f"M{'L'.join(part)}{'h2' if len(part) == 1 else ''}" for part in parts if part)

    drawn = format_html_join(
        "",
        '<path class="line s{}" d="{}"/>',
        ((scheme.number % 6, path(scheme.ticks)) for scheme in run.schemes if scheme.ticks),
    )
    return format_html(
        '<figure class="chart"><figcaption>{}</figcaption><svg viewBox="0 0 {} {}" role="img" aria-label="{}">'
        '<path class="grid" d="M{} {}H{}M{} {}H{}"/><path class="axis" d="M{} {}V{}H{}"/>{}{}</svg></figure>',
        title,
        WIDTH,
        HEIGHT,
        f"{title} over time, one line for each scheme",
        *(LEFT, TOP, WIDTH - 6, LEFT, TOP + high / 2, WIDTH - 6),
        *(LEFT, TOP, TOP + high, WIDTH - 6),
        format_html_join(
            "",
            '<text x="{}" y="{}" class="end">{}</text>',
            [
                (LEFT - 4, TOP + 4, f"{most:g}"),
                (LEFT - 4, TOP + high / 2 + 4, f"{most / 2:g}"),
                (LEFT - 4, TOP + high, "0"),
                (WIDTH - 6, HEIGHT - 3, f"{end:.3g} s"),
            ],
        ),
        drawn,
    )


def charts(run: Run) -> list[SafeString]:
    def milliseconds(name: str) -> Callable[[dict[str, Any]], float | None]:
        return lambda tick: None if tick[name] is None else tick[name] * 1000

    return [
        lines(run, "Answers per second", lambda tick: tick["rate"]),
        lines(run, "Slowest of a hundred (p99), ms", milliseconds("p99")),
        lines(run, "Connections to the database", lambda tick: tick["connections"]),
        lines(run, "Errors so far", lambda tick: tick["errors"]),
    ]


def waits(scheme: Scheme) -> SafeString:
    """On the left those who waited, on the right those who had it; the thicker a line, the more of them."""
    edges = scheme.waits
    if not edges:
        return mark_safe("")
    left = list(dict.fromkeys(who for who, _, _ in edges))
    right = list(dict.fromkeys(whom for _, whom, _ in edges))
    height = max(len(left), len(right)) * _LINE + _HEAD + 8
    heaviest = max(number for _, _, number in edges)

    def y(names: Sequence[str], name: str) -> float:
        return names.index(name) * _LINE + _LINE / 2 + _HEAD

    drawn = format_html_join(
        "",
        '<path class="wait" d="M150 {}C200 {} 200 {} 250 {}" stroke-width="{}"><title>{}</title></path>',
        (
            (
                y(left, who),
                y(left, who),
                y(right, whom),
                y(right, whom),
                f"{1 + 5 * number / heaviest:.1f}",
                f"{number:.2g} × {who} waits for {whom}",
            )
            for who, whom, number in edges
        ),
    )
    names = format_html_join(
        "",
        '<text x="{}" y="{}"{}>{}</text>',
        [(144, y(left, name) + 4, mark_safe(' class="end"'), _short(name)) for name in left]
        + [(256, y(right, name) + 4, "", _short(name)) for name in right],
    )
    return format_html(
        '<svg class="waits" viewBox="0 0 400 {}" role="img" aria-label="{}">'
        '<text x="144" y="14" class="end head">waits</text><text x="256" y="14" class="head">has it</text>{}{}</svg>',
        height,
        f"Who waited for whom: {scheme.title}. The list below says the same.",
        drawn,
        names,
    )


def _short(name: str) -> str:
    """What fits beside the lines; the list has the whole name."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
