"""Reading ``Cache-Status`` (RFC 9211): what a cached view says of an answer, for tests and for who fills the cache."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .answers import NAME

FAILED = "the view failed"
NOT_BEGUN = "the view could not begin"

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_MEMBER = re.compile(rf'(?:[^,"]|{_QUOTED})+')
_PART = re.compile(rf'(?:[^;"]|{_QUOTED})+')


@dataclass(frozen=True, slots=True)
class Told:
    """One member of the header.

    ``text``       as it stands there.
    ``hit``        the answer was in the cache. It may be an old one, see `stale`.
    ``forwarded``  RFC 9211's word for why it was not: "uri-miss", "vary-miss", "stale", "method", "bypass"; else "".
    ``stored``     the view has made it, and it was put into the cache.
    ``collapsed``  it came into the cache while this request waited for another one that made it.
    ``ttl``        seconds until it expires; below zero: for how long it may have been old. None if that is not said.
    ``detail``     further words, "" if there are none.
    """

    text: str
    hit: bool = False
    forwarded: str = ""
    stored: bool = False
    collapsed: bool = False
    ttl: int | None = None
    detail: str = ""

    @property
    def stale(self) -> bool:
        """Was it a page that counted no more: while another request made the next one (``stale=``), or because the view
        failed (``stale_if_error=``)?"""
        if self.hit:
            return self.ttl is not None and self.ttl < 0
        return self.detail in (FAILED, NOT_BEGUN)

    @property
    def fresh(self) -> bool:
        """Was it a page from the cache that counted, so that the view did not run for this request?"""
        return self.collapsed or (self.hit and not self.stale)

    @property
    def made(self) -> bool:
        """Did the view run, and is this its answer?"""
        return not (self.fresh or self.stale)

    @property
    def why_not_stored(self) -> str:
        """Why an answer that the view made is not in the cache; "" if it is, or if the view made none."""
        if self.stored or not self.made:
            return ""
        return self.detail or self.forwarded


def read(header: str | None) -> Told | None:
    """What the outermost cached view says in a ``Cache-Status``, which is the last to say something; None if none
    does. What other caches say there, be it right or wrong, does not matter."""
    for member in reversed(_MEMBER.findall(header or "")):
        parts = [part.strip() for part in _PART.findall(member)]
        if parts and parts[0] == NAME:
            return _told(member.strip(), parts[1:])
    return None


def _told(text: str, parts: list[str]) -> Told:
    said = {name: value for name, _, value in (part.partition("=") for part in parts)}
    ttl = said.get("ttl", "")
    return Told(
        text,
        hit="hit" in said,
        forwarded=said.get("fwd", ""),
        stored="stored" in said,
        collapsed="collapsed" in said,
        ttl=int(ttl) if re.fullmatch(r"-?\d+", ttl) else None,
        detail=re.sub(r"\\(.)", r"\1", said.get("detail", "").removeprefix('"').removesuffix('"')),
    )
