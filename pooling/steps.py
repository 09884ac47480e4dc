"""The order in which a hold happens: lock -> BEGIN -> view -> render -> COMMIT -> on_commit -> publish -> unlock.

It stands in `steps`, once, for decorators and context managers, sync and async. `steps` is a generator that says what
is to be done next; the drivers in `pooling.hold` do it in the way of their world and report back.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from django.db import connections

from . import alone, conf, containers, frames, learning, runtime, telling
from .alone import Alone
from .errors import FenceRejected, LockOrderError, LockTimeout, PoolingError, StoreUnavailable
from .frames import AfterCommit, Frame, NotHeld
from .groups import Plan, write_epochs
from .locks import Held
from .spec import Spec, is_request, name_of
from .trace import trace_of

logger = logging.getLogger("pooling.locks")

UNLOCKED_STREAM = "_pooling_unlocked_stream"
FOLLOWED = object()  # the result when somebody else computed it: nothing was locked, the view did not run
REFUSED = object()  # the result of an attempt when somebody was in the way: likewise


class Kind(enum.Enum):
    """What a driver of `steps` is asked for."""

    DATABASE = enum.auto()  # call ``value()`` in the thread that has the context's database connections
    LOCK = enum.auto()  # acquire, with ``value`` as keyword arguments
    ATTEMPT = enum.auto()  # the same without waiting; None if it would have to
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
    attempt: bool = False  # do not wait for the lock

    @property
    def name(self) -> str:
        return name_of(self.func) if self.func is not None else f"with {self.spec.what}(…)"

    def plan(self) -> Plan:
        if self.func is None:
            return self.spec.fixed_plan()
        if self.args and is_request(self.args[0]):
            return self.spec.plan(self.func, self.args[0], self.args[1:], self.kwargs)
        return self.spec.plan(self.func, None, self.args, self.kwargs)

    def goes_alone(self, store: Any, aliases: tuple[str, ...]) -> tuple[str, ...]:
        """With the store down: the databases whose fences stand in for it. None: the call must be refused."""
        if conf.settings().ON_STORE_DOWN != "fence" or not self.spec.is_fenced(store):
            return ()
        return alone.aliases_for(aliases)

    def aliases(self) -> tuple[str, ...]:
        view = bool(self.args) and is_request(self.args[0])
        return self.spec.aliases(view=view, declined=self.declined)


def steps(call: Call) -> Steps:
    settings = conf.settings()
    enabled = settings.ENABLED
    aliases = call.aliases()
    outer = frames.current.get()
    frame = Frame()
    open_frames: list[Frame] = []
    if enabled:
        manager = runtime.manager()
        call.spec.check_fence(shared=manager.store.shared, aliases=aliases)
        plan = call.plan()
        if outer:
            containers.nested(plan.reads)
        inside_alone = any(isinstance(one.held, Alone) and one.held.covers(plan) for one in outer)
        covered = inside_alone or manager.covered(plan)
        learn = None
        if settings.learns_order and not covered:
            learn = partial(learning.asks, call, plan, frame, outer, learning.stack(call.func))
        open_frames = yield Kind.DATABASE, partial(_prepare, call, outer, covered, learn)
        if inside_alone:
            frame.held = Alone.of(plan, call.name, borrowed=True)
        else:
            asked = {
                "plan": plan,
                "lease": call.spec.lease,
                "watches": call.watches,
                "follow": call.follow,
                "view": call.name,
                "trace": trace_of(call.args[0] if call.args else None),
            }
            try:
                if call.attempt:
                    frame.held = yield Kind.ATTEMPT, asked
                    if frame.held is None:
                        yield Kind.DONE, REFUSED
                        return
                else:
                    frame.held = yield Kind.LOCK, {"wait": call.spec.wait, **asked}
            except StoreUnavailable:
                aliases = call.goes_alone(manager.store, aliases)
                if not aliases:
                    raise
                frame.held = Alone.of(plan, call.name)
            except LockTimeout as error:
                if telling.is_heard_in_vain(error):
                    yield Kind.DATABASE, partial(telling.in_vain, plan, call.name, error)
                raise
        if not frame.held.leading:
            manager.release(frame.held)
            yield Kind.DONE, FOLLOWED
            return
    else:
        frame.held = NotHeld()
        open_frames = list(outer)
    frames.current.set((*outer, frame))
    result: Any = None
    committed = abandoned = begun = False
    try:
        try:
            if telling.is_heard(frame.held):
                # Before BEGIN, so that what receivers read fixes no snapshot before the fence is claimed.
                yield Kind.DATABASE, partial(telling.granted, frame.held)
            if aliases:
                fenced = isinstance(frame.held, Alone) or (
                    enabled and bool(frame.held.writes) and call.spec.is_fenced(runtime.store())
                )
                yield Kind.DATABASE, partial(frame.begin, aliases, open_frames, enabled=enabled, fenced=fenced)
            begun = True
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
            logger.warning(
                "%s was never left, so its transaction is not committed; its lease frees it.",
                call.name,
                extra={"view": call.name},
            )
            raise
        except BaseException as error:
            if aliases:
                yield Kind.DATABASE, partial(frame.rollback, error)
            if isinstance(error, FenceRejected) and error.newest and not begun:
                runtime.advance(error.newest)  # so that the next try succeeds, whatever the store has forgotten
            raise
        committed = True
    finally:
        if not abandoned:
            frames.current.set(tuple(other for other in frames.current.get() if other is not frame))
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
            if held is frame.held:
                open_frames[0].observe(frame)
            if isinstance(open_frames[0].held, Held):  # not so if ENABLED was switched on inside it
                runtime.manager().leave(held, open_frames[0].held)
            continue
        try:
            if callback is not None:
                callback(held, outcome)
        except Exception:
            # The changes are committed and the answer is made: neither may be lost for the cache's sake.
            logger.exception("%s: what was to be done after the commit failed", call.name, extra={"view": call.name})
        finally:
            runtime.release(held)
            if committed and isinstance(held, Alone) and held.writes:
                runtime.store().later(None, write_epochs(held.writes))


def nothing_is_open() -> bool:
    """Is there no hold and no transaction in this thread, hence nothing for `check_transactions` to refuse?"""
    if frames.current.get():
        return False
    # As `connections.all(initialized_only=True)` does, but that looks for each twice, which is a twentieth of a hit.
    initialized = cast(Any, connections)._connections
    for alias in connections:
        connection = getattr(initialized, alias, None)
        if connection is None or connection.autocommit:
            continue
        if connection.in_atomic_block or connection.connection is not None:
            return False
    return True


def check_transactions(call: Call, plan: Plan) -> None:
    """LockOrderError if `steps` would refuse this call because of a transaction that is open in this thread."""
    if not runtime.manager().covered(plan):
        outer = frames.current.get()
        _refuse_transactions(call, [frame for frame in outer if frame.open_aliases()], outer)


def _prepare(call: Call, outer: tuple[Frame, ...], covered: bool, learn: Callable[[], None] | None) -> list[Frame]:
    """Before the lock: refuse to lock inside a transaction, and give back connections that nothing needs. ``learn``
    looks at what is left of them, in the same step: tasks beside this one may share the thread.

    Returns the frames further out whose transactions are open, outermost first.
    """
    open_frames = [frame for frame in outer if frame.open_aliases()]
    if covered:
        return open_frames
    _refuse_transactions(call, open_frames, outer)
    give_back_connections()
    if learn is not None:
        learn()
    return open_frames


def give_back_connections() -> None:
    """Those that nothing needs: a request that waits for another must not keep others from the database meanwhile."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block and hasattr(connection, "release_if_clean"):
            connection.release_if_clean()


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
    # Autocommit first: a wrapper that has given its connection back for now takes one when it is asked for it.
    manual = not connection.in_atomic_block and not connection.autocommit and connection.connection is not None
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
