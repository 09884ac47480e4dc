"""The lock manager: takes all groups of a request at once, waits, gives them back.

Knows no Django and no store in particular; it speaks `pooling.store.protocol.Store`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .. import _numbers, moments
from ..errors import LockTimeout, StoreUnavailable
from ..groups import Mode, Plan, write_epochs
from ..store.protocol import Grant, LockRequest, Store
from . import held as _held
from .beside import Beside, check_left, left_to, tickets_of
from .held import Held, current_holds
from .leases import Renewer
from .order import check_order, modes_of, remaining
from .report import timeout_error
from .stats import LockStats, process

logger = logging.getLogger("pooling.locks")

_PATIENCE_MARGIN = 2.0  # seconds: a live waiter gives up by itself before the store takes it for dead
_HOST = socket.gethostname()


def _seconds(name: str, value: object, *, zero: bool) -> float:
    return _numbers.seconds(name, value, zero=zero, wrong_type=TypeError)


@dataclass(frozen=True)
class Options:
    """``wait`` and ``lease`` in seconds, used where a call gives none; ``ranks`` of top-level groups.

    TypeError or ValueError for what is no such number. A wait of 0 means not to wait at all.
    """

    wait: float = 10.0
    lease: float = 30.0
    ranks: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _seconds("wait", self.wait, zero=True)
        _seconds("lease", self.lease, zero=False)


@dataclass(slots=True)
class _Asking:
    """An acquisition under way."""

    request: LockRequest
    plan: Plan  # as declared
    new: Plan  # what of it was not held yet
    holds: tuple[Held, ...]  # what the context has already
    needs: tuple[Held, ...]
    wait: float
    view: str
    thread: threading.Thread | None
    started: float
    sent: bool = False  # may the store know of it?
    queued: bool = False


class LockManager:
    """Locks by resource group over one store. Thread-safe; what a context holds is in a context variable."""

    def __init__(
        self,
        store: Store,
        options: Options | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        stats: LockStats = process,
        on_lost: Callable[[Store, str, Held, float], None] | None = None,
    ) -> None:
        """``on_lost(store, ticket, held, seconds)``: a hold was found to be lost, so many seconds after its grant.
        Called once for each, in any thread, while no lock of the manager's own is held; it must not block."""
        self.store = store
        self.options = options or Options()
        self.stats = stats
        self._clock = clock
        self._on_lost = on_lost
        self._renewer = Renewer(store, clock, self._lose)
        self._beside = Beside()
        self._numbers = itertools.count()
        self._nonce = ""
        self._nonce_pid = 0

    def acquire(
        self,
        plan: Plan,
        *,
        wait: float | None = None,
        lease: float | None = None,
        watches: tuple[str, ...] = (),
        follow: str | None = None,
        nowait: bool = False,
        view: str = "",
        label: str = "",
        trace: str = "",
    ) -> Held:
        """Hold everything in ``plan``, all at once, or nothing.

        ``wait``    seconds to wait at most; 0, or ``nowait``, asks once. LockTimeout names who holds the groups.
        ``lease``   seconds after which the groups of a process that died are free; a living one is renewed.
        ``watches`` epochs to capture in the step of the grant, into `Held.vector`.
        ``follow``  single-flight: the name of what is being computed (not a group). Does somebody compute it, then
                    the answer comes when he is done, with ``leading=False`` and no groups held. While other groups
                    are held it is ignored: waiting for another's computation then could close a circle.
        ``view``, ``label``, ``trace``  for people: who asks, and in which trace.

        LockOrderError: new groups while holding others, not later than all of those. Interrupted in any way it
        leaves nothing behind.
        """
        asking = self._prepare(
            plan, wait, lease, watches, follow, nowait, view, label, trace, threading.current_thread()
        )
        if isinstance(asking, Held):
            return asking
        ticket = asking.request.ticket
        store = self.store
        try:
            grant = store.acquire(asking.request)
            asking.sent = True
            if grant is None and not asking.request.nowait:
                asking.queued = True
                deadline = asking.started + asking.wait
                while grant is None and (left := deadline - time.monotonic()) > 0:
                    grant = store.wait(ticket, left)
                    if grant is None and time.monotonic() < deadline:
                        grant = store.acquire(asking.request)  # the store has forgotten the ticket
            if grant is None:
                raise self._timed_out(asking)
            return self._granted(asking, grant)
        except BaseException as error:
            if asking.sent or getattr(error, "asked", True):
                self._abandon(ticket)
            raise

    def attempt(
        self,
        plan: Plan,
        *,
        lease: float | None = None,
        watches: tuple[str, ...] = (),
        follow: str | None = None,
        view: str = "",
        trace: str = "",
        thread: threading.Thread | None = None,
    ) -> Held | None:
        """`acquire`, but None if it would have to wait: one call to the store, and nobody is told who was in the way.
        For async code as well; ``thread`` is the one that holds it in sync code."""
        asking = self._prepare(plan, 0.0, lease, watches, follow, True, view, "", trace, thread)
        if isinstance(asking, Held):
            return asking
        try:
            grant = self.store.acquire(asking.request)
            return None if grant is None else self._granted(asking, grant)
        except BaseException as error:
            if getattr(error, "asked", True):
                self._abandon(asking.request.ticket)
            raise

    async def acquire_async(
        self,
        plan: Plan,
        *,
        wait: float | None = None,
        lease: float | None = None,
        watches: tuple[str, ...] = (),
        follow: str | None = None,
        nowait: bool = False,
        view: str = "",
        label: str = "",
        trace: str = "",
    ) -> Held:
        """`acquire` without blocking a thread while waiting. Await it directly, not as a task of its own: what is
        held belongs to the context that awaits."""
        asking = self._prepare(plan, wait, lease, watches, follow, nowait, view, label, trace, None)
        if isinstance(asking, Held):
            return asking
        store = self.store
        try:
            grant = store.acquire(asking.request)
            asking.sent = True
            if grant is None and not asking.request.nowait:
                asking.queued = True
                deadline = asking.started + asking.wait
                while grant is None and (left := deadline - time.monotonic()) > 0:
                    grant = await self._wait_async(asking, left)
                    if grant is None and time.monotonic() < deadline:
                        self._widen(asking)
                        grant = store.acquire(asking.request)
                        await asyncio.sleep(0)  # a store that forgets it again and again must not stop the loop
            if grant is None:
                raise self._timed_out(asking)
            return self._granted(asking, grant)
        except BaseException as error:
            if asking.sent or getattr(error, "asked", True):
                self._abandon(asking.request.ticket)
            raise

    def leave(self, held: Held, until: Held) -> None:
        """Say that ``held`` will not be released before ``until``, further out, which may wait for other tasks inside
        it. Those pass ``held`` from now on, also if they wait for it already."""
        self._beside.leave(held, until)

    def release(self, held: Held) -> bool:
        """Give the groups back, renewing the epochs of what was written; were they held until now?

        Idempotent. Never raises an Exception, so that it cannot hide the view's: what fails is logged, and the lease
        frees the groups.
        """
        if not held._open:
            return False
        held._open = False
        _held.pop(held)
        if held._ticket is None or held._forks != _held._forks:
            return held._ticket is None
        self._renewer.remove(held._ticket)
        seconds = self._clock() - held._since
        kept = self._give_back(held, held._ticket)
        if held._counts:  # after the groups are free: nobody waits for it
            self.stats.held(held._counts.reads, held._counts.writes, held.waited, seconds)
            if moments.listeners:
                counts = held._counts
                moments.tell(moments.LockHeld(held.view, counts.reads, counts.writes, held.waited, seconds))
        return kept

    def _give_back(self, held: Held, ticket: str) -> bool:
        try:
            kept = self.store.release(ticket, held._renews)
        except StoreUnavailable as error:
            # Or else its groups would stay taken for the rest of the lease, once the store is back.
            self.store.later(ticket, held._renews)
            logger.warning("%r will be released as soon as the store answers: %s", held, error, extra=held.fields)
            return False
        except Exception:
            logger.exception("The lock %r could not be released; its lease frees it", held, extra=held.fields)
            return False
        if not kept:
            self._lose(held)
            logger.warning("The lock %r had been lost before it was released", held, extra=held.fields)
        return kept

    def _lose(self, held: Held) -> None:
        if held._lose() and self._on_lost is not None and held._ticket is not None:
            self._on_lost(self.store, held._ticket, held, self._clock() - held._since)

    def covered(self, plan: Plan) -> bool:
        """Does the current context hold everything in ``plan`` already?"""
        holds = current_holds(self)
        return bool(holds) and not remaining(plan, modes_of(holds), self.options.ranks).wants

    def current(self) -> tuple[Held, ...]:
        """Active holds of the current context, outermost first."""
        return current_holds(self)

    # -- steps of an acquisition

    def _prepare(
        self,
        plan: Plan,
        wait: float | None,
        lease: float | None,
        watches: tuple[str, ...],
        follow: str | None,
        nowait: bool,
        view: str,
        label: str,
        trace: str,
        thread: threading.Thread | None,
    ) -> _Asking | Held:
        options = self.options
        seconds = options.wait if wait is None else _seconds("wait", wait, zero=True)
        lease = options.lease if lease is None else _seconds("lease", lease, zero=False)
        holds = current_holds(self)
        left = left_to(holds) if holds else ()
        new = plan
        if holds:
            modes = modes_of(holds)
            new = remaining(plan, modes, options.ranks)
            if not new.wants:
                return self._share(plan, holds, watches, lease, view, thread)
            if modes:
                check_order(new, modes, options.ranks, view)
            if left:
                check_left(plan, holds, left, options.ranks, view)
        wants = new.wants
        if follow is not None:
            if holds:
                follow = None
            elif all(group != follow for group, _ in wants):
                wants = (*wants, (follow, Mode.X))
        request = LockRequest(
            ticket=self._new_ticket(),
            wants=wants,
            lease=lease,
            patience=seconds + _PATIENCE_MARGIN,
            renews=write_epochs(new.writes) if new.writes else (),
            watches=watches,
            family=tickets_of((*holds, *left)) if holds else (),
            follow=follow,
            nowait=nowait or seconds == 0,
            owner={
                "view": view,
                "label": label,
                "host": _HOST,
                "pid": str(self._nonce_pid),
                "thread": (thread or threading.current_thread()).name,
                **({"trace": trace} if trace else {}),
            },
        )
        needs = holds if new is not plan and new.wants != plan.wants else ()
        return _Asking(request, plan, new, holds, needs, seconds, view, thread, time.monotonic())

    async def _wait_async(self, asking: _Asking, timeout: float) -> Grant | None:
        request = asking.request
        if not asking.holds:
            return await self.store.wait_async(request.ticket, timeout)
        return await self._beside.wait(self.store, request.ticket, request.family, asking.holds, timeout)

    def _widen(self, asking: _Asking) -> None:
        """If something was left to the outer holds meanwhile, ask again by a new ticket that passes it."""
        left = left_to(asking.holds)
        family = tickets_of((*asking.holds, *left))
        if set(family) <= set(asking.request.family):
            return
        self.store.release(asking.request.ticket)
        check_left(asking.plan, asking.holds, left, self.options.ranks, asking.view)
        asking.request = asking.request._replace(ticket=self._new_ticket(), family=family)

    def _new_ticket(self) -> str:
        pid = os.getpid()
        if pid != self._nonce_pid:  # the first one, or the first after a fork
            self._nonce = os.urandom(9).hex()
            self._nonce_pid = pid
        return f"{self._nonce}.{next(self._numbers)}"

    def _share(
        self,
        plan: Plan,
        holds: tuple[Held, ...],
        watches: tuple[str, ...],
        lease: float,
        view: str,
        thread: threading.Thread | None,
    ) -> Held:
        held = Held(
            self,
            plan,
            ticket=None,
            taken=(),
            needs=holds,
            fence=max(hold.fence for hold in holds),
            vector=self.store.epochs(watches) if watches else (),
            leading=True,
            lease=lease,
            renews=(),
            view=view,
            thread=thread,
        )
        _held.push(held)
        return held

    def _granted(self, asking: _Asking, grant: Grant) -> Held:
        request = asking.request
        leading = grant.leading
        held = Held(
            self,
            asking.plan if leading else Plan((), (), ()),
            ticket=request.ticket,
            taken=asking.new.wants if leading else (),
            needs=asking.needs,
            fence=grant.token,
            vector=grant.vector,
            leading=leading,
            lease=request.lease,
            renews=request.renews if leading else (),
            view=asking.view,
            thread=asking.thread,
            waited=time.monotonic() - asking.started if asking.queued else 0.0,
            since=self._clock(),
            counts=asking.new if leading else None,
        )
        self._renewer.add(request.ticket, held)
        if leading:
            _held.push(held)
            if held.waited and moments.listeners:
                moments.tell(moments.LockWaited(asking.view, asking.new.reads, asking.new.writes, held.waited))
        return held

    def _abandon(self, ticket: str) -> None:
        self._renewer.remove(ticket)
        for hold in current_holds(self):
            if hold._ticket == ticket:  # interrupted between the grant and the return
                hold._open = False
                _held.pop(hold)
        try:
            self.store.release(ticket)
        except StoreUnavailable:
            self.store.later(ticket)  # whoever asked is told that the store is down
        except Exception:
            logger.exception(
                "A request for locks could not be withdrawn; the store drops it by itself", extra={"ticket": ticket}
            )

    def _timed_out(self, asking: _Asking) -> LockTimeout:
        waited = time.monotonic() - asking.started
        self._abandon(asking.request.ticket)
        if asking.queued:
            reads, writes = asking.new.reads, asking.new.writes
            self.stats.timed_out((*reads, *writes), waited)
            if moments.listeners:
                moments.tell(moments.LockWaited(asking.view, reads, writes, waited, granted=False))
        error = timeout_error(self.store, asking.request, asking.view, waited, self.stats.mean_hold)
        if asking.queued:
            error.waited = waited
        return error
