"""Answers to frames and back, looking them up, and the ``Cache-Status`` header (RFC 9211)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse

from ..store.protocol import Store, Vector
from . import frame, keys

NAME = "pooling"
_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look into the store found. ``key`` is where the answer stands or would stand; ``why`` is RFC 9211's
    word for a miss; ``skip``: the last answer could not be stored, do not queue for this one."""

    key: str
    page: frame.Page | None = None
    why: str = "uri-miss"
    skip: bool = False


def look(store: Store, base: str, epochs: tuple[str, ...], request: Any) -> Looked:
    """One fetch, or two where the answer varies on request headers. A page counts only under equal epochs."""
    key, why = base, "uri-miss"
    found = store.fetch(base, epochs)
    entry = frame.decode(found.entry)
    if isinstance(entry, frame.VaryMark):
        key, why = keys.vary_key(base, header_values(request, entry.names)), "vary-miss"
        found = store.fetch(key, epochs)
        entry = frame.decode(found.entry)
    if isinstance(entry, frame.Page):
        if entry.vector == found.vector and time.time() < entry.created + entry.ttl:
            return Looked(key, entry)
        return Looked(key, why="stale")
    return Looked(key, why=why, skip=isinstance(entry, frame.SkipMark))


def header_values(request: Any, names: tuple[str, ...]) -> list[tuple[str, str | None]]:
    return [(name, request.headers.get(name)) for name in names]


def save(
    store: Store,
    base: str,
    epochs: tuple[str, ...],
    vector: Vector,
    request: Any,
    response: Any,
    ttl: float,
    vary: Iterable[str],
) -> bool:
    """Store an answer that may be stored, if the epochs still have the values of ``vector``; was it stored?

    ``vary``: the request headers that tell it from other answers under the same base key.
    """
    key = base
    names = set(vary)
    mark = frame.decode(store.fetch(base, ()).entry)
    if isinstance(mark, frame.VaryMark):
        # Never fewer than before: another answer of this view may have gone by a header that this one does not name.
        names |= set(mark.names)
    page = frame.Page(
        status=response.status_code,
        reason=response.reason_phrase,
        headers=tuple((str(name), str(value)) for name, value in response.items()),
        body=bytes(response.content),
        vector=vector,
        created=time.time(),
        ttl=ttl,
    )
    if names:
        ordered = tuple(sorted(names))
        key = keys.vary_key(base, header_values(request, ordered))
        if not store.put(base, frame.encode(frame.VaryMark(ordered)), ttl, (), ()):
            return False
    return store.put(key, frame.encode(page), ttl, epochs, vector)


def answer(page: frame.Page, method: str | None) -> HttpResponse:
    """The stored answer. For HEAD it says the length of GET's body; Django or the server leaves the body out."""
    response = HttpResponse(page.body, status=page.status, reason=page.reason, headers=dict(page.headers))
    if not any(name.lower() == "content-type" for name, _ in page.headers):
        del response["Content-Type"]
    if method == "HEAD":
        response["Content-Length"] = str(len(page.body))
    return response


def remaining(page: frame.Page) -> int:
    """Seconds until the page expires, rounded down."""
    return int(page.created + page.ttl - time.time())


def age(page: frame.Page) -> str:
    """``Age``: seconds since the page was made (RFC 9111, section 5.1); clocks of machines may differ a little."""
    return str(max(0, int(time.time() - page.created)))


def status(response: Any, *parts: str, detail: str | None = None) -> Any:
    """Add ``Cache-Status: pooling; …`` behind what is there; returns the response."""
    if hasattr(response, "headers"):
        if detail:
            text = _NOT_PRINTABLE.sub("?", detail).replace("\\", "\\\\").replace('"', '\\"')
            parts = (*parts, f'detail="{text}"')
        mine = "; ".join((NAME, *parts))
        earlier = response.headers.get("Cache-Status")
        response.headers["Cache-Status"] = f"{earlier}, {mine}" if earlier else mine
    return response
