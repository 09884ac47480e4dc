"""Names that nobody knows: options, settings and keys that users mistype. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_ALIKE = 0.5  # difflib's ratio from which on somebody may have meant it


def closest(name: object, known: Iterable[str], *, alike: float = 0.0) -> str | None:
    """That of the ``known`` which looks most like ``name``, in whatever case; None if none is as much ``alike``."""
    written = {one.lower(): one for one in known}
    found = difflib.get_close_matches(str(name).lower(), written, n=1, cutoff=alike)
    return written[found[0]] if found else None


def nearest(name: object, known: Iterable[str]) -> str:
    """The end of an error message about ``name``: which of the ``known`` was meant, or which there are."""
    names = list(known)
    meant = closest(name, names, alike=_ALIKE)
    if meant is not None:
        return f"Did you mean {meant!r}?"
    return f"It knows {', '.join(sorted(names))}; {closest(name, names)!r} comes nearest."
