"""The order in which a hold happens: lock -> BEGIN -> view -> render -> COMMIT -> on_commit -> publish -> unlock.

It stands in `steps`, once, for decorators and context managers, sync and async. `steps` is a generator that says what
is to be done next; the drivers in `pooling.hold` do it in the way of their world and report back.
"""

from __future__ import annotations

import contextvars
import enum
import logging
import threading
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db import connections, transaction

from . import conf, fences, runtime
from .errors import LockOrderError, PoolingError
from .groups import Plan
from .locks import Held
from .spec import Spec, is_request, name_of

logger = logging.getLogger("pooling.locks")

AfterCommit = Callable[[Any, Any], None]
UNLOCKED_STREAM = "_pooling_unlocked_stream"


@dataclass(frozen=True)
class NotHeld:
    """Stands in for `Held` with ``POOLING["ENABLED"] = False``: nothing is locked, and nothing can be lost."""

    groups: tuple[Any, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    fence: int = 0
    vector: tuple[bytes, ...] = ()
    leading: bool = True
    active: bool = True

    def check(self, *, ask: bool = True) -> None:
        """There is nothing that could have been lost."""


@dataclass
class Frame:
    """One hold of the current context: its lock, the transactions it opened, and what has to wait for their COMMIT."""

    held: Any = None
    stack: ExitStack = field(default_factory=ExitStack)
    blocks: list[tuple[str, transaction.Atomic]] = field(default_factory=list)
    fenced: set[str] = field(default_factory=set)
    _deferred: list[tuple[Any, AfterCommit | None, Any]] = field(default_factory=list)
    _closed: bool = False
    _at_commit: list[tuple[str, Callable[[], None]]] = field(default_factory=list)
    _ended: bool = False
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def open_aliases(self) -> list[str]:
        """Aliases whose transaction this frame opened and that has not ended. Asks this thread's connections."""
        return [alias for alias, block in self.blocks if block in connections[alias].atomic_blocks]

    def begin(self, aliases: tuple[str, ...], outer: list[Frame], *, enabled: bool, fenced: bool) -> None:
        """Open the transactions. An alias that a hold further out has open gets a savepoint.

        ``fenced``: each begins with a claim of what is written, before anything is read: FenceRejected if this holder
        comes too late.
        """
        joined = {alias for frame in outer for alias in frame.open_aliases()}
        for alias in aliases:
            # What a hold further out has claimed already in this very transaction stays claimed.
            claims = fenced and fences.is_fenced(alias) and not (alias in joined and self.held.borrowed)
            if claims:
                fences.prepare(alias, self.held.reads, self.held.writes)
            block = transaction.atomic(using=alias, durable=enabled and alias not in joined)
            self.stack.enter_context(block)
            self.blocks.append((alias, block))
            if claims:
                fences.claim(alias, self.held.reads, self.held.writes, self.held.fence, self.held.view)
                self.fenced.add(alias)

    def commit(self) -> None:
        """COMMIT, and with it the on_commit callbacks, unless the lock was lost meanwhile: LockLost."""
        if self.blocks:
            # The store need not be asked where all that is written is fenced: a newer holder waits for our fences.
            self.held.check(ask=any(alias not in self.fenced for alias, _ in self.blocks))
        for alias, callback in self._end_transactions():
            transaction.on_commit(callback, using=alias)
        self.stack.close()

    def rollback(self, error: BaseException) -> None:
        """ROLLBACK what is still open. A failure is logged: ``error`` is what the caller must see."""
        self._end_transactions()
        try:
            self.stack.__exit__(type(error), error, error.__traceback__)
        except BaseException as failure:
            if failure is not error:
                logger.exception("Rolling back after %r failed", error)

    def at_commit(self, alias: str, callback: Callable[[], None]) -> bool:
        """`transaction.on_commit` for code outside the thread of the transaction. False: it is ending already."""
        with self._mutex:
            if not self._ended:
                self._at_commit.append((alias, callback))
            return not self._ended

    def _end_transactions(self) -> list[tuple[str, Callable[[], None]]]:
        with self._mutex:
            self._ended = True
            return self._at_commit

    def defer(self, held: Any, after_commit: AfterCommit | None, result: Any) -> bool:
        """Keep a nested hold until this frame's COMMIT. False: this frame is over already."""
        with self._mutex:
            if not self._closed:
                self._deferred.append((held, after_commit, result))
            return not self._closed

    def close(self) -> list[tuple[Any, AfterCommit | None, Any]]:
        """Take no more nested holds; return those to end now, innermost first."""
        with self._mutex:
            self._closed = True
            return self._deferred[::-1]


FOLLOWED = object()  # the result when somebody else computed it: nothing was locked, the view did not run

_frames: contextvars.ContextVar[tuple[Frame, ...]] = contextvars.ContextVar("pooling_frames", default=())


def at_commit(callback: Callable[[], None], using: Collection[str] | None = None) -> bool:
    """Call ``callback`` after the COMMIT of this context's holds, and not at all after a ROLLBACK.

    Only transactions of another thread count, as those of ``async with locked(…)``, which the event loop's thread
    cannot see; for this thread's there is `transaction.on_commit`. ``using``: only these aliases. False: no such
    transaction is open, ``callback`` will not be called.
    """
    found: set[str] = set()
    for frame in reversed(_frames.get()):
        for alias, block in frame.blocks:
            wanted = alias not in found and (using is None or alias in using)
            if wanted and block not in connections[alias].atomic_blocks and frame.at_commit(alias, callback):
                found.add(alias)
    return bool(found)


class Kind(enum.Enum):
    """What a driver of `steps` is asked for."""

    DATABASE = enum.auto()  # call ``value()`` in the thread that has the context's database connections
    LOCK = enum.auto()  # acquire, with ``value`` as keyword arguments
    BODY = enum.auto()  # run the view, or the body of the ``with``
    DONE = enum.auto()  # ``value`` is the result


class Closed(BaseException):
    """What a driver throws into `steps` for a GeneratorExit of the body, ``error``.

    A bare one comes from the interpreter, when a block that nobody left is collected: there is no driver any more.
    """

    def __init__(self, error: GeneratorExit) -> None:
        super().__init__(error)
        self.error = error


Step = tuple[Kind, Any]
Steps = Generator[Step, Any, None]


@dataclass(frozen=True)
class Call:
    """One call of a decorated function, or one entry of a ``with`` (then ``func`` is None)."""

    spec: Spec
    func: Callable[..., Any] | None
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    watches: tuple[str, ...] = ()
    follow: str | None = None
    after_commit: AfterCommit | None = None
    declined: Callable[[str], bool] | None = None

    @property
    def name(self) -> str:
        return name_of(self.func) if self.func is not None else f"with {self.spec.what}(…)"

    def plan(self) -> Plan:
        if self.func is None:
            return self.spec.fixed_plan()
        if self.args and is_request(self.args[0]):
            return self.spec.plan(self.func, self.args[0], self.args[1:], self.kwargs)
        return self.spec.plan(self.func, None, self.args, self.kwargs)

    def aliases(self) -> tuple[str, ...]:
        view = bool(self.args) and is_request(self.args[0])
        return self.spec.aliases(view=view, declined=self.declined)


def steps(call: Call) -> Steps:
    enabled = conf.settings().ENABLED
    aliases = call.aliases()
    outer = _frames.get()
    frame = Frame()
    open_frames: list[Frame] = []
    if enabled:
        manager = runtime.manager()
        call.spec.check_fence(manager.store)
        plan = call.plan()
        open_frames = yield Kind.DATABASE, partial(_prepare, call, outer, manager.covered(plan))
        frame.held = yield (
            Kind.LOCK,
            {
                "plan": plan,
                "wait": call.spec.wait,
                "lease": call.spec.lease,
                "watches": call.watches,
                "follow": call.follow,
                "view": call.name,
            },
        )
        if not frame.held.leading:
            manager.release(frame.held)
            yield Kind.DONE, FOLLOWED
            return
    else:
        frame.held = NotHeld()
        open_frames = list(outer)
    _frames.set((*outer, frame))
    result: Any = None
    committed = abandoned = False
    try:
        try:
            if aliases:
                fenced = enabled and bool(frame.held.writes) and call.spec.is_fenced(runtime.store())
                yield Kind.DATABASE, partial(frame.begin, aliases, open_frames, enabled=enabled, fenced=fenced)
            result = yield Kind.BODY, frame.held
            if enabled and call.func is not None:
                _refuse_stream(call, result)
                if not getattr(result, "is_rendered", True) and callable(getattr(result, "render", None)):
                    result = yield Kind.DATABASE, result.render
            if aliases:
                yield Kind.DATABASE, frame.commit
        except GeneratorExit:
            # Collected, maybe in another thread and in the middle of anything: the database connection is not ours
            # to touch here, and the store may be locked by this very thread. The lease frees the groups.
            abandoned = True
            logger.warning("%s was never left, so its transaction is not committed; its lease frees it.", call.name)
            raise
        except BaseException as error:
            if aliases:
                yield Kind.DATABASE, partial(frame.rollback, error)
            raise
        committed = True
    finally:
        if not abandoned:
            _frames.set(tuple(other for other in _frames.get() if other is not frame))
        if enabled and not abandoned:
            _end(call, frame, open_frames, result, committed=committed)
    yield Kind.DONE, result


def _end(call: Call, frame: Frame, open_frames: list[Frame], result: Any, *, committed: bool) -> None:
    """Publish and unlock; inside a transaction of a hold further out, leave both to that one.

    Were the nested lock released at its own end, another could read and write its groups before the outer COMMIT made
    this hold's changes visible.
    """
    ending = [*frame.close(), (frame.held, call.after_commit, result)]
    for held, after_commit, outcome in ending:
        callback = after_commit if committed else None
        if open_frames and open_frames[0].defer(held, callback, outcome):
            if isinstance(open_frames[0].held, Held):  # not so if ENABLED was switched on inside it
                runtime.manager().leave(held, open_frames[0].held)
            continue
        try:
            if callback is not None:
                callback(held, outcome)
        except Exception:
            # The changes are committed and the answer is made: neither may be lost for the cache's sake.
            logger.exception("%s: what was to be done after the commit failed", call.name)
        finally:
            runtime.release(held)


def check_transactions(call: Call, plan: Plan) -> None:
    """LockOrderError if `steps` would refuse this call because of a transaction that is open in this thread."""
    if not runtime.manager().covered(plan):
        outer = _frames.get()
        _refuse_transactions(call, [frame for frame in outer if frame.open_aliases()], outer)


def in_hold() -> bool:
    """Is this context inside a hold?"""
    return bool(_frames.get())


def _prepare(call: Call, outer: tuple[Frame, ...], covered: bool) -> list[Frame]:
    """Before the lock: refuse to lock inside a transaction, and give back connections that nothing needs.

    Returns the frames further out whose transactions are open, outermost first.
    """
    open_frames = [frame for frame in outer if frame.open_aliases()]
    if covered:
        return open_frames
    _refuse_transactions(call, open_frames, outer)
    for connection in connections.all(initialized_only=True):
        # A request that waits for a lock must not keep others from the database meanwhile.
        if not connection.in_atomic_block and hasattr(connection, "release_if_clean"):
            connection.release_if_clean()
    return open_frames


def _refuse_transactions(call: Call, open_frames: list[Frame], outer: tuple[Frame, ...]) -> None:
    if call.spec.atomic:
        for frame in open_frames:
            _refuse_old_snapshot(call, frame)
    ours = {id(block) for frame in outer for _, block in frame.blocks}
    for connection in connections.all(initialized_only=True):
        if call.spec.atomic and (call.spec.using is None or connection.alias in call.aliases()):
            _refuse_foreign(call, connection, ours)


def _refuse_foreign(call: Call, connection: Any, ours: set[int]) -> None:
    blocks = [block for block in connection.atomic_blocks if not block._from_testcase]
    manual = not connection.in_atomic_block and connection.connection is not None and not connection.autocommit
    if manual or (blocks and id(blocks[0]) not in ours):
        raise LockOrderError(
            f"{call.name} asks for its groups inside a transaction on {connection.alias!r} that is open already"
            f"{' (autocommit is off)' if manual else ''}: the transaction's snapshot may be older than the lock, and "
            f"it commits after the lock is gone. Take the lock first. For a view under ATOMIC_REQUESTS the decorator "
            f"belongs around the whole view: @method_decorator({call.spec.what}(…), name='dispatch') on the class or "
            f"{call.spec.what}(…)(MyView.as_view()) in the URLs, not on get() or post(), and outside other decorators "
            f"that open transactions. Elsewhere put it around transaction.atomic(), not inside. Is the lock about "
            f"something other than the database, say atomic=False."
        )


def _refuse_old_snapshot(call: Call, frame: Frame) -> None:
    for alias in frame.open_aliases():
        level = getattr(connections[alias], "isolation_level", None)
        level = str(getattr(level, "name", level)).replace("_", " ").lower()
        if level not in ("read committed", "read uncommitted"):
            raise LockOrderError(
                f"{call.name} asks for further groups inside a hold whose transaction on {alias!r} is open, at "
                f"isolation level {level!r}: its snapshot is older than the new lock, so it would read what others "
                f"have changed since. Declare all groups together in the outer hold, or set the alias's "
                f"isolation_level to 'read committed' in OPTIONS."
            )


def _refuse_stream(call: Call, response: Any) -> None:
    streaming = getattr(response, "streaming", False) and not getattr(response, UNLOCKED_STREAM, False)
    if streaming and call.spec.writes:
        raise PoolingError(
            f"{call.name} declares writes and returned a streaming response: its body would be produced after the "
            f"commit and without the lock. Return a complete response, or declare that the body needs neither: "
            f"return allow_unlocked_stream(response), from pooling.decorators."
        )
