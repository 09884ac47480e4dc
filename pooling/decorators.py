"""`locked`: views, functions and blocks that hold resource groups, in one order with their transaction."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Container
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction
from django.db import connections
from django.http.response import HttpResponseBase

from .hold import AsyncBlock, Block, run, run_async
from .spec import Spec, declare
from .steps import UNLOCKED_STREAM

__all__ = ["TakenOver", "allow_unlocked_stream", "is_async_view", "locked"]

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R", bound=HttpResponseBase)

# Entered blocks of this context, innermost last, with the `locked` that each belongs to. Not on `locked` itself: one
# instance may be used by many threads and tasks at once, and inside itself.
_entered: ContextVar[tuple[tuple[locked, Block | AsyncBlock], ...]] = ContextVar("pooling_entered", default=())


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


def allow_unlocked_stream(response: R) -> R:
    """Let a view that declares writes return this streaming response.

    Its body is produced after the COMMIT and after the unlock: it sees what others have written since, and must write
    nothing itself.
    """
    setattr(response, UNLOCKED_STREAM, True)
    return response


class locked:
    """Hold resource groups for the time of a view, a function or a block, and commit before they are free again.

    ``reads``, ``writes``  lists of groups. In a decorator a level may be ``{argument}``, and an item may be a callable
        ``(request, *args, **kwargs) -> iterable of groups``.
    ``wait``    seconds to wait for the groups at most (``POOLING["LOCK_WAIT"]``); LockTimeout after that.
    ``lease``   seconds after which a dead process's groups are free (``POOLING["LOCK_LEASE"]``).
    ``atomic``  True opens the transactions; False opens none, also not those of ATOMIC_REQUESTS.
    ``using``   alias, or list of aliases, for them. Default: every alias with ATOMIC_REQUESTS and, with writes, the
        default alias.
    ``fence``   True demands a store shared between processes.

    Usable as ``@locked(…)`` on sync and async functions and views, on ``as_view()``, with ``method_decorator``, and as
    ``with locked(…) as held`` or ``async with``. A TemplateResponse is rendered inside, hence before the
    ``process_template_response`` of middlewares, which then can no longer change its context.

    TypeError, GroupError or ImproperlyConfigured at once for what cannot be meant.
    """

    def __init__(
        self,
        reads: Any = (),
        writes: Any = (),
        *,
        wait: float | None = None,
        lease: float | None = None,
        atomic: bool = True,
        using: str | list[str] | tuple[str, ...] | None = None,
        fence: bool | None = None,
    ) -> None:
        self._spec = Spec.make(reads, writes, wait=wait, lease=lease, atomic=atomic, using=using, fence=fence)

    def __call__(self, func: F) -> F:
        spec = self._spec
        refuse_undecoratable(func, spec.what)
        wrapper: Any
        if is_async_view(func):

            @functools.wraps(func)
            async def awaiting(*args: Any, **kwargs: Any) -> Any:
                return await run_async(spec, func, args, kwargs, declined=marker.is_declined)

            wrapper = awaiting
        else:

            @functools.wraps(func)
            def calling(*args: Any, **kwargs: Any) -> Any:
                return run(spec, func, args, kwargs, declined=marker.is_declined)

            wrapper = calling
        marker = wrapper._non_atomic_requests = TakenOver(getattr(func, "_non_atomic_requests", ()))
        declare(wrapper, func, spec)
        return wrapper  # type: ignore[no-any-return]

    def __enter__(self) -> Any:
        block = Block(self._spec)
        held = block.enter()
        _entered.set((*_entered.get(), (self, block)))
        return held

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        block = self._pop()
        assert isinstance(block, Block)
        try:
            block.leave(error)
        except BaseException as raised:
            if raised is not error:
                raise

    async def __aenter__(self) -> Any:
        block = AsyncBlock(self._spec)
        held = await block.enter()
        _entered.set((*_entered.get(), (self, block)))
        return held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        block = self._pop()
        assert isinstance(block, AsyncBlock)
        try:
            await block.leave(error)
        except BaseException as raised:
            if raised is not error:
                raise

    def _pop(self) -> Block | AsyncBlock:
        entered = _entered.get()
        for index in range(len(entered) - 1, -1, -1):
            owner, block = entered[index]
            if owner is self:
                _entered.set(entered[:index] + entered[index + 1 :])
                return block
        raise RuntimeError("This `locked` was not entered in this context.")


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
