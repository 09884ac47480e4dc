"""Stand-ins for ``request.META``, ``request.headers`` and ASGI's ``request.scope`` that report what is looked at.

Without them a view could reach cookies past ``request.COOKIES``; and a page that shows what a header says, but is not
keyed by that header, would show one visitor's (or an attacker's) words to all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from django.conf import settings
from django.http.request import HttpHeaders

CSRF = "csrf"
CONTENT_TYPE = "header:content-type"
ALL_HEADERS = "header:*"
_HEADER = "HTTP_"
_BY_SERVER = ("REMOTE_", "AUTH_", "SSL_", "CERT_")  # what the web server found out about the visitor
_SCOPE = frozenset(("type", "asgi", "http_version", "server", "method", "scheme", "path", "raw_path", "root_path"))


def header_item(name: str) -> str:
    """A header as `vary_on` names it."""
    return "header:" + name.lower().replace("_", "-")


def harmless(meta: Mapping[str, Any], hidden: Sequence[str]) -> frozenset[str]:
    """Headers that may be read: their values are in every key, or are the same for all who are served from it."""
    # A request with one of these is not served from the cache, unless it is declared.
    names = {*hidden, _HEADER + "AUTHORIZATION", _HEADER + "TRANSFER_ENCODING"}
    forwarded = settings.USE_X_FORWARDED_HOST and _HEADER + "X_FORWARDED_HOST" in meta
    names.add(_HEADER + ("X_FORWARDED_HOST" if forwarded else "HOST"))
    if settings.USE_X_FORWARDED_HOST:
        names.add(_HEADER + "X_FORWARDED_HOST")
    if settings.SECURE_PROXY_SSL_HEADER:
        names.add(settings.SECURE_PROXY_SSL_HEADER[0])
    return frozenset(names)


class Environ(dict[str, Any]):
    """``request.META``: reads come from a copy, so that they can be seen; writes go to the original as well, which the
    server and the middleware have references to. ``changed`` is what the copy has instead."""

    def __init__(
        self,
        original: dict[str, Any],
        note: Callable[[str], None],
        *,
        hidden: Sequence[str] = (),
        allowed: frozenset[str] = frozenset(),
        changed: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(original)
        for key in hidden:
            super().pop(key, None)
        if changed:
            super().update(changed)
        self._original = original
        self._note = note
        self._allowed = allowed

    def _item(self, key: Any) -> str | None:
        """What a look at this key is a look at, as ``vary_on`` names it."""
        if not isinstance(key, str) or key in self._allowed:
            return None
        if key.startswith(_HEADER):
            return header_item(key.removeprefix(_HEADER))
        if key == "CONTENT_TYPE":
            return header_item(key)
        if key == "CSRF_COOKIE":
            return CSRF
        return f"meta:{key}" if key.startswith(_BY_SERVER) else None

    def _look(self, key: Any) -> None:
        item = self._item(key)
        if item is not None:
            self._note(item)

    def __getitem__(self, key: str) -> Any:
        self._look(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._look(key)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        self._look(key)
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:  # overridden at all, it keeps dict(META) from copying past `__getitem__`
        self._note(ALL_HEADERS)
        return super().__iter__()

    def __setitem__(self, key: str, value: Any) -> None:
        self._original[key] = value
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._original.pop(key, None)

    def _looking(name: str) -> Any:  # type: ignore[misc]
        plain = getattr(dict, name)

        def method(self: Environ, *args: Any) -> Any:
            self._note(ALL_HEADERS)
            return plain(self, *args)

        method.__name__ = name
        return method

    def _changing(name: str) -> Any:  # type: ignore[misc]
        plain = getattr(dict, name)

        def method(self: Environ, *args: Any, **kwargs: Any) -> Any:
            plain(self._original, *args, **kwargs)
            return plain(self, *args, **kwargs)

        method.__name__ = name
        return method

    # Those that show all.
    keys = _looking("keys")
    items = _looking("items")
    values = _looking("values")
    copy = _looking("copy")
    __len__ = _looking("__len__")
    __reversed__ = _looking("__reversed__")
    __or__ = _looking("__or__")
    __ror__ = _looking("__ror__")
    __eq__ = _looking("__eq__")
    __ne__ = _looking("__ne__")
    __repr__ = _looking("__repr__")
    __hash__ = None
    # Those that change something.
    update = _changing("update")
    clear = _changing("clear")
    del _looking, _changing

    def setdefault(self, key: str, default: Any = None) -> Any:
        self._look(key)
        self._original.setdefault(key, default)
        return super().setdefault(key, default)

    def pop(self, key: str, *default: Any) -> Any:
        self._look(key)
        self._original.pop(key, None)
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        self._note(ALL_HEADERS)
        key, value = super().popitem()
        self._original.pop(key, None)
        return key, value

    def __ior__(self, other: Any) -> Environ:  # type: ignore[override,misc]
        self.update(other)
        return self


class Scope(Environ):
    """``request.scope``: the headers are in it as they came, and so is the whole query."""

    def _item(self, key: Any) -> str | None:
        return None if key in _SCOPE else ALL_HEADERS


class Headers(HttpHeaders):
    """``request.headers``."""

    def __init__(
        self,
        original: HttpHeaders,
        note: Callable[[str], None],
        *,
        hidden: Sequence[str] = (),
        allowed: frozenset[str] = frozenset(),
    ) -> None:
        # The parsed headers: parsing META again would cost more and look at all of it.
        self._store = original._store
        if hidden:
            names = {header_item(key.removeprefix(_HEADER)).removeprefix("header:") for key in hidden}
            self._store = {name: pair for name, pair in original._store.items() if name not in names}
        self._note = note
        self._allowed = frozenset(header_item(key.removeprefix(_HEADER)) for key in allowed)

    def __getitem__(self, name: str) -> str:
        item = header_item(name)
        if item not in self._allowed:
            self._note(item)
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[str]:
        self._note(ALL_HEADERS)
        return super().__iter__()

    def __len__(self) -> int:
        self._note(ALL_HEADERS)
        return super().__len__()

    def __repr__(self) -> str:
        self._note(ALL_HEADERS)
        return super().__repr__()
