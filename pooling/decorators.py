"""`locked`: views, functions and blocks that hold resource groups, in one order with their transaction."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Never, TypeVar

from django.http.response import HttpResponseBase

from ._names import nearest
from .caching import invalidate, locked_cache
from .hold import AsyncBlock, Block, run, run_async
from .spec import Spec, declare
from .steps import UNLOCKED_STREAM
from .wrapping import TakenOver, is_async_view, refuse_undecoratable

__all__ = ["allow_unlocked_stream", "invalidate", "locked", "locked_cache"]

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R", bound=HttpResponseBase)
_ARGUMENTS = ("reads", "writes", "wait", "lease", "atomic", "using", "fence")

# Entered blocks of this context, innermost last, with the `locked` that each belongs to. Not on `locked` itself: one
# instance may be used by many threads and tasks at once, and inside itself.
_entered: ContextVar[tuple[tuple[locked, Block | AsyncBlock], ...]] = ContextVar("pooling_entered", default=())


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
    ``lease``   seconds, 1 or more, after which a dead process's groups are free (``POOLING["LOCK_LEASE"]``). How long a
        living one may hold them it does not say: its lease is renewed.
    ``atomic``  True opens the transactions; False opens none, also not those of ATOMIC_REQUESTS.
    ``using``   alias, or list of aliases, for them. Default: every alias with ATOMIC_REQUESTS and, with writes, the
        default alias.
    ``fence``   True demands the fence: ImproperlyConfigured where there is none (the store is not shared between
        processes, or no transaction on MySQL or MariaDB is opened). False does without it.

    Usable as ``@locked(…)`` on sync and async functions and views, on ``as_view()``, with ``method_decorator``, and as
    ``with locked(…) as held`` or ``async with``. A TemplateResponse is rendered inside, hence before the
    ``process_template_response`` of middlewares, which then can no longer change its context.

    ``transaction.on_commit`` callbacks run after the COMMIT but while the groups are still held. What they raise
    reaches the caller although the changes are committed, as it does in Django. So a callback that takes groups of its
    own must keep to the order, or its LockOrderError makes an error page of a request that has succeeded: let it take
    later groups only, or none (hand the work to a task), or register it with ``on_commit(…, robust=True)``, which
    logs the error instead.

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
        **unknown: Never,
    ) -> None:
        for name in unknown:
            raise TypeError(f"locked() has no argument {name!r}. {nearest(name, _ARGUMENTS)}")
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
        raise RuntimeError(
            "This `locked` was not entered in this context. Leave it in the thread or task that entered it: by one "
            "`with` or `async with`, not by a fixture or a generator that ends in another task. What was entered "
            "elsewhere stays held until that task is over, and for the lease after that."
        )
