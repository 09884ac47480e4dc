"""What decorators are around views and functions, as far as it can be seen without calling them. For system checks."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator
from dataclasses import dataclass
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, transaction
from django.utils.decorators import method_decorator
from django.views import View

from . import conf
from .decorators import locked
from .spec import Spec, declared, spec_of_decorator
from .wrapping import TakenOver, is_async_view

# All functions made by one `def` share its code object: so one is told from any other, whatever its names say.
_METHOD = method_decorator(lambda func: func)(lambda self: None).__code__
_AS_VIEW = View.as_view().__code__
_IN_CONTEXT = ContextDecorator()(lambda: None).__code__


@dataclass(frozen=True)
class Layer:
    """One decorator around a function: a hold, a transaction on ``alias``, or one that nobody here knows."""

    spec: Spec | None = None
    alias: str = ""
    declined: Callable[[str], bool] | None = None
    plain: bool = False  # on the function itself: its first argument may be anything, also no request


def layers(func: Any, specs: dict[int, Spec]) -> Iterator[Layer]:
    """The decorators of a function, outermost first, as far as ``__wrapped__`` leads."""
    while func is not None:
        code = getattr(func, "__code__", None)
        if code is _AS_VIEW:  # its __wrapped__ is that of dispatch(), copied with the rest of its attributes
            awaited = is_async_view(func)  # then dispatch() only makes the coroutine, in no transaction that matters
            inner = layers(func.view_class.dispatch, specs)
            yield from (layer for layer in inner if not (awaited and layer.alias))
            return
        if code is _METHOD:
            cells = _cells(func)
            # method_decorator applies its list from the end, so the last one applied is the outermost.
            for decorator in reversed(list(cells["decorators"])):
                yield from _decorator(decorator, func)
        elif id(func) in specs:
            marker = getattr(func, "_non_atomic_requests", None)
            declined = marker.is_declined if isinstance(marker, TakenOver) else None
            yield Layer(specs[id(func)], declined=declined, plain=True)
        elif code is _IN_CONTEXT and isinstance(atomic := _cells(func)["self"], transaction.Atomic):
            yield from _transaction(atomic, func.__wrapped__)
        elif isinstance(func, functools.partial) or hasattr(func, "__wrapped__"):
            yield Layer()
        func = _inside(func)


def _inside(func: Any) -> Any:
    """The function that it wraps; None if it says of none."""
    return func.func if isinstance(func, functools.partial) else getattr(func, "__wrapped__", None)


def _decorator(decorator: Any, method: Any) -> Iterator[Layer]:
    if decorator is transaction.atomic or isinstance(decorator, transaction.Atomic):
        yield from _transaction(decorator, method)
    elif (spec := decorator._spec if isinstance(decorator, locked) else spec_of_decorator(decorator)) is not None:
        yield Layer(spec, declined=TakenOver(getattr(method, "_non_atomic_requests", ())).is_declined)
    else:
        yield Layer()


def _transaction(atomic: Any, func: Any) -> Iterator[Layer]:
    if not is_async_view(func):  # around an async function it ends before the coroutine begins
        yield Layer(alias=getattr(atomic, "using", None) or DEFAULT_DB_ALIAS)


def _cells(func: Any) -> dict[str, Any]:
    return {name: cell.cell_contents for name, cell in zip(func.__code__.co_freevars, func.__closure__, strict=True)}


def _wrapped(func: Any) -> Iterator[Any]:
    """A view and the functions in it."""
    while func is not None:
        yield func
        func = _inside(func)


def _callbacks(patterns: Any) -> Iterator[Any]:
    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            yield from _callbacks(pattern.url_patterns)
        elif hasattr(pattern, "callback"):  # or else it is no pattern, as Django's own check says
            yield pattern.callback


def routes() -> list[Any]:
    """Each view of the URLconf once. What importing it raises is raised, as by Django's own check of the URLs."""
    if not getattr(django_settings, "ROOT_URLCONF", None):
        return []
    from django.urls import get_resolver

    return list({id(view): view for view in _callbacks(get_resolver().url_patterns)}.values())


def handlers(view: Any) -> Iterator[Any]:
    """The get(), post(), … of a class-based view that its requests can reach."""
    owner = getattr(view, "view_class", None)
    if isinstance(owner, type) and issubclass(owner, View):
        given = getattr(view, "view_initkwargs", {})
        for name in given.get("http_method_names", owner.http_method_names):
            if (handler := getattr(owner, name.lower(), None)) is not None:
                yield handler


def outermost(wrapper: Any) -> Any:
    """What a decorated function is called by: the name may stand for further decorators around it."""
    found: Any = sys.modules.get(getattr(wrapper, "__module__", None) or "")
    for name in getattr(wrapper, "__qualname__", "<locals>").split("."):
        found = vars(found).get(name) if hasattr(found, "__dict__") else None
    inner = found
    while inner is not None and inner is not wrapper:
        inner = getattr(inner, "__wrapped__", None)
    return wrapper if inner is None else found


class Site:
    """``views`` of the URLconf; ``functions``: these, the handlers of the class-based ones, and whatever else is
    decorated; ``specs`` of all decorated ones."""

    def __init__(self) -> None:
        self.views = routes()  # first: importing them declares them
        self._declared = declared()  # kept, so that an identity stays that of one object
        self.specs = {id(wrapper): spec for wrapper, spec in self._declared}
        answering = [*self.views, *(handler for view in self.views for handler in handlers(view))]
        every = [*answering, *(outermost(wrapper) for wrapper, _ in self._declared)]
        self.functions = list({id(func): func for func in every}.values())
        self._answering = {id(inner) for func in answering for inner in _wrapped(func)}

    def answers(self, func: Any) -> bool:
        """Does it answer requests, or is it a part of what does? Other functions may be called in any hold."""
        return id(func) in self._answering

    def layers(self, func: Any) -> list[Layer]:
        """Decorators of ``func``, outermost first."""
        return list(layers(func, self.specs))


def seen() -> Site | None:
    """What is to be checked. None: nothing, since pooling is off or its settings are wrong, as E001 says."""
    try:
        enabled = conf.settings().ENABLED
    except ImproperlyConfigured:
        return None
    return Site() if enabled else None
