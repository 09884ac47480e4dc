"""System checks of the order of locks and transactions, on what the decorators of views and functions say.

What is reported as an error would certainly fail. A decorator that nobody here knows, a callable among the groups or a
name that cannot be followed make a thing undecided, and what is undecided is left to the run time.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from . import conf
from .decorated import Layer, Site, handlers, routes, seen
from .groups import Template
from .spec import declared, name_of
from .wrapping import is_async_view

OUTSIDE = (
    "Put the lock outside: @method_decorator({what}(…), name='dispatch') on the class, or {what}(…)(MyView.as_view()) "
    "in the URLs."
)
NOT_ATOMIC = " Is the lock about something other than the database, say atomic=False."


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


def check_transactions(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E006, E007, W010."""
    if (site := seen()) is None:
        return []
    found = [_transaction_outside(func, site.layers(func), site.answers(func)) for func in site.functions]
    for view in site.views:
        found += [*_holds_on_handlers(view, site), *_transaction_around_handlers(view, site)]
    return once(found)


def _holds_on_handlers(view: Any, site: Site) -> Iterator[CheckMessage]:
    left = getattr(view, "_non_atomic_requests", ())
    known = connections.settings
    aliases = [alias for alias in known if known[alias].get("ATOMIC_REQUESTS") and alias not in left]
    awaited = is_async_view(view)
    for handler in handlers(view) if aliases else ():
        for layer in site.layers(handler):
            if layer.spec is not None and (refused := [alias for alias in aliases if _refuses(layer, alias)]):
                what, alias = layer.spec.what, refused[0]
                yield Error(
                    f"{what}() on {name_of(handler)} leaves ATOMIC_REQUESTS of {alias!r} in force around the whole "
                    f"view, which is async: each request ends in a RuntimeError of Django's."
                    if awaited
                    else f"{what}() on {name_of(handler)} is inside the transaction that ATOMIC_REQUESTS of {alias!r} "
                    f"opens around the whole view: its requests end in a LockOrderError.",
                    hint=OUTSIDE.format(what=what) + ("" if awaited else NOT_ATOMIC),
                    obj=f"{name_of(view.view_class)}: {name_of(handler)}",
                    id="pooling.E006",
                )
                break


def _transaction_outside(func: Any, layers: list[Layer], answering: bool) -> CheckMessage | None:
    """``answering``: it answers requests. Other functions may be called in a hold that has all that they ask for."""
    opened: list[str] = []
    for layer in layers:
        if layer.spec is None:
            opened += [layer.alias] if layer.alias else []
            continue
        refused = [alias for alias in opened if _refuses(layer, alias)]
        if not refused:
            return None  # what is further in may be covered by this hold, or be in a transaction of its own
        return (Error if answering else Warning)(
            f"{layer.spec.what}() of {name_of(func)} is inside transaction.atomic() on {refused[0]!r}: the snapshot "
            f"may be older than the lock, so each call {'' if answering else 'outside of a hold of its groups '}ends "
            f"in a LockOrderError.",
            hint=f"Put {layer.spec.what}() above transaction.atomic(), or leave that out: {layer.spec.what}() opens "
            f"the transaction itself.",
            obj=name_of(func),
            id="pooling.E007" if answering else "pooling.W010",
        )
    return None


def _transaction_around_handlers(view: Any, site: Site) -> Iterator[CheckMessage]:
    """A transaction.atomic around dispatch() or as_view(), and the first hold on the handler."""
    around = site.layers(view)
    opened = [layer.alias for layer in around if layer.alias]
    if any(layer.spec is not None for layer in around):
        return  # that one is looked at by `_transaction_outside`, and may cover those further in
    for handler in handlers(view) if opened else ():
        first = next((layer for layer in site.layers(handler) if layer.spec is not None or layer.alias), Layer())
        refused = [alias for alias in opened if _refuses(first, alias)]
        if first.spec is not None and refused:
            what = first.spec.what
            yield Error(
                f"{what}() on {name_of(handler)} is inside transaction.atomic() on {refused[0]!r} around the whole "
                f"view: the snapshot may be older than the lock, so its requests end in a LockOrderError.",
                hint=OUTSIDE.format(what=what) + " It must stand above transaction.atomic()." + NOT_ATOMIC,
                obj=f"{name_of(view.view_class)}: {name_of(handler)}",
                id="pooling.E007",
            )


def once(messages: Iterable[CheckMessage | None]) -> list[CheckMessage]:
    """One message for each fault: views share functions and classes."""
    return list({(message.id, str(message.obj)): message for message in messages if message is not None}.values())


def check_group_order(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W007. Groups can also come from a ``with`` or a callable, which cannot be seen: only what resembles a declared
    one that has no rank is called a mistake."""
    try:
        settings = conf.settings()
    except ImproperlyConfigured:
        return []  # E001 says so
    views = routes()  # importing them declares them
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
