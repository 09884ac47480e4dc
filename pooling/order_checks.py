"""System checks of the order of locks and transactions, on what the decorators of views and functions say.

Only what would certainly fail is reported. A decorator that nobody here knows, a callable among the groups or a name
that cannot be followed make a thing undecided, and what is undecided is left to the run time.
"""

from __future__ import annotations

import difflib
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator
from dataclasses import dataclass
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.utils.decorators import method_decorator
from django.views import View

from . import conf
from .decorators import locked
from .groups import Template
from .spec import Spec, declared, name_of, spec_of_decorator
from .wrapping import TakenOver, is_async_view

# All functions made by one `def` share its code object: so one is told from any other, whatever its names say.
_METHOD = method_decorator(lambda func: func)(lambda self: None).__code__
_AS_VIEW = View.as_view().__code__
_IN_CONTEXT = ContextDecorator()(lambda: None).__code__

OUTSIDE = (
    "Put the lock outside: @method_decorator({what}(…), name='dispatch') on the class, or {what}(…)(MyView.as_view()) "
    "in the URLs. Is the lock about something other than the database, say atomic=False."
)


@dataclass(frozen=True)
class Layer:
    """One decorator around a function: a hold, or a transaction on ``alias``."""

    spec: Spec | None = None
    alias: str = ""
    declined: Callable[[str], bool] | None = None
    plain: bool = False  # on the function itself: its first argument may be anything, also no request


def layers(func: Any, specs: dict[int, Spec]) -> Iterator[Layer]:
    """The decorators of a function, outermost first, as far as ``__wrapped__`` leads; those of other libraries are
    passed over."""
    while func is not None:
        code = getattr(func, "__code__", None)
        if code is _AS_VIEW:  # its __wrapped__ is that of dispatch(), copied with the rest of its attributes
            yield from layers(func.view_class.dispatch, specs)
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
        func = func.func if isinstance(func, functools.partial) else getattr(func, "__wrapped__", None)


def _decorator(decorator: Any, method: Any) -> Iterator[Layer]:
    if decorator is transaction.atomic or isinstance(decorator, transaction.Atomic):
        yield from _transaction(decorator, method)
    elif (spec := decorator._spec if isinstance(decorator, locked) else spec_of_decorator(decorator)) is not None:
        yield Layer(spec, declined=TakenOver(getattr(method, "_non_atomic_requests", ())).is_declined)


def _transaction(atomic: Any, func: Any) -> Iterator[Layer]:
    if not is_async_view(func):  # around an async function it ends before the coroutine begins
        yield Layer(alias=getattr(atomic, "using", None) or DEFAULT_DB_ALIAS)


def _cells(func: Any) -> dict[str, Any]:
    return {name: cell.cell_contents for name, cell in zip(func.__code__.co_freevars, func.__closure__, strict=True)}


def _refuses(layer: Layer, alias: str) -> bool:
    """Does this hold refuse to be taken inside a transaction on ``alias``?"""
    if layer.spec is None or not layer.spec.atomic:
        return False
    if layer.spec.using is None:
        return True
    try:
        return alias in layer.spec.aliases(view=not layer.plain, declined=layer.declined)
    except ImproperlyConfigured:
        return False  # E005 says so


def _callbacks(patterns: Any) -> Iterator[Any]:
    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            yield from _callbacks(pattern.url_patterns)
        else:
            yield pattern.callback


def _routes() -> list[Any]:
    """Each view of the URLconf once."""
    if not getattr(django_settings, "ROOT_URLCONF", None):
        return []
    from django.urls import get_resolver

    return list({id(view): view for view in _callbacks(get_resolver().url_patterns)}.values())


def _handlers(view: Any) -> Iterator[Any]:
    """The get(), post(), … of a class-based view that its requests can reach."""
    owner = getattr(view, "view_class", None)
    if isinstance(owner, type) and issubclass(owner, View):
        given = getattr(view, "view_initkwargs", {})
        for name in given.get("http_method_names", owner.http_method_names):
            if (handler := getattr(owner, name.lower(), None)) is not None:
                yield handler


