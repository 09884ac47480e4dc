"""``vary_on``: what a page depends on besides its address, the values of that, and what it covers.

"user"         the signed-in user's primary key (None for nobody), through ``request.user``
"session"      the session: its key and everything in it
"session:KEY"  what one key of the session has
"cookie:NAME"  one cookie
"header:NAME"  one request header
"query:NAME"   of the query only this parameter, and others that are named so; "query:filter_*" for all that begin so
"-query:NAME"  all of the query but this parameter; "-query:utm_*"
"meta:NAME"    a variable of the web server in request.META, such as REMOTE_ADDR
"language"     the active language (always part of the key, as in cache_page; accepted for clearness)
"timezone"     the active time zone (likewise)
"csrf"         the visitor's CSRF secret; without a CSRF cookie a page with a token in it is not stored
a callable     ``(request) -> str | None``; it covers nothing, unless `vary_by` says what
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.utils import timezone, translation

from .._names import closest
from . import query
from .environ import ALL_HEADERS, CSRF, header_item
from .tracking import ALL_COOKIES, MESSAGES, SESSION, USER, Tracker

_NAMES = (
    *("user", "session", "session:KEY", "cookie:NAME", "header:NAME", "query:NAME", "-query:NAME", "meta:NAME"),
    *("language", "timezone", "csrf"),
)
_SESSION_KEY = "session:"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BY_COOKIE = ("user", "session", "cookie:", "csrf")
_PERSONAL = (*_BY_COOKIE, "header:cookie", "header:authorization", "meta:")
Callback = Callable[[Any], "str | None"]


@dataclass(frozen=True)
class VaryBy:
    """A callable in ``vary_on`` and what its value stands for; made by `vary_by`."""

    callback: Callback
    covers: frozenset[str]

    def __call__(self, request: Any) -> str | None:
        return self.callback(request)


def vary_by(callback: Callback, *, covers: Iterable[str]) -> VaryBy:
    """An item of ``vary_on``: pages differ by ``callback(request)``, a string or None.

    ``covers`` names what the view may use of its visitor because of that: an item as
    in ``vary_on``, such as "user", "cookie:NAME" or "header:NAME".
    It is a promise that nobody checks: whatever the page shows of these is the same for all visitors with the same
    value. ``vary_by(lambda request: str(request.user.is_staff), covers=["user"])`` is right for a page that asks for
    ``user.is_staff`` alone; with ``{{ user.username }}`` in it, staff see each other's names.

    TypeError and ValueError for arguments that make no sense.
    """
    if not callable(callback):
        raise TypeError(f"vary_by needs a callable (request) -> str | None, not {callback!r}.")
    if isinstance(covers, str) or not isinstance(covers, Iterable):
        raise TypeError(f"vary_by(covers=…) must be a list such as ['user'], not {covers!r}.")
    return VaryBy(callback, frozenset(_item(item) for item in covers))


@dataclass(frozen=True)
class VaryOn:
    """Validated items of ``vary_on``, sorted. `parse` raises TypeError or ValueError, naming the nearest."""

    items: tuple[str, ...] = ()
    callbacks: tuple[Callback, ...] = ()
    query: query.Selection | None = None

    @cached_property
    def personal(self) -> bool:
        """Do visitors get pages of their own, which nobody between here and them may keep?"""
        return bool(self.callbacks) or any(item.startswith(_PERSONAL) for item in self.items)

    @cached_property
    def nothing(self) -> bool:
        """Is there nothing but the address by which pages differ?"""
        return not self.items and not self.callbacks and self.query is None

    @cached_property
    def headers(self) -> tuple[str, ...]:
        """The request headers by which an answer's ``Vary`` says this to other caches."""
        names = {item.removeprefix("header:") for item in self.items if item.startswith("header:")}
        if any(item.startswith(_BY_COOKIE) for item in self.items):
            names.add("Cookie")
        return tuple(sorted(names))

    @classmethod
    def parse(cls, value: Any) -> VaryOn:
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise TypeError(f"vary_on must be a list such as ['user'], not {value!r}.")
        items, callbacks = set(), []
        for item in value:
            if callable(item):
                callbacks.append(item)
            else:
                items.add(_item(item))
        return cls(tuple(sorted(items)), tuple(callbacks), query.Selection.parse(sorted(items)))

    def values(self, request: Any) -> Values:
        """The values for this request. Nothing is kept of what they touch: the visitor's things are put back."""
        if self.nothing:
            return NOTHING
        found: list[tuple[str, str | None]] = []
        for item in self.items:
            if item == "user":
                user = getattr(request, "user", None)
                found.append((item, _user_value(user)))
            elif item == "session":
                session = getattr(request, "session", None)
                found.append((item, None if session is None else _session_value(session, dict(session.items()))))
            elif item.startswith(_SESSION_KEY):
                session, key = getattr(request, "session", {}), item.removeprefix(_SESSION_KEY)
                found.append((item, _data(session, session[key]) if key in session else None))
            else:
                found.append((item, _plain_value(item, request)))
        return self._with_the_rest(request, found)

    async def avalues(self, request: Any) -> Values:
        """`values` for async views: user and session are asked for without blocking."""
        if self.nothing:
            return NOTHING
        found: list[tuple[str, str | None]] = []
        for item in self.items:
            if item == "user":
                user = await request.auser() if hasattr(request, "auser") else getattr(request, "user", None)
                found.append((item, _user_value(user)))
            elif item == "session":
                session = getattr(request, "session", None)
                found.append((item, None if session is None else _session_value(session, dict(await session.aitems()))))
            elif item.startswith(_SESSION_KEY):
                session, key = getattr(request, "session", None), item.removeprefix(_SESSION_KEY)
                if session is None or not await session.ahas_key(key):
                    found.append((item, None))
                else:
                    found.append((item, _data(session, await session.aget(key))))
            else:
                found.append((item, _plain_value(item, request)))
        return self._with_the_rest(request, found)

    def _with_the_rest(self, request: Any, found: list[tuple[str, str | None]]) -> Values:
        if self.query is not None:
            found.append(("query", self.query.text(request)))
        covered: set[str] = set()
        for number, callback in enumerate(self.callbacks):
            value = callback(request)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"vary_on: {callback!r} returned {value!r}; it must return a string or None.")
            # That it read, say, user.is_staff does not mean that its value says which user it is.
            if isinstance(callback, VaryBy):
                covered |= callback.covers
            found.append((f"callable {number}", value))
        secret = request.META.get("CSRF_COOKIE") if CSRF in covered or CSRF in self.items else None
        return Values(tuple(found), frozenset(covered), secret)


