"""Under which key an answer is stored: a digest over parts that cannot run into each other.

Every part carries its type and its length, so ``("ab", "c")`` and ``("a", "bc")`` differ, and so do an absent value
(None) and an empty one. Two requests share a key only if every part is equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

Part: TypeAlias = "str | bytes | Sequence[Part] | None"

FORMAT = "1"  # part of every key: a change of what goes into keys starts anew instead of mixing


def encode(part: Part) -> bytes:
    """An injective encoding: no two different parts share it. A list and a tuple of equal items are the same part."""
    if part is None:
        return b"n"
    if isinstance(part, str):
        data = part.encode("utf-8", "surrogatepass")
        return b"s%d:%b" % (len(data), data)
    if isinstance(part, bytes):
        return b"b%d:%b" % (len(part), part)
    return b"l%d:%b" % (len(part), b"".join(map(encode, part)))


def digest(*parts: Part) -> str:
    """64 hexadecimal digits, the same in every process."""
    return hashlib.sha256(encode(parts)).hexdigest()


def base_key(
    *,
    scheme: str,
    host: str,
    path: str,
    view: str,
    arguments: tuple[Sequence[object], Mapping[str, object]] = ((), {}),
    key_prefix: str | None = None,
    locale: Sequence[str | None] = (),
    vary_on: Iterable[tuple[str, str | None]] = (),
) -> str:
    """The key that is known before the answer is: GET and HEAD share it, since HEAD is GET without the body.

    ``path`` is the full path with its query, ``view`` the view's dotted name, ``arguments`` what it is called with (a
    view that is called by another one can have others than the path says), ``locale`` the active language and time
    zone, ``vary_on`` pairs of item and value, None where it is absent. ``key_prefix`` is cache_page's.
    """
    args, kwargs = arguments
    return "page:" + digest(
        FORMAT,
        "GET",
        scheme,
        host,
        path,
        key_prefix,
        view,
        tuple(_argument(value) for value in args),
        tuple((name, _argument(kwargs[name])) for name in sorted(kwargs)),
        tuple(locale),
        tuple(vary_on),
    )


def vary_key(base: str, headers: Iterable[tuple[str, str | None]]) -> str:
    """The second-level key: the base key and the values of the request headers that the answer's ``Vary`` named."""
    return "page:" + digest(base, tuple(sorted((name.lower(), value) for name, value in headers)))


def _argument(value: object) -> Part:
    # repr() of what has no repr of its own holds its address: such a page is never found again, which is safe.
    kind = type(value)
    return (f"{kind.__module__}.{kind.__qualname__}", repr(value))
