"""Which of a visitor's own things a view touched: session, user, cookies, headers, CSRF token, messages.

A view that touches one of them without declaring it in ``vary_on`` makes a page for one visitor only, and that page
must not be stored for all. During the view the request carries tracking stand-ins; afterwards everything is put back,
so that the middleware finds what it left there. What middleware handed over beforehand under other names (say,
``request.profile``) cannot be seen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from django.utils.functional import LazyObject, SimpleLazyObject, empty

from .environ import ALL_HEADERS, CSRF, Environ, Headers, Scope, harmless
from .query import Kept, Selection

T = TypeVar("T")
SESSION, USER, MESSAGES = "session", "user", "messages"
ALL_COOKIES = "cookie:*"
_CSRF_FLAG = "CSRF_COOKIE_NEEDS_UPDATE"

_MEANING = {"auser": USER, "_messages": MESSAGES, "COOKIES": ALL_COOKIES}
_MEANING |= dict.fromkeys(("META", "environ", "headers", "scope", "GET"), ALL_HEADERS)
_PARSED = ("accepted_types", "accepted_types_by_precedence")  # Django keeps them once somebody has asked

# The trackers that look away while the user is looked up: that reads the session, but on the user's account.
_quiet: ContextVar[tuple[int, ...]] = ContextVar("pooling_quiet", default=())


class Tracker:
    """Context manager around the run of a view (and the rendering of its answer). ``touched`` says what it used.

    The view does not see what ``hidden`` names of META, nor of the query what does not count for ``selection``, nor,
    without ``typed``, the attributes that Django makes of the header Content-Type: a plain text, which cannot tell that
    it was read.
    """

    def __init__(
        self, request: Any, *, hidden: Sequence[str] = (), selection: Selection | None = None, typed: bool = True
    ) -> None:
        self.request = request
        self.hidden = hidden
        self.selection = selection
        self.typed = typed
        self.touched: set[str] = set()
        self.session_modified = False
        self._originals: dict[str, Any] = {}
        self._standins: dict[str, Any] = {}
        self._accessed = self._modified = False
        self._csrf_flag: Any = None

    def note(self, what: str) -> None:
        if id(self) not in _quiet.get():
            self.touched.add(what)

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """What is touched meanwhile by this thread or task does not count."""
        token = _quiet.set((*_quiet.get(), id(self)))
        session = bare(self._originals.get("session"))
        accessed = getattr(session, "accessed", False)
        try:
            yield
        finally:
            _quiet.reset(token)
            if session is not None and hasattr(session, "accessed"):
                self._accessed = self._accessed or session.accessed
                session.accessed = accessed

    def __enter__(self) -> Tracker:
        request, state = self.request, self.request.__dict__
        session = bare(state.get("session"))
        if session is not None:
            # The flags catch what goes past the stand-in, through a reference that was taken before the view.
            self._accessed, self._modified = getattr(session, "accessed", False), getattr(session, "modified", False)
            if hasattr(session, "accessed"):
                session.accessed = False
            if hasattr(session, "modified"):
                session.modified = False
            self._replace("session", _Session(state["session"], self))
        if "user" in state:
            self._replace("user", SimpleLazyObject(self._user))
        if "auser" in state:
            self._replace("auser", self._auser)
        if "_messages" in state:
            self._replace("_messages", Watched(state["_messages"], lambda: self.note(MESSAGES)))
        if not self.typed and state.get("content_type"):
            self._replace("content_type", "")
            self._replace("content_params", {})
        self._replace("COOKIES", _Cookies(request.COOKIES, self.note))
        self._csrf_flag = request.META.pop(_CSRF_FLAG, None)
        changed = {}
        if self.selection is not None:
            changed["QUERY_STRING"] = text = self.selection.text(request)
            self._replace("GET", Kept(text, request.GET, self.selection, self.note))
        for name in _PARSED:
            state.pop(name, None)
        allowed = harmless(request.META, self.hidden)
        self._replace("headers", Headers(request.headers, self.note, hidden=self.hidden, allowed=allowed))
        environ = Environ(request.META, self.note, hidden=self.hidden, allowed=allowed, changed=changed)
        if "scope" in state:
            self._replace("scope", Scope(request.scope, self.note))
        if getattr(request, "environ", None) is request.META:
            self._replace("environ", environ)
        self._replace("META", environ)
        return self

    def look(self) -> set[str]:
        """What was touched up to now."""
        request = self.request
        if request.META.get(_CSRF_FLAG):
            self.touched.add(CSRF)
        session = bare(self._originals.get("session"))
        if getattr(session, "accessed", False):
            self.touched.add(SESSION)
        self.session_modified = bool(getattr(session, "modified", False))
        for name, standin in self._standins.items():
            if getattr(request, name, None) is not standin:  # login() puts another user there
                self.touched.add(_MEANING.get(name, name))
        return self.touched

    def __exit__(self, *exc_info: object) -> None:
        self.look()
        request = self.request
        session = bare(self._originals.get("session"))
        if session is not None:
            if hasattr(session, "accessed"):
                session.accessed = session.accessed or self._accessed
            if hasattr(session, "modified"):
                session.modified = session.modified or self._modified
        for name, standin in self._standins.items():
            if getattr(request, name, None) is standin:
                setattr(request, name, self._originals[name])
        if self._csrf_flag is not None:
            request.META.setdefault(_CSRF_FLAG, self._csrf_flag)

    def _replace(self, name: str, standin: Any) -> None:
        self._originals[name] = getattr(self.request, name)
        self._standins[name] = standin
        setattr(self.request, name, standin)

    def _user(self) -> Any:
        self.note(USER)
        user = self._originals["user"]
        with self.quiet():
            return unwrapped(user)

    async def _auser(self) -> Any:
        self.note(USER)
        with self.quiet():
            found: Awaitable[Any] = self._originals["auser"]()
            return await found


def unwrapped(value: Any) -> Any:
    """What is behind a lazy object, looked up now if it was not before."""
    while isinstance(value, LazyObject):
        if value._wrapped is empty:
            value._setup()
        value = value._wrapped
    return value


def bare(value: Any) -> Any:
    """What is behind the stand-ins of trackers further out, which do not see the use of it."""
    while issubclass(type(value), Watched):
        value = object.__getattribute__(value, "_target")
    return value


class Watched:
    """Stands in for an object and reports every use of it. Taking the object itself is no use: templates' context
    processors pass it along for every page."""

    __slots__ = ("_note", "_target")

    def __init__(self, target: Any, note: Callable[[], None]) -> None:
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "_note", note)

    def __getattr__(self, name: str) -> Any:
        return getattr(_use(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_use(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_use(self), name)

    @property  # type: ignore[misc]  # isinstance() asks it, as for Django's lazy objects
    def __class__(self) -> Any:
        return type(object.__getattribute__(self, "_target"))

    def __getitem__(self, key: Any) -> Any:
        return _use(self)[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        _use(self)[key] = value

    def __delitem__(self, key: Any) -> None:
        del _use(self)[key]

    def __contains__(self, key: Any) -> bool:
        return key in _use(self)

    def __iter__(self) -> Iterator[Any]:
        return iter(_use(self))

    def __len__(self) -> int:
        return len(_use(self))

    def __bool__(self) -> bool:
        return bool(_use(self))

    def __eq__(self, other: object) -> bool:
        return bool(_use(self) == other)

    def __hash__(self) -> int:
        return hash(object.__getattribute__(self, "_target"))

    def __str__(self) -> str:
        return str(_use(self))

    def __repr__(self) -> str:
        return repr(_use(self))


def _use(watched: Watched) -> Any:
    object.__getattribute__(watched, "_note")()
    return object.__getattribute__(watched, "_target")


class _Session(Watched):
    """``request.session`` that reports each key that is asked for, and any other use as one of the session."""

    __slots__ = ("_tracker",)

    def __init__(self, target: Any, tracker: Tracker) -> None:
        super().__init__(target, lambda: tracker.note(SESSION))
        object.__setattr__(self, "_tracker", tracker)

    def __getitem__(self, key: Any) -> Any:
        with self._asked_for(key) as session:
            return session[key]

    def __contains__(self, key: Any) -> bool:
        with self._asked_for(key) as session:
            return key in session

    def get(self, key: Any, default: Any = None) -> Any:
        with self._asked_for(key) as session:
            return session.get(key, default)

    def has_key(self, key: Any) -> bool:
        with self._asked_for(key) as session:
            return key in session

    async def aget(self, key: Any, default: Any = None) -> Any:
        with self._asked_for(key) as session:
            return await session.aget(key, default)

    async def ahas_key(self, key: Any) -> bool:
        with self._asked_for(key) as session:
            return bool(await session.ahas_key(key))

    @contextmanager
    def _asked_for(self, key: Any) -> Iterator[Any]:
        tracker: Tracker = object.__getattribute__(self, "_tracker")
        tracker.note(f"{SESSION}:{key}")
        with tracker.quiet():  # the session's own flag does not tell which key it was
            yield object.__getattribute__(self, "_target")


class _Cookies(dict[str, str]):
    """``request.COOKIES`` that reports each name that is asked for, and ``cookie:*`` for a look at all of them."""

    def __init__(self, values: dict[str, str], note: Callable[[str], None]) -> None:
        super().__init__(values)
        self._note = note

    def __getitem__(self, name: str) -> str:
        self._note(f"cookie:{name}")
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self._note(f"cookie:{name}")
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._note(f"cookie:{name}")
        return super().get(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        self._note(ALL_COOKIES)
        return super().pop(name, *default)

    def setdefault(self, name: str, default: Any = None) -> Any:
        self._note(ALL_COOKIES)
        return super().setdefault(name, default)

    def _whole(name: str) -> Any:  # type: ignore[misc]
        plain = getattr(dict, name)

        def method(self: _Cookies, *args: Any, **kwargs: Any) -> Any:
            self._note(ALL_COOKIES)
            return plain(self, *args, **kwargs)

        method.__name__ = name
        return method

    # Methods that look at, or change, the cookies as a whole.
    __iter__ = _whole("__iter__")
    __reversed__ = _whole("__reversed__")
    __len__ = _whole("__len__")
    __eq__ = _whole("__eq__")
    __ne__ = _whole("__ne__")
    __or__ = _whole("__or__")
    __ror__ = _whole("__ror__")
    __ior__ = _whole("__ior__")
    __repr__ = _whole("__repr__")
    __setitem__ = _whole("__setitem__")
    __delitem__ = _whole("__delitem__")
    __hash__ = None
    keys = _whole("keys")
    values = _whole("values")
    items = _whole("items")
    copy = _whole("copy")
    clear = _whole("clear")
    popitem = _whole("popitem")
    update = _whole("update")
    del _whole
