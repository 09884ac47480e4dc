"""Records what happens, in order: lock, BEGIN, whatever the view says, COMMIT or ROLLBACK, unlock."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.db import connection

from pooling import runtime


@contextlib.contextmanager
def recorded() -> Iterator[list[str]]:
    """Listens at the real store and the real connection of this thread; nothing is replaced by an imitation."""
    events: list[str] = []
    store = runtime.store()
    connection.ensure_connection()
    originals: dict[str, Any] = {"acquire": store.acquire, "release": store.release}

    def acquire(request: Any) -> Any:
        grant = originals["acquire"](request)
        if grant is not None:
            events.append("lock")
        return grant

    def release(ticket: str, renews: tuple[str, ...] = ()) -> bool:
        events.append("unlock")
        return bool(originals["release"](ticket, renews))

    def listen(name: str, original: Any) -> Any:
        def method(*args: Any, **kwargs: Any) -> Any:
            if name == "_set_autocommit":
                if not args[0]:
                    events.append("BEGIN")
            else:
                events.append(name.strip("_").upper())
            return original(*args, **kwargs)

        return method

    names = ("_set_autocommit", "_commit", "_rollback")
    store.acquire, store.release = acquire, release  # type: ignore[method-assign]
    wrapper: Any = connection._connections[connection._alias]  # type: ignore[attr-defined]
    for name in names:
        setattr(wrapper, name, listen(name, getattr(wrapper, name)))
    try:
        yield events
    finally:
        for name in names:
            delattr(wrapper, name)
        del store.acquire, store.release
