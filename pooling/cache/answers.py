"""Answers to frames and back, looking them up, and the ``Cache-Status`` header (RFC 9211)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from django.http import HttpResponse

from ..groups import read_epochs
from ..store.protocol import Store, Vector
from . import frame, keys
from .copies import Template
from .stats import TOLD

NAME = "pooling"
_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")


class Looked(NamedTuple):
    """What a look into the store found. ``key`` is where the answer stands or would stand; ``why`` is RFC 9211's
    word for a miss; ``skip``: the last answer could not be stored, do not queue for this one; ``mark``: what led from
    the base key to this one. ``old``: a page that counts no more; ``current`` if only its time is up, and nothing that
    it was made from was written. ``reads``: groups that fragments in the last answer read beside the view's own."""

    key: str
    page: frame.Page | None = None
    why: str = "uri-miss"
    skip: bool = False
    mark: frame.VaryMark | None = None
    old: frame.Page | None = None
    current: bool = False
    reads: tuple[str, ...] = ()


def look(store: Store, base: str, epochs: tuple[str, ...], request: Any) -> Looked:
    """One fetch, or two where the answer varies on request headers. A page counts only under equal epochs."""
    key, why, mark = base, "uri-miss", None
    found = store.fetch(base, epochs)
    entry = frame.decode(found.entry)
    if isinstance(entry, frame.VaryMark):
        mark = entry
        key, why = keys.vary_key(base, header_values(request, mark.names)), "vary-miss"
        found = store.fetch(key, epochs)
        entry = frame.decode(found.entry)
    if isinstance(entry, frame.Page):
        # Those of its fragments are known only now. Each value need only be found after this request began.
        vector = found.vector + store.epochs(read_epochs(entry.reads)) if entry.reads else found.vector
        current = entry.vector == vector
        if current and time.time() < entry.created + entry.ttl:
            return Looked(key, entry, mark=mark, reads=entry.reads)
        return Looked(key, why="stale", old=entry, current=current, reads=entry.reads)
    if isinstance(entry, frame.SkipMark):
        return Looked(key, why=why, skip=not entry.reads, reads=entry.reads)
    return Looked(key, why=why)


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
    *,
    reads: tuple[str, ...] = (),
    grace: float = 0.0,
    cost: float = 0.0,
) -> bool:
    """Store an answer that may be stored, if the epochs still have the values of ``vector``; was it stored?

    ``vary``: the request headers that tell it from other answers under the same base key. ``reads``: groups of its
    fragments that the view does not declare; their epochs are the last of ``epochs``. ``grace``: for how many seconds
    the store keeps it after its ``ttl``. ``cost``: seconds that it took to make.
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
        cost=cost,
        reads=reads,
    )
    if names:
        ordered = tuple(sorted(names))
        key = keys.vary_key(base, header_values(request, ordered))
        if not store.put(base, frame.encode(frame.VaryMark(ordered)), ttl + grace, (), ()):
            return False
    return store.put(key, frame.encode(page), ttl + grace, epochs, vector)


def answer(page: frame.Page, method: str | None, *parts: str, detail: str | None = None) -> HttpResponse:
    """The stored answer with ``Age`` and, of these words, ``Cache-Status``. For HEAD it says the length of GET's body;
    Django or the server leaves the body out."""
    template, earlier = _template(page.status, page.reason, page.headers)
    said = (("Age", age(page)), ("Cache-Status", _words(parts, detail, earlier)))
    response = template.copy(page.body, *said)
    setattr(response, TOLD, (parts, detail))
    if method == "HEAD":
        response.headers["Content-Length"] = str(len(page.body))
    return response


@lru_cache(maxsize=1024)  # of what follows once for each page; the body is no part of it
def _template(status: int, reason: str, headers: tuple[tuple[str, str], ...]) -> tuple[Template, str | None]:
    """What the answers of a page are copied from, and the ``Cache-Status`` that it was stored with."""
    response = HttpResponse(content_type="text/html", status=status, reason=reason)
    del response.headers["Content-Type"]  # a page has its own, or none
    for name, value in headers:
        response.headers[name] = value
    return Template(response), response.headers.get("Cache-Status")


def remaining(page: frame.Page) -> int:
    """Seconds until the page expires, rounded down."""
    return int(page.created + page.ttl - time.time())


def age(page: frame.Page) -> str:
    """``Age``: seconds since the page was made (RFC 9111, section 5.1); clocks of machines may differ a little."""
    seconds = int(time.time() - page.created)
    return str(seconds) if seconds > 0 else "0"


def status(response: Any, *parts: str, detail: str | None = None) -> Any:
    """Add ``Cache-Status: pooling; …`` behind what is there; returns the response."""
    if hasattr(response, "headers"):
        setattr(response, TOLD, (parts, detail))  # for whoever counts
        response.headers["Cache-Status"] = _words(parts, detail, response.headers.get("Cache-Status"))
    return response


def _words(parts: tuple[str, ...], detail: str | None, earlier: str | None) -> str:
    if detail:
        text = _NOT_PRINTABLE.sub("?", detail).replace("\\", "\\\\").replace('"', '\\"')
        parts = (*parts, f'detail="{text}"')
    mine = "; ".join((NAME, *parts))
    return f"{earlier}, {mine}" if earlier else mine
