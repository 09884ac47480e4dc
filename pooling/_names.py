"""Names that nobody knows: options, settings and keys that users mistype. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: object, known: Iterable[str]) -> str:
    """The end of an error message about ``name``: which of the ``known`` was meant, or which there are."""
    names = list(known)
    written = {one.lower(): one for one in names}
    close = difflib.get_close_matches(str(name).lower(), written, n=1, cutoff=0.5)
    if close:
        return f"Did you mean {written[close[0]]!r}?"
    by_chance = difflib.get_close_matches(str(name).lower(), written, n=1, cutoff=0.0)[0]
    return f"It knows {', '.join(sorted(names))}; {written[by_chance]!r} comes nearest."
