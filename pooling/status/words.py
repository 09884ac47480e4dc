"""Numbers and times as the status page and the commands write them."""

from __future__ import annotations


def span(seconds: float) -> str:
    """A duration: ``40 µs``, ``0.4 ms``, ``12 ms``, ``1.2 s``, ``12 s``, ``3 min 12 s``, ``2 h 5 min``, ``3 d 4 h``."""
    if seconds < 0.0000005:
        return "0 ms"
    if seconds < 0.0000995:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.{1 if seconds < 0.00995 else 0}f} ms"
    if seconds < 59.5:
        return f"{seconds:.{1 if seconds < 9.95 else 0}f} s"
    for unit, low, small, below in ((60, 1, ("min", "s"), 3600), (3600, 60, ("h", "min"), 86400)):
        if round(seconds / low) * low < below:
            large, rest = divmod(round(seconds / low), unit // low)
            return f"{large} {small[0]} {rest} {small[1]}" if rest else f"{large} {small[0]}"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days:,} d {hours} h" if hours else f"{days:,} d"


def number(value: float) -> str:
    """``1,234`` for what is whole or large, else two digits: ``0.25``, ``1.2``."""
    if value == round(value) or abs(value) >= 100:
        return f"{round(value):,}"
    return f"{value:.{1 if abs(value) >= 1 else 2}f}"


def size(count: float) -> str:
    """Bytes: ``512 B``, ``12 KiB``, ``3.4 MiB``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1000:
            return f"{count:.{0 if unit == 'B' or count >= 10 else 1}f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"


def percent(part: float | None) -> str:
    """``96 %``; a dash where nothing is known. 100 only for all of it, 0 only for nothing."""
    if part is None:
        return "–"
    whole = round(part * 100)
    if whole in (0, 100) and part not in (0, 1):
        return "> 99 %" if whole else "< 1 %"
    return f"{whole} %"
