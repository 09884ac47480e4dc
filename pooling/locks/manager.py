"""The lock manager: takes all groups of a request at once, waits, gives them back.

Knows no Django and no store in particular; it speaks `pooling.store.protocol.Store`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

from .. import moments
from ..errors import LockTimeout, StoreUnavailable
from ..groups import Plan
from ..store.protocol import Grant, Store
from . import held as _held
from .asking import Asking, Options, Tickets, ask, seconds
from .beside import Beside
from .held import Held, current_holds
from .leases import Renewer
from .order import modes_of, remaining
from .report import timeout_error
from .stats import LockStats, process

logger = logging.getLogger("pooling.locks")


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
        self._tickets = Tickets()

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
        asking = self._ask(plan, wait, lease, watches, follow, nowait, view, label, trace, threading.current_thread())
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
        asking = self._ask(plan, 0.0, lease, watches, follow, True, view, "", trace, thread)
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
        asking = self._ask(plan, wait, lease, watches, follow, nowait, view, label, trace, None)
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
                        if asking.is_too_narrow:
                            store.release(asking.request.ticket)
                            asking.widen(self._tickets, self.options.ranks)
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

    def _ask(
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
    ) -> Asking | Held:
        """What is to be asked of the store; a `Held` if everything is held already."""
        options = self.options
        wait = options.wait if wait is None else seconds("wait", wait, zero=True)
        lease = options.lease if lease is None else seconds("lease", lease)
        holds = current_holds(self)
        asking = ask(
            plan, holds, self._tickets, options.ranks, wait, lease, watches, follow, nowait, view, label, trace, thread
        )
        return self._share(plan, holds, watches, lease, view, thread) if asking is None else asking

    async def _wait_async(self, asking: Asking, timeout: float) -> Grant | None:
        request = asking.request
        if not asking.holds:
            return await self.store.wait_async(request.ticket, timeout)
        return await self._beside.wait(self.store, request.ticket, request.family, asking.holds, timeout)

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

    def _granted(self, asking: Asking, grant: Grant) -> Held:
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

    def _timed_out(self, asking: Asking) -> LockTimeout:
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