@dataclass(frozen=True)
class Values:
    """``pairs`` go into the key; `uncovered` says what the view touched beyond them."""

    pairs: tuple[tuple[str, str | None], ...] = ()
    covered: frozenset[str] = frozenset()
    csrf_secret: str | None = field(default=None, repr=False)

    def uncovered(self, tracker: Tracker, vary: Iterable[str] = ()) -> list[str]:
        """What ``tracker`` saw that is not in the page's key. Sorted; empty: the page may be shared.

        ``vary``: headers, lower case, that the answer's ``Vary`` names: their values are in the key, too.
        """
        declared = {item for item, _ in self.pairs} | self.covered | {f"header:{name}" for name in vary}
        # A visitor without a CSRF cookie gets one with this very answer: nobody else may have that token.
        if CSRF in declared and self.csrf_secret is None:
            declared.discard(CSRF)
        return sorted(what for what in tracker.look() - declared if not _is_part(what, declared))


NOTHING = Values()


def _is_part(what: str, declared: set[str]) -> bool:
    """Does it belong to something larger that was declared?"""
    if what.startswith(_SESSION_KEY):
        return SESSION in declared
    return what.startswith("cookie:") and "header:cookie" in declared


def advice(touched: Iterable[str], callbacks: Iterable[Callback] = ()) -> str:
    """What to declare for these. ``callbacks``: those in ``vary_on``."""
    items = []
    for what in touched:
        if what == MESSAGES:
            return "A page that shows or adds messages is for one visitor once; it cannot be cached"
        if what == ALL_COOKIES:
            items.append("'cookie:NAME' for each cookie that is read")
        elif what == ALL_HEADERS:
            items.append("'header:NAME' for each header that is read, by name")
        elif what.startswith(query.KEEP):
            items.append(f"{what!r} or, instead, no '-query:…' that takes it out")
        else:
            items.append(repr(what))
    declared = f"Declare it, vary_on=[{', '.join(items)}], if the page depends on it, or do not use it in the view"
    names = [getattr(callback, "__qualname__", repr(callback)) for callback in callbacks]
    if not names:
        return declared
    return (
        f"{declared}. {', '.join(names)} in vary_on covers it only if you say so: "
        f"pooling.caching.vary_by({names[0]}, covers=[{', '.join(items)}]), if the page is the same for all visitors "
        f"for whom that returns the same"
    )


def _item(item: Any) -> str:
    if not isinstance(item, str):
        raise TypeError(f"vary_on: an item is a string or a callable, not {item!r}.")
    if item == ALL_COOKIES:
        raise ValueError("vary_on: 'cookie:*' is no cookie. Name each: 'cookie:theme'.")
    if item == ALL_HEADERS:
        raise ValueError("vary_on: 'header:*' is no header. Name each: 'header:Accept'.")
    kind, colon, name = item.partition(":")
    if colon and kind in ("cookie", "header"):
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"vary_on: {item!r} names no {kind}. Write for instance '{kind}:theme'.")
        return header_item(name) if kind == "header" else item
    if colon and name and kind == SESSION:
        return item
    if colon and name and kind == "meta":
        return header_item(name.removeprefix("HTTP_")) if name.startswith("HTTP_") else item
    if colon and kind in ("query", "-query"):
        return query.check(item)
    if item in (USER, SESSION, CSRF, "language", "timezone"):
        return item
    raise ValueError(
        f"vary_on has no item {item!r}. Did you mean {closest(item, _NAMES)!r}? It knows {', '.join(_NAMES)} and "
        f"callables."
    )


def _plain_value(item: str, request: Any) -> str | None:
    kind, _, name = item.partition(":")
    value: Any
    if kind == "cookie":
        value = request.COOKIES.get(name)
    elif kind == "header":
        value = request.headers.get(name)
    elif kind == "csrf":
        value = request.META.get("CSRF_COOKIE")
    elif kind == "meta":
        value = request.META.get(name)
    elif item == "timezone":
        value = timezone.get_current_timezone_name()
    elif kind in ("query", "-query"):
        value = None  # all of the query that counts is one value, see `_with_the_rest`
    else:
        value = translation.get_language()
    return None if value is None else str(value)


def _user_value(user: Any) -> str | None:
    key = getattr(user, "pk", None)
    return None if key is None else f"{type(key).__name__}:{key}"


def _session_value(session: Any, items: dict[str, Any]) -> str:
    return f"{session.session_key}:{_data(session, items)}"


def _data(session: Any, value: Any) -> str:
    return hashlib.sha256(session.serializer().dumps(value)).hexdigest()
