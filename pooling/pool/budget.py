"""A share of the server's connections, for a pool with ``max_size="auto"``.

Every pool that uses the same server is a member of one ledger, which hands out shares so that all of them together
never exceed what the server allows, not even while they change: a share is taken only from what nobody has, and given
up only when it has not been in use for a while. A `Ledger` keeps the shares, and knows which members are gone;
`settle` is the rule by which it deals; `Budget` is the pool's side of it.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol

from . import report
from .driver import C

if TYPE_CHECKING:
    from .control import Control

log = logging.getLogger("pooling.pool")

TURN = 0.5  # seconds between two turns
QUICK = 0.2  # … while the share has to change; so long the server has to notice that a connection was closed
PATIENCE = 1.0  # seconds that the end of the process waits for a turn that is under way


@dataclass(frozen=True, slots=True)
class Record:
    """What a ledger knows of one member. ``bounds``: names of the server's bounds that its connections count against.
    ``gone``: it has died; its share is kept from the others until the server has noticed."""

    share: int
    bounds: tuple[str, ...]
    gone: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How a member stands. ``share``: so many it may have open. ``target``: so many it is to come to.

    ``members``: how many divide ``limit``, the tightest of the server's bounds; None while that is not known.
    """

    share: int
    target: int
    members: int
    limit: int | None

    @property
    def settled(self) -> bool:
        return self.share == self.target and self.limit is not None

    def __str__(self) -> str:
        budget = "a budget that is not known yet" if self.limit is None else f"budget {self.limit}"
        members = "1 process" if self.members == 1 else f"{self.members} processes"
        coming = "" if self.share == self.target else f", {self.target} to come"
        return f"share {self.share} of {budget} among {members}{coming}"


class Ledger(Protocol):
    """Who shares a server's connections. Its methods may block; one member's are called by one thread at a time.

    A member joins with its first turn. One that dies, or takes no turn for as long as the ledger gives it, is out, and
    what it had goes to the others.
    """

    def turn(self, used: int, limits: Mapping[str, int | None]) -> Standing:
        """The member's new standing by `settle`, in one step with its recording, whatever others do meanwhile.

        ``limits`` is what this member was told by the server: name of a bound -> connections, or None for no bound.
        """
        ...

    def leave(self) -> None:
        """Give up the share. The next turn joins again."""
        ...

    def forked(self) -> None:
        """In a forked child: it is no member, and must not keep its parent's place."""
        ...


def settle(records: Sequence[Record], me: int, used: int, limits: Mapping[str, int | None]) -> Standing:
    """The standing of ``records[me]``, which cannot do without ``used`` connections; the oldest member comes first.

    Everybody gets the same, and the oldest what cannot be divided. More is given only out of what is free, so that the
    sum of the shares under a bound never grows above it; a share above the target shrinks to what is in use. A bound
    that nobody has been told yet lets one connection in, to ask for it.
    """
    mine = records[me]
    best: tuple[int, int, int | None] | None = None
    room = mine.share
    for name in mine.bounds:
        limit = limits.get(name, 1)
        if limit is None:
            continue
        peers = [i for i, record in enumerate(records) if not record.gone and name in record.bounds]
        target = limit // len(peers) + (peers.index(me) < limit % len(peers))
        free = limit - sum(record.share for record in records if name in record.bounds)
        room = mine.share + free if best is None else min(room, mine.share + free)
        if best is None or target < best[0]:
            best = target, len(peers), limit if name in limits else None
    if best is None:
        raise ValueError(f"None of the bounds {', '.join(mine.bounds)} is one: nothing can be divided.")
    target, members, tightest = best
    share = max(target, min(mine.share, used)) if target < mine.share else max(mine.share, min(target, room))
    return Standing(share, target, members, tightest)


