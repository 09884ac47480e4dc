"""Running something under a hold: `run`, `run_async` and, for ``with``, `Block`.

The order of events is in `pooling.steps`. Here is how each step is done: at once in sync code; in async code the wait
for the lock natively, the database in the thread that asgiref keeps for it.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.db import connections
from django.utils.asyncio import async_unsafe

from . import runtime
from .frames import AfterCommit, NotHeld
from .spec import Spec
from .steps import FOLLOWED, Call, Closed, Kind, Step, Steps, steps

__all__ = ["AfterCommit", "AsyncBlock", "Block", "NotHeld", "Spec", "run", "run_async"]

T = TypeVar("T")


def run(
    spec: Spec,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    watches: tuple[str, ...] = (),
    follow: str | None = None,
    after_commit: AfterCommit | None = None,
    on_follow: Callable[[], Any] | None = None,
    declined: Callable[[str], bool] | None = None,
    attempt: bool = False,
) -> Any:
    """Call ``func(*args, **kwargs)`` while holding what ``spec`` declares; return its (rendered) result.

    ``args``    all positional arguments, a view's request included.
    ``watches`` epochs to capture at the grant, before any snapshot, into ``held.vector``.
    ``follow``, ``on_follow``  single-flight: the resource; and what to return instead of calling ``func`` when somebody
                else was computing it. Then nothing is locked and no transaction was opened.
    ``after_commit(held, result)``  called after the COMMIT (inside a hold further out: after that one's) and before the
                unlock; not called after an exception. What it raises is logged, the result stands.
    ``declined`` says whether the view wants no transaction on an alias (`transaction.non_atomic_requests`).
    ``attempt`` do not wait for the lock: REFUSED is returned if it is not free.

    Raises what ``func`` raises, after ROLLBACK and unlock; LockTimeout, LockOrderError, LockLost, GroupError,
    StoreUnavailable, ImproperlyConfigured. What an ``on_commit`` callback raises comes after the COMMIT, which stands.
    """
    call = Call(spec, func, args, kwargs, watches, follow, after_commit, declined, attempt)
    result = _drive(call, steps(call), lambda: func(*args, **kwargs))
    if result is FOLLOWED:
        return on_follow() if on_follow is not None else None
    return result


async def run_async(
    spec: Spec,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    watches: tuple[str, ...] = (),
    follow: str | None = None,
    after_commit: AfterCommit | None = None,
    on_follow: Callable[[], Any] | None = None,
    declined: Callable[[str], bool] | None = None,
    attempt: bool = False,
) -> Any:
    """`run` for a ``func`` whose result is awaited. ``on_follow`` may return an awaitable; ``after_commit`` is sync.

    Cancelled while ``func`` runs, it rolls back and unlocks before CancelledError goes on.
    """
    call = Call(spec, func, args, kwargs, watches, follow, after_commit, declined, attempt)
    async with _database_thread():
        result = await _drive_async(call, steps(call), lambda: func(*args, **kwargs))
    if result is FOLLOWED:
        result = on_follow() if on_follow is not None else None
        return await result if inspect.isawaitable(result) else result
    return result


class Block:
    """One entry of ``with locked(…) as held``. Not reusable; `pooling.decorators.locked` makes one each time."""

    def __init__(self, spec: Spec) -> None:
        self._call = Call(spec, None)
        self._steps = steps(self._call)

    @async_unsafe("You cannot use `with locked(…)` here: it would stop the event loop. Write `async with locked(…)`.")
    def enter(self) -> Any:
        """Lock and BEGIN; returns the `Held`."""
        step = next(self._steps)
        while step[0] is not Kind.BODY:
            step = _next(self._steps, self._call, step)
        return step[1]

    def leave(self, error: BaseException | None) -> None:
        """COMMIT, or ROLLBACK because of ``error``; unlock. Raises ``error`` or what came instead of it."""
        step = _advance(self._steps, None, error)
        while step[0] is not Kind.DONE:
            step = _next(self._steps, self._call, step)


class AsyncBlock:
    """One entry of ``async with locked(…) as held``."""

    def __init__(self, spec: Spec) -> None:
        self._call = Call(spec, None)
        self._steps = steps(self._call)
        self._thread = AsyncExitStack()

    async def enter(self) -> Any:
        """Lock and BEGIN; returns the `Held`."""
        await self._thread.enter_async_context(_database_thread())
        try:
            step = next(self._steps)
            while step[0] is not Kind.BODY:
                step = await _next_async(self._steps, self._call, step)
        except BaseException:
            await self._thread.aclose()
            raise
        return step[1]

    async def leave(self, error: BaseException | None) -> None:
        """COMMIT, or ROLLBACK because of ``error``; unlock. Raises ``error`` or what came instead of it."""
        async with self._thread:
            step = _advance(self._steps, None, error)
            while step[0] is not Kind.DONE:
                step = await _next_async(self._steps, self._call, step)


# --- drivers ----------------------------------------------------------------------------------------------------------


def _advance(work: Steps, answer: Any, error: BaseException | None = None) -> Step:
    try:
        if error is None:
            return work.send(answer)
        return work.throw(Closed(error) if isinstance(error, GeneratorExit) else error)
    except Closed as closed:
        raise closed.error from None
    except RuntimeError as wrapped:
        # Python lets no StopIteration out of a generator; to the view's caller it is an exception like any other.
        if isinstance(wrapped.__cause__, StopIteration):
            raise wrapped.__cause__ from None
        raise


def _next(work: Steps, call: Call, step: Step, body: Callable[[], Any] | None = None) -> Step:
    kind, value = step
    answer: Any
    try:
        if kind is Kind.LOCK:
            answer = runtime.manager().acquire(**value)
        elif kind is Kind.ATTEMPT:
            answer = runtime.manager().attempt(thread=threading.current_thread(), **value)
        elif kind is Kind.DATABASE:
            answer = value()
        else:
            assert body is not None
            answer = call.spec.complete(call.func, body())
    except BaseException as error:  # noqa: BLE001 - handed on: `steps` rolls back, unlocks and raises it again
        return _advance(work, None, error)
    return _advance(work, answer)


def _drive(call: Call, work: Steps, body: Callable[[], Any]) -> Any:
    step = next(work)
    while step[0] is not Kind.DONE:
        step = _next(work, call, step, body)
    return step[1]


async def _next_async(work: Steps, call: Call, step: Step, body: Callable[[], Any] | None = None) -> Step:
    kind, value = step
    answer: Any
    try:
        if kind is Kind.LOCK:
            answer = await runtime.manager().acquire_async(**value)
        elif kind is Kind.ATTEMPT:
            answer = runtime.manager().attempt(**value)
        elif kind is Kind.DATABASE:
            answer = await _to_end(sync_to_async(value, thread_sensitive=True)())
        else:
            assert body is not None
            answer = await body()
    except BaseException as error:  # noqa: BLE001 - handed on: `steps` rolls back, unlocks and raises it again
        return _advance(work, None, error)
    return _advance(work, answer)


async def _drive_async(call: Call, work: Steps, body: Callable[[], Any]) -> Any:
    step = next(work)
    while step[0] is not Kind.DONE:
        step = await _next_async(work, call, step, body)
    return step[1]


async def _to_end(work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` to its end even if this task is cancelled meanwhile; the cancellation is raised afterwards.

    A BEGIN or ROLLBACK that was begun goes on in its thread whatever happens to the task. Would the task go on before
    it, the lock would be released while the transaction is still open.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            raise cancelled from failure
        raise cancelled
    return task.result()


@asynccontextmanager
async def _database_thread() -> AsyncIterator[None]:
    """A thread of this task's own for database work, unless something further out provides one.

    Without it all tasks would share asgiref's single thread, hence one connection and one transaction.
    """
    provided = (
        getattr(AsyncToSync.executors, "current", None) is not None
        or SyncToAsync.thread_sensitive_context.get(None) is not None
        or asyncio.get_running_loop() in AsyncToSync.loop_thread_executors
    )
    if provided:
        yield
        return
    async with ThreadSensitiveContext():
        try:
            yield
        finally:
            await _to_end(sync_to_async(connections.close_all, thread_sensitive=True)())
