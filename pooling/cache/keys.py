"""Under which key an answer is stored: a digest over parts that cannot run into each other.

Every part carries its type and its length, so ``("ab", "c")`` and ``("a", "bc")`` differ, and so do an absent value
(None) and an empty one. Two requests share a key only if every part is equal.
"""

from __future__ import annotations

import enum
import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from datetime import time as datetime_time
from decimal import Decimal
from typing import TypeAlias, cast

from django.db.models import Model

_PLAIN = frozenset(
    (type(None), bool, int, float, str, bytes, Decimal, uuid.UUID, date, datetime, datetime_time, timedelta)
)

Part: TypeAlias = "str | bytes | Sequence[Part] | None"

FORMAT = "3"  # part of every key: a change of what goes into keys starts anew instead of mixing


class NoKey(TypeError):
    """A view was called with an argument by which its pages cannot be told apart."""


def encode(part: Part) -> bytes:
    """An injective encoding: no two different parts share it, and none is the beginning of another's. A list and a
    tuple of equal items are the same part."""
    if isinstance(part, str):
        data = part.encode("utf-8", "surrogatepass")
        return b"s%d:%b" % (len(data), data)
    if part is None:
        return b"n"
    if isinstance(part, bytes):
        return b"b%d:%b" % (len(part), part)
    return b"l%d:%b" % (len(part), b"".join(map(encode, part)))


def digest(*parts: Part) -> str:
    """64 hexadecimal digits, the same in every process."""
    return hashlib.sha256(encode(parts)).hexdigest()


class Keys:
    """Keys of one view's pages, known before the answer is: GET and HEAD share one, since HEAD is GET without the body.

    ``view`` is the view's dotted name, ``key_prefix`` is cache_page's.
    """

    def __init__(self, view: str, key_prefix: str | None = None) -> None:
        self._begun = hashlib.sha256(encode((FORMAT, "GET", view, key_prefix)))

    def base(
        self,
        *,
        scheme: str,
        host: str,
        path: str,
        query: str | None = None,
        arguments: tuple[Sequence[object], Mapping[str, object]] = ((), {}),
        locale: Sequence[str | None] = (),
        vary_on: Sequence[tuple[str, str | None]] = (),
    ) -> str:
        """``path`` and ``query`` are as they came (``query`` is None if ``vary_on`` has what counts of it),
        ``arguments`` what the view is called with (a view that is called by another one can have others than the path
        says), ``locale`` the active language and time zone, ``vary_on`` pairs of item and value, None where it is
        absent. NoKey for an argument of a type whose values cannot be told apart.
        """
        args, kwargs = arguments
        made = self._begun.copy()
        made.update(
            encode(
                (
                    scheme,
                    host,
                    path,
                    query,
                    [_argument(value) for value in args],
                    [(name, _argument(kwargs[name])) for name in (sorted(kwargs) if len(kwargs) > 1 else kwargs)],
                    locale,
                    vary_on,
                )
            )
        )
        return "page:" + made.hexdigest()


def vary_key(base: str, headers: Iterable[tuple[str, str | None]]) -> str:
    """The second-level key: the base key and the values of the request headers that the answer's ``Vary`` named."""
    return "page:" + digest(base, tuple(sorted((name.lower(), value) for name, value in headers)))


def fragment_key(identity: Sequence[Part], values: Iterable[object]) -> str:
    """The key of a template's fragment. ``identity``: which one it is, and what its text goes by everywhere;
    ``values``: of its ``vary_on``. NoKey as above."""
    return "fragment:" + digest(FORMAT, tuple(identity), tuple(map(_argument, values)))


def _argument(value: object) -> Part:
    """A view's argument. Only of these types is it known that two which differ do not look the same."""
    kind = type(value)
    if kind is str:  # nearly always
        return ("builtins.str", cast(str, value))
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind in _PLAIN:
        return (name, repr(value))
    if isinstance(value, enum.Enum):
        return (name, value.name)
    if kind in (list, tuple):
        return (name, tuple(map(_argument, cast("Sequence[object]", value))))
    if kind is dict:
        return (
            name,
            tuple((_argument(key), _argument(item)) for key, item in cast("dict[object, object]", value).items()),
        )
    if isinstance(value, Model) and value.pk is not None:
        return (name, value._state.db, _argument(value.pk))
    raise NoKey(
        f"an argument of type {name} has no key. Give the view what its URL says (a number, a string), or several such."
    )
