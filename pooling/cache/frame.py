"""What stands in the store under a key: a framed header and the raw body. Never a pickle.

A frame is ``magic, version, crc32, length of header, length of body, header (JSON), body``. Whatever does not decode
to exactly that, be it cut short, altered, written by another program or by another version, is None: a miss. The
header is JSON of plain types that are checked one by one, so that a poisoned entry executes nothing.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from ..errors import GroupError
from ..groups import validate

MAGIC = b"plg\xf5"  # not valid UTF-8: no text is taken for a frame
VERSION = 2
_HEAD = struct.Struct(">4sBIIQ")  # magic, version, crc32 of what follows it, length of header, length of body
_LENGTHS = struct.Struct(">IQ")
_FORBIDDEN = frozenset("\r\n\x00")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Page(NamedTuple):  # one is made for each hit, and a frozen dataclass takes three times as long to make
    """A stored answer. ``created`` is seconds since 1970, ``ttl`` seconds, ``vector`` the epochs it was made under.

    ``cost`` is how many seconds it took to make. ``failed``, seconds since 1970: when the attempt to make the next one
    failed; 0 if none did. ``reads`` are groups of fragments in it that the view does not declare: `vector` has their
    epochs behind those of the view's own.
    """

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    vector: tuple[bytes, ...]
    created: float
    ttl: float
    cost: float = 0.0
    failed: float = 0.0
    reads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VaryMark:
    """Under a base key: the answer depends on these headers (lower case, sorted); look under `keys.vary_key`."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SkipMark:
    """Hit-for-miss: the last answer could not be stored, so nobody need queue for the next one.

    With ``reads`` it could not because of fragments that read these groups as well. The next one will be stored if it
    is made under them, too.
    """

    why: str
    reads: tuple[str, ...] = ()


Frame = Page | VaryMark | SkipMark


def encode(frame: Frame) -> bytes:
    """The bytes of a frame."""
    body = b""
    header: dict[str, Any]
    if isinstance(frame, Page):
        body = frame.body
        header = {
            "kind": "page",
            "status": frame.status,
            "reason": frame.reason,
            "headers": frame.headers,
            "vector": [value.hex() for value in frame.vector],
            "created": frame.created,
            "ttl": frame.ttl,
            "cost": frame.cost,
            "failed": frame.failed,
            "reads": frame.reads,
        }
    elif isinstance(frame, VaryMark):
        header = {"kind": "vary", "names": frame.names}
    else:
        header = {"kind": "skip", "why": frame.why, "reads": frame.reads}
    head = json.dumps(header, separators=(",", ":"), allow_nan=False).encode("ascii")
    lengths = _LENGTHS.pack(len(head), len(body))
    crc = zlib.crc32(body, zlib.crc32(head, zlib.crc32(lengths)))
    return b"".join((_HEAD.pack(MAGIC, VERSION, crc, len(head), len(body)), head, body))


def decode(data: bytes | None) -> Frame | None:
    """The frame in ``data``; None for anything that is not a whole frame of this version. Never raises."""
    if not isinstance(data, bytes) or len(data) < _HEAD.size:
        return None
    magic, version, crc, head_size, body_size = _HEAD.unpack_from(data)
    if magic != MAGIC or version != VERSION or len(data) != _HEAD.size + head_size + body_size:
        return None
    if zlib.crc32(memoryview(data)[_HEAD.size - _LENGTHS.size :]) != crc:
        return None
    found = _header(data[_HEAD.size : _HEAD.size + head_size])
    if not isinstance(found, Page):
        return None if body_size else found
    return found._replace(body=data[_HEAD.size + head_size :])


@lru_cache(maxsize=256)  # to look through it costs more than a hit otherwise does; the body is no part of it
def _header(data: bytes) -> Frame | None:
    """What a header says; a page without its body."""
    try:
        header = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(header, dict):
        return None
    kind = header.get("kind")
    if kind == "page":
        return _page(header)
    if kind == "vary":
        names = header.get("names")
        if isinstance(names, list) and names and all(_is_text(name) for name in names):
            return VaryMark(tuple(names))
    elif kind == "skip" and isinstance(header.get("why"), str):
        reads = _groups(header)
        return None if reads is None else SkipMark(header["why"], reads)
    return None


def _page(header: dict[str, Any]) -> Page | None:
    status, reason, headers = header.get("status"), header.get("reason"), header.get("headers")
    vector = header.get("vector")
    if type(status) is not int or not 100 <= status <= 599 or not _is_text(reason):
        return None
    if not isinstance(headers, list) or not isinstance(vector, list):
        return None
    created, ttl = _number(header.get("created")), _number(header.get("ttl"))
    cost, failed = _number(header.get("cost")), _number(header.get("failed"))
    reads = _groups(header)
    if created is None or ttl is None or cost is None or failed is None or reads is None:
        return None
    pairs = []
    for pair in headers:
        if not isinstance(pair, list) or len(pair) != 2 or not all(_is_text(text) for text in pair):
            return None
        if not _NAME.fullmatch(pair[0]):
            return None
        pairs.append((pair[0], pair[1]))
    try:
        epochs = tuple(bytes.fromhex(value) for value in vector)
    except (TypeError, ValueError):
        return None
    return Page(status, str(reason), tuple(pairs), b"", epochs, created, ttl, cost, failed, reads)


def _groups(header: dict[str, Any]) -> tuple[str, ...] | None:
    """Well-formed groups; none in what was stored before there were any."""
    reads = header.get("reads", [])
    if not isinstance(reads, list):
        return None
    try:
        return tuple(map(validate, reads))
    except GroupError:
        return None


def _is_text(value: object) -> bool:
    """Text that can stand in a header: a line break in it would begin a header of its own, and a letter that is not in
    Latin-1 would fail only when the answer is sent."""
    return isinstance(value, str) and _FORBIDDEN.isdisjoint(value) and (value.isascii() or max(value) <= "\xff")


def _number(value: Any) -> float | None:
    """Seconds, zero or more; NaN and infinity, which JSON for Python may contain, are none."""
    return float(value) if type(value) in (int, float) and 0 <= value < 1e18 else None
