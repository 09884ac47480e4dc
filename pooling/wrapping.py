"""What the decorators have in common: who opens a view's transactions, what is asynchronous, what cannot be wrapped."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Container
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.db import connections


class TakenOver:
    """A view's ``_non_atomic_requests``: tells Django to leave the transactions of ATOMIC_REQUESTS to the decorator.

    Django opens them outside a view's decorators, so the lock would be taken after the snapshot and released before
    the COMMIT. Asked for each alias when a request comes in, it follows the settings of that moment.
    ``declined`` are the aliases that `transaction.non_atomic_requests` took out; no transaction is opened for them.
    """

    def __init__(self, declined: Container[str] = ()) -> None:
        self._declined = declined.is_declined if isinstance(declined, TakenOver) else declined.__contains__
        self._added: set[str] = set()

    def __contains__(self, alias: object) -> bool:
        if not isinstance(alias, str):
            return False
        return self.is_declined(alias) or bool(connections.settings.get(alias, {}).get("ATOMIC_REQUESTS"))

    def add(self, alias: str) -> None:
        """What `transaction.non_atomic_requests` calls when it is put outside."""
        self._added.add(alias)

    def is_declined(self, alias: str) -> bool:
        """Did the view ask for no transaction on this alias?"""
        return alias in self._added or self._declined(alias)


def is_async_view(func: Any) -> bool:
    """Must the result of ``func`` be awaited? True also for the dispatch() of an asynchronous class-based view, which
    is no coroutine function but returns a coroutine."""
    if iscoroutinefunction(func) or inspect.iscoroutinefunction(func):
        return True
    bound = func.func if isinstance(func, functools.partial) else func
    return getattr(bound, "__name__", "") == "dispatch" and bool(
        getattr(getattr(bound, "__self__", None), "view_is_async", False)
    )


def refuse_undecoratable(func: Any, what: str) -> None:
    """TypeError for what a lock around a call would not protect."""
    if isinstance(func, type):
        raise TypeError(
            f"{what}() cannot decorate the class {func.__name__}. For a view write "
            f"@method_decorator({what}(…), name='dispatch'), or {what}(…)({func.__name__}.as_view()) in the URLs."
        )
    if not callable(func):
        raise TypeError(f"{what}() decorates functions and views, not {func!r}.")
    if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
        raise TypeError(f"{what}() cannot decorate a generator: it runs after the unlock. Use `with locked(…)` in it.")
