"""What a context holds: `Held`, and the stack of them that tasks and `sync_to_async` inherit."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

from .._forks import after_in_child
from ..errors import LockLost
from ..groups import Plan
from ..store.protocol import Vector, Wants

if TYPE_CHECKING:
    from .manager import LockManager


class Held:
    """Groups held by the current context, from `LockManager.acquire`.

    ``groups``  (group, `Mode`) pairs that this hold stands on, in canonical order, intentions included.
    ``reads``, ``writes``  the declared groups.
    ``fence``   the grant's token; grows from grant to grant.
    ``vector``  values of the epochs in ``watches``, read in the step that made the grant.
    ``waited``  seconds that it stood in the queue; 0 if it was granted at once.
    ``leading`` False: somebody else computed meanwhile (single-flight), and the groups are *not* held.
    """

    __slots__ = (
        "__weakref__",
        "_counts",
        "_forks",
        "_lease",
        "_left",
        "_lost",
        "_manager",
        "_needs",
        "_open",
        "_renews",
        "_since",
        "_taken",
        "_thread",
        "_ticket",
        "fence",
        "groups",
        "leading",
        "reads",
        "vector",
        "view",
        "waited",
        "writes",
    )

    def __init__(
        self,
        manager: LockManager,
        plan: Plan,
        *,
        ticket: str | None,
        taken: Wants,
        needs: tuple[Held, ...],
        fence: int,
        vector: Vector,
        leading: bool,
        lease: float,
        renews: tuple[str, ...],
        view: str,
        thread: threading.Thread | None,
        waited: float = 0.0,
        since: float = 0.0,
        counts: Plan | None = None,
    ) -> None:
        self.groups = plan.wants
        self.reads = plan.reads
        self.writes = plan.writes
        self.fence = fence
        self.vector = vector
        self.leading = leading
        self.view = view
        self.waited = waited
        self._manager = manager
        self._ticket = ticket  # None: everything was held already
        self._taken = taken  # what this hold itself added to the lock table
        # Holds whose groups it uses besides. Those that only borrowed theirs lead to no others: each of a recursion's
        # would ask all of those around it, and twice as many at each level.
        self._needs = tuple([hold for hold in needs if hold._ticket is not None]) if needs else ()
        self._lease = lease
        self._renews = renews
        self._thread = thread
        self._counts = counts  # what statistics count it for
        self._since = since  # by the manager's clock
        self._open = True
        self._lost = False
        self._left: list[Held] = []  # nested holds that are released together with this one
        self._forks = _forks

    @property
    def active(self) -> bool:
        """Neither released by its owner nor inherited over a fork. A lost lease does not end it: see `check`."""
        if not self._open or self._forks != _forks:
            return False
        # One that took something itself goes on when an outer hold ends first; one that only borrowed ends with it.
        return self._ticket is not None or all(hold.active for hold in self._needs)

    @property
    def borrowed(self) -> bool:
        """Does it stand on holds further out alone?"""
        return self._ticket is None

    @property
    def fields(self) -> dict[str, object]:
        """For the log: what it is about, as fields of a record."""
        return {"view": self.view, "groups": [*self.writes, *self.reads], "ticket": self._ticket or ""}

    def check(self, *, ask: bool = True) -> None:
        """Raise LockLost unless all groups are still held. Prolongs the lease; one call to the store.

        With ``ask=False`` the store is not called: what is known here counts, so a lock that was broken by hand, or a
        lease that ran out while this process stood still, may be found only later.
        """
        if self._forks != _forks:
            raise LockLost(f"The lock on {self._names} belongs to the parent process: a fork inherits no locks.")
        if not self.active:
            raise LockLost(f"The lock on {self._names} was released already. Do the work before that.")
        for hold in self._needs:  # among them are all that these need
            if not hold._open:
                raise LockLost(f"The lock around that on {self._names} was released already. Do the work before that.")
            hold._check_lease(ask)
        self._check_lease(ask)

    def _check_lease(self, ask: bool) -> None:
        if self._ticket is None:
            return
        if self._lost or (ask and not self._manager.store.renew([self._ticket], self._lease)[0]):
            self._manager._lose(self)
            raise LockLost(
                f"The lock on {self._names} was lost while {self.view or 'its holder'} was inside: its lease of "
                f"{self._lease:g} s ran out without a renewal, or it was broken by hand. Nothing may be committed "
                f"under it. If the process was merely slow or suspended, raise lease= or POOLING['LOCK_LEASE']."
            )

    @property
    def _names(self) -> str:
        return ", ".join(repr(group) for group in (*self.writes, *self.reads)) or "nothing"

    def _lose(self) -> bool:
        """Note that it was lost; is that news?"""
        with _losing:  # the thread that renews may find it out at the same moment as the holder
            known, self._lost = self._lost, True
        return not known

    def __repr__(self) -> str:
        groups = ", ".join(f"{group}:{mode.name}" for group, mode in self.groups)
        state = "lost" if self._lost else "held" if self.active else "released"
        return f"<Held {groups} ({state}, fence {self.fence})>"


# A context's holds, outermost first. Released ones stay in contexts that inherited them, hence `active`.
_holds: ContextVar[tuple[Held, ...]] = ContextVar("pooling_holds", default=())
_losing = threading.RLock()
_forks = 0  # a child's holds are those with its own number


def current_holds(manager: LockManager) -> tuple[Held, ...]:
    holds = _holds.get()
    if not holds:
        return ()
    return tuple(hold for hold in holds if hold._manager is manager and hold.active)


def push(held: Held) -> None:
    holds = _holds.get()
    _holds.set((*[hold for hold in holds if hold.active], held) if holds else (held,))


def pop(held: Held) -> None:
    """Take it, and whatever else is over, out of this context. Not `ContextVar.reset`: the release may come in
    another context than the acquisition, and holds need not end in the order in which they began."""
    holds = _holds.get()
    if holds:
        _holds.set(tuple([hold for hold in holds if hold is not held and hold.active]))


def _after_fork_in_child() -> None:
    global _forks, _losing
    _forks += 1
    _losing = threading.RLock()  # another thread may have had it at the moment of the fork


after_in_child(_after_fork_in_child)
