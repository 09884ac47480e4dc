"""What a template's fragment touches of its visitor, and of the request's address, through its context.

Context processors put ``user``, ``perms``, ``messages`` and ``csrf_token`` there before anybody knows that there is a
fragment. While it is rendered, stand-ins are in their place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from django.utils.functional import SimpleLazyObject

from .environ import CSRF, header_item
from .tracking import MESSAGES, SESSION, USER, Tracker, Watched, bare, unwrapped

PATH, QUERY, ADDRESS = "request.path", "request.GET", "request.get_full_path"
_ADDRESS = {"path": PATH, "path_info": PATH, "resolver_match": PATH, "GET": QUERY}
_ADDRESS |= dict.fromkeys(("get_full_path", "get_full_path_info", "build_absolute_uri"), ADDRESS)
# The body and what else belongs to this one request: no fragment is for others that shows it.
_ADDRESS |= {name: f"request.{name}" for name in ("POST", "FILES", "body", "method", "environ", "scope")}


def covered_by(path: tuple[str, ...]) -> frozenset[str]:
    """What a variable in ``vary_on``, such as ``user.pk``, covers: that of which its value leaves nothing open."""
    match path:
        case ("user" | "request", *_) if path in (
            *(("user",), ("user", "pk"), ("user", "id")),
            *(("request", "user"), ("request", "user", "pk"), ("request", "user", "id")),
        ):
            return frozenset({USER})
        case ("request", "COOKIES", name):
            return frozenset({f"cookie:{name}"})
        case ("request", "session", name):
            return frozenset({f"{SESSION}:{name}"})
        case ("request", "META", name):
            return frozenset({header_item(name.removeprefix("HTTP_")) if name.startswith("HTTP_") else f"meta:{name}"})
        case ("request", "path"):
            return frozenset({PATH})
        case ("request", "get_full_path"):
            return frozenset({PATH, QUERY, ADDRESS})
    return frozenset()


def request_of(context: Any) -> Any:
    """The request that the template is rendered for; None if its context has none."""
    request = bare(getattr(context, "request", None) or context.get("request"))
    return request if hasattr(request, "META") else None


class Names:
    """Stands in for a `Tracker` where there is no request."""

    session_modified = False

    def __init__(self) -> None:
        self.touched: set[str] = set()

    def note(self, what: str) -> None:
        self.touched.add(what)

    def quiet(self) -> AbstractContextManager[None]:
        return nullcontext()


class _Request(Watched):
    """``request`` that reports the use of its address. The visitor's things in it are stand-ins of the tracker's."""

    __slots__ = ("_tracker",)

    def __init__(self, target: Any, tracker: Any) -> None:
        super().__init__(target, lambda: None)
        object.__setattr__(self, "_tracker", tracker)

    def __getattr__(self, name: str) -> Any:
        if name in _ADDRESS:
            object.__getattribute__(self, "_tracker").note(_ADDRESS[name])
        return super().__getattr__(name)


@contextmanager
def watched(context: Any, outer: Any) -> Iterator[Tracker | Names]:
    """Watch what is touched through ``context``. ``outer``: the tracker around it, which does not see the watching
    itself; None if there is none."""
    request = request_of(context)
    quiet = nullcontext if outer is None else outer.quiet
    tracker: Tracker | Names = Names() if request is None else Tracker(request)
    values = {name: value for name, value in context.flatten().items() if isinstance(name, str)}
    replaced: dict[int, str] = {}
    if isinstance(tracker, Tracker):
        with quiet():
            replaced = {id(getattr(request, name)): name for name in _attributes(request)}
            tracker.__enter__()
    try:
        standins = {name: _standin(name, value, request, replaced, tracker) for name, value in values.items()}
        with context.push({name: one for name, one in standins.items() if one is not values[name]}):
            yield tracker
    finally:
        if isinstance(tracker, Tracker):
            with quiet():
                tracker.__exit__()


def _attributes(request: Any) -> list[str]:
    return [name for name in ("user", "session", "_messages", "COOKIES", "META", "headers") if hasattr(request, name)]


def _standin(name: str, value: Any, request: Any, replaced: dict[int, str], tracker: Any) -> Any:
    if request is not None and bare(value) is request:
        return _Request(value, tracker)
    if id(value) in replaced:
        return getattr(request, replaced[id(value)])
    if name == "user":
        return SimpleLazyObject(lambda: _ask(value, USER, tracker))
    if name == "csrf_token":
        return SimpleLazyObject(lambda: _ask(value, CSRF, tracker))
    if name == "perms":
        return Watched(value, lambda: tracker.note(USER))
    if name == "messages":
        return Watched(value, lambda: tracker.note(MESSAGES))
    return value


def _ask(value: Any, what: str, tracker: Any) -> Any:
    tracker.note(what)
    with tracker.quiet():
        return unwrapped(value)