class Budget(Generic[C]):
    """Takes the pool's turns at the ledger, in a thread of its own from the first use on, and tells it its share.

    ``ask(conn)`` returns the server's limits, as `Ledger.turn` wants them. A pool that has been empty for a while
    leaves, and comes back when it is used again.
    """

    def __init__(self, ledger: Ledger, ask: Callable[[C], Mapping[str, int | None]]) -> None:
        self.standing: Standing | None = None
        self.error: Exception | None = None  # of the last turn
        self._ledger = ledger
        self._ask = ask
        self._fresh()

    def _fresh(self) -> None:
        self.standing = self.error = None
        self._limits: Mapping[str, int | None] = {}
        self._running = False  # written under the pool's lock
        self._turning = threading.Lock()  # held in a turn, and by the end
        self._ended = False
        self._before = 0  # what the pool might have had open at the last turn
        self._empty = 0  # turns without a use

    def __str__(self) -> str:
        failing = "" if self.error is None else f"; it cannot change: {type(self.error).__name__}: {self.error}"
        return f"{'no share yet' if self.standing is None else self.standing}{failing}"

    @property
    def advice(self) -> str:
        """What to do about a share of nothing."""
        if self.standing is None:
            return "Its share is being asked for: raise 'timeout', or look at what keeps the ledger."
        if self.standing.limit is None:
            return "Another process is asking the server what it allows: look at whether the server runs."
        return "The server's connections are divided among others: raise its limits, or run fewer processes."

    def learn(self, conn: C) -> None:
        """Ask over a new connection what the server allows: it may have been changed."""
        self._limits = self._ask(conn)

    def begin(self, pool: Control[C]) -> None:
        """See that turns are taken."""
        with pool._lock:
            if self._running:
                return
            self._running = True
        _members.add(pool)
        thread = threading.Thread(
            target=_run, args=(weakref.ref(pool), self), name=f"pooling-budget-{pool.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads: the next checkout tries again
            with pool._lock:
                self._running = False

    def forked(self) -> None:
        self._ledger.forked()
        self._fresh()

    def end(self, pool: Control[C]) -> None:
        """The process ends: give up the share now, or nobody could have it before this member is missed. Not if there
        is a connection that a thread has still: the server counts that one until the process is gone."""
        pool.close_gently()
        time.sleep(QUICK)
        if self._turning.acquire(timeout=PATIENCE):
            try:
                with pool._lock:
                    self._ended = not (pool._slots or pool._attempts)
                    if self._ended:
                        pool._max_size = 0  # before the share is given up
                if self._ended:
                    self.leave()
            finally:
                self._turning.release()

    def turn(self, pool: Control[C]) -> float | None:
        """One turn; the seconds until the next, or None when the pool needs none."""
        with self._turning:
            return None if self._ended else self._turn(pool)

    def _turn(self, pool: Control[C]) -> float | None:
        with pool._lock:
            in_use = self._needed(pool)
            self._empty = 0 if in_use else self._empty + 1
            leaving = self._empty > 2
            if leaving:
                pool._max_size = 0  # before the share is given up
            held = len(pool._slots) + len(pool._attempts)
            might = max(held, pool._max_size)  # until it is told less, it may open as many
        if leaving:
            self.leave()
            with pool._lock:
                self._running = self._needed(pool)  # somebody may have come meanwhile
                self._empty = 0
                return QUICK if self._running else None
        try:
            # What it had at the last turn counts as well: the server may not have noticed yet that it was closed.
            standing = self._ledger.turn(max(might, self._before), self._limits)
        except Exception as error:  # noqa: BLE001 - the shares stay as they are; the messages of the pool tell it
            if repr(error) != repr(self.error):
                log.warning(
                    "%s: its share of the server's connections cannot change: %r",
                    report.title(pool),
                    error,
                    extra={"pool": pool.name, "error": type(error).__name__},
                )
            self.error = error
            return TURN
        self.error = None
        self.standing = standing
        allowed = min(standing.share, standing.target)
        if allowed != pool._max_size:
            pool._allot(allowed)
        with pool._lock:
            # Looked at after the pool was told: until then it may have opened more than it had before the turn.
            self._before = max(held, len(pool._slots) + len(pool._attempts))
        return TURN if standing.settled else QUICK

    def _needed(self, pool: Control[C]) -> bool:
        return bool(pool._slots or pool._attempts or pool._waiters or (pool._min_wanted and not pool._closed))

    def leave(self) -> None:
        self.standing = None
        self._before = 0
        try:
            self._ledger.leave()
        except Exception as error:  # noqa: BLE001 - it is dropped when the process ends
            log.warning(
                "a share of the server's connections cannot be given up: %r",
                error,
                extra={"error": type(error).__name__},
            )


def _run(ref: weakref.ref[Control[C]], budget: Budget[C]) -> None:
    while True:
        pool = ref()
        if pool is None:
            return budget.leave()
        pause = budget.turn(pool)
        del pool  # or it could not be collected while this thread sleeps
        if pause is None:
            return None
        time.sleep(pause)


_members: weakref.WeakSet[Control[Any]] = weakref.WeakSet()


def _end() -> None:
    for pool in list(_members):
        if pool._budget is not None and pool._budget._running:
            pool._budget.end(pool)


atexit.register(_end)
