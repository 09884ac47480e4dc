"""Stand-ins for ``request.META`` and ``request.headers`` that report a look at the Cookie header.

Without them a view could reach session and CSRF cookies past ``request.COOKIES``, and its page would be shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.http.request import HttpHeaders

COOKIE = "header:cookie"  # as `vary_on` names it
_KEY = "HTTP_COOKIE"


class Environ(dict[str, Any]):
    """``request.META``: reads come from a copy, so that they can be seen; writes go to the original as well, which the
    server and the middleware have references to."""

    def __init__(self, original: dict[str, Any], note: Callable[[str], None], hidden: Sequence[str] = ()) -> None:
        super().__init__(original)
        for key in hidden:
            super().pop(key, None)
        self._original = original
        self._note = note

    def __getitem__(self, key: str) -> Any:
        if key == _KEY:
            self._note(COOKIE)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        if key == _KEY:
            self._note(COOKIE)
        return super().get(key, default)

    def __contains__(self, key: object) -> bool:
        if key == _KEY:
            self._note(COOKIE)
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        return super().__iter__()  # overridden at all, it keeps dict(META) from copying past `__getitem__`

    def __setitem__(self, key: str, value: Any) -> None:
        self._original[key] = value
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._original.pop(key, None)

    def _looking(name: str) -> Any:  # type: ignore[misc]
        plain = getattr(dict, name)

        def method(self: Environ, *args: Any) -> Any:
            self._note(COOKIE)
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

    # Those that show all values.
    items = _looking("items")
    values = _looking("values")
    copy = _looking("copy")
    __or__ = _looking("__or__")
    __ror__ = _looking("__ror__")
    __eq__ = _looking("__eq__")
    __ne__ = _looking("__ne__")
    __repr__ = _looking("__repr__")
    __hash__ = None
    # Those that change something.
    update = _changing("update")
    setdefault = _changing("setdefault")
    clear = _changing("clear")
    del _looking, _changing

    def pop(self, key: str, *default: Any) -> Any:
        if key == _KEY:
            self._note(COOKIE)
        self._original.pop(key, None)
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        self._note(COOKIE)
        key, value = super().popitem()
        self._original.pop(key, None)
        return key, value

    def __ior__(self, other: Any) -> Environ:  # type: ignore[override,misc]
        self.update(other)
        return self


class Headers(HttpHeaders):
    """``request.headers``."""

    def __init__(self, original: HttpHeaders, note: Callable[[str], None], hidden: Sequence[str] = ()) -> None:
        # The parsed headers: parsing META again would cost more and look at all of it.
        self._store = original._store
        if hidden:
            names = {key.removeprefix("HTTP_").replace("_", "-").lower() for key in hidden}
            self._store = {name: pair for name, pair in original._store.items() if name not in names}
        self._note = note

    def __getitem__(self, name: str) -> str:
        if name.lower().replace("_", "-") == "cookie":
            self._note(COOKIE)
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[str]:
        self._note(COOKIE)
        return super().__iter__()

    def __repr__(self) -> str:
        self._note(COOKIE)
        return super().__repr__()
