"""Reading RESP3, the protocol in which a server may speak without being asked.

Only the push connection needs it. What the Redis library makes of these messages differs from version to version, and
they can be read in a few lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_MAX_DEPTH = 8


class Incomplete(Exception):
    """The rest has not come yet."""


@dataclass(frozen=True, slots=True)
class Push:
    """What the server says of itself."""

    items: list[Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """The answer to a request that was refused."""

    text: str


def parse(data: bytes | bytearray, at: int = 0, depth: int = 0) -> tuple[Any, int]:
    """The message that begins at ``at``, and where the next one begins. Lines are bytes, a null is None.

    `Incomplete` if it is not there to its end; ValueError if this is another protocol.
    """
    end = data.find(b"\r\n", at)
    if end < 0:
        raise Incomplete
    kind, line, at = data[at : at + 1], bytes(data[at + 1 : end]), end + 2
    if kind in (b"+", b":", b",", b"#", b"("):
        return line, at
    if kind == b"-":
        return Failure(line.decode("utf-8", "replace")), at
    if kind == b"_":
        return None, at
    if kind in (b"$", b"=", b"!"):
        size = int(line)
        if size < 0:
            return None, at
        if len(data) < at + size + 2:
            raise Incomplete
        text = bytes(data[at : at + size])
        return (Failure(text.decode("utf-8", "replace")) if kind == b"!" else text), at + size + 2
    if kind in (b"*", b"~", b">", b"%") and depth < _MAX_DEPTH:
        items = []
        for _ in range(int(line) * (2 if kind == b"%" else 1)):
            item, at = parse(data, at, depth + 1)
            items.append(item)
        return (Push(items) if kind == b">" else items), at
    raise ValueError(f"no message begins with {bytes(kind + line[:20])!r}")