def _outermost(wrapper: Any) -> Any:
    """What a decorated function is called by: the name may stand for further decorators around it."""
    found: Any = sys.modules.get(getattr(wrapper, "__module__", None) or "")
    for name in getattr(wrapper, "__qualname__", "<locals>").split("."):
        found = vars(found).get(name) if hasattr(found, "__dict__") else None
    inner = found
    while inner is not None and inner is not wrapper:
        inner = getattr(inner, "__wrapped__", None)
    return wrapper if inner is None else found


def check_transactions(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E006, E007."""
    try:
        if not conf.settings().ENABLED:
            return []
    except ImproperlyConfigured:
        return []  # E001 says so
    views = _routes()
    found = declared()
    specs = {id(wrapper): spec for wrapper, spec in found}
    messages: dict[tuple[str, str], CheckMessage] = {}
    handlers = {id(handler): handler for view in views for handler in _handlers(view)}
    functions = [*views, *handlers.values(), *(_outermost(wrapper) for wrapper, _ in found)]
    for func in functions:
        if message := _transaction_outside(func, specs):
            messages.setdefault(("E007", str(message.obj)), message)
    for view in views:
        for message in _holds_on_handlers(view, specs):
            messages.setdefault(("E006", str(message.obj)), message)
    return list(messages.values())


def _holds_on_handlers(view: Any, specs: dict[int, Spec]) -> Iterator[CheckMessage]:
    left = getattr(view, "_non_atomic_requests", ())
    known = connections.settings
    aliases = [alias for alias in known if known[alias].get("ATOMIC_REQUESTS") and alias not in left]
    for handler in _handlers(view) if aliases else ():
        for layer in layers(handler, specs):
            if layer.spec is not None and (refused := [alias for alias in aliases if _refuses(layer, alias)]):
                yield Error(
                    f"{layer.spec.what}() on {name_of(handler)} is inside the transaction that ATOMIC_REQUESTS of "
                    f"{refused[0]!r} opens around the whole view: its requests end in a LockOrderError.",
                    hint=OUTSIDE.format(what=layer.spec.what),
                    obj=f"{name_of(view.view_class)}: {name_of(handler)}",
                    id="pooling.E006",
                )
                break


def _transaction_outside(func: Any, specs: dict[int, Spec]) -> CheckMessage | None:
    opened: list[str] = []
    for layer in layers(func, specs):
        if layer.spec is None:
            opened.append(layer.alias)
            continue
        refused = [alias for alias in opened if _refuses(layer, alias)]
        if not refused:
            return None  # what is further in may be covered by this hold, or be in a transaction of its own
        return Error(
            f"{layer.spec.what}() of {name_of(func)} is inside transaction.atomic() on {refused[0]!r}: the snapshot "
            f"may be older than the lock, so each call ends in a LockOrderError.",
            hint=f"Put {layer.spec.what}() above transaction.atomic(), or leave that out: {layer.spec.what}() opens "
            f"the transaction itself.",
            obj=name_of(func),
            id="pooling.E007",
        )
    return None


def check_group_order(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W007. Groups can also come from a ``with`` or a callable, which cannot be seen: only what resembles a declared
    one that has no rank is called a mistake."""
    try:
        settings = conf.settings()
    except ImproperlyConfigured:
        return []  # E001 says so
    views = _routes()  # importing them declares them
    sources = [source for _, spec in declared() for source in spec.reads + spec.writes]
    templates = [source for source in sources if isinstance(source, Template)]
    used = {template.levels[0][0] for template in templates if not template.levels[0][1]}
    used.update(group.split("/")[0] for group in settings.GROUPS)
    unranked = sorted(used.difference(settings.GROUP_ORDER)) if views or templates else []
    return [
        Warning(
            f"POOLING['GROUP_ORDER'] ranks {name!r}, which no view declares, and leaves out {close[0]!r}.",
            hint=f"Did you mean {close[0]!r}?",
            id="pooling.W007",
        )
        for name in settings.GROUP_ORDER
        # As near as a slip of the fingers: "event" is "events", but "users" is not "orders".
        if name not in used and (close := difflib.get_close_matches(name, unranked, n=1, cutoff=0.75))
    ]


def register_all() -> None:
    """Called when the app is ready. Registering again changes nothing."""
    for check in (check_transactions, check_group_order):
        register(check, "pooling")
