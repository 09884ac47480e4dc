"""One hold of the current context: its lock, the transactions that it opened, and what waits for their COMMIT."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction

from . import fences
from .alone import Alone
from .errors import FenceRejected

if TYPE_CHECKING:
    from .learning import Observed

logger = logging.getLogger("pooling.locks")

AfterCommit = Callable[[Any, Any], None]


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
    borrowed: bool = False

    def check(self, *, ask: bool = True) -> None:
        """There is nothing that could have been lost."""


@dataclass
class Frame:
    """One hold of the current context: its lock, the transactions it opened, and what has to wait for their COMMIT."""

    held: Any = None
    stack: ExitStack = field(default_factory=ExitStack)
    blocks: list[tuple[str, transaction.Atomic]] = field(default_factory=list)
    fenced: set[str] = field(default_factory=set)
    # What was claimed in its transactions, by nested holds as well: alias, hold, token.
    _claims: list[tuple[str, Any, int]] = field(default_factory=list)
    _deferred: list[tuple[Any, AfterCommit | None, Any]] = field(default_factory=list)
    _closed: bool = False
    _at_commit: list[tuple[str, Callable[[], None]]] = field(default_factory=list)
    _ended: bool = False
    observed: Observed | None = None  # what `learning` knows of this hold, if it looks at all
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_over(self) -> bool:
        """Have its groups been given back, or are about to be?"""
        return self._closed

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
                self._refuse_twice(alias, outer)
                fences.prepare(alias, self.held.reads, self.held.writes)
            block = transaction.atomic(using=alias, durable=enabled and alias not in joined)
            self.stack.enter_context(block)
            self.blocks.append((alias, block))
            if claims:
                if isinstance(self.held, Alone):
                    token = self.held.claim(alias)
                else:
                    token = self.held.fence
                    fences.claim(alias, self.held.reads, self.held.writes, token, self.held.view)
                self.fenced.add(alias)
                owner = next((frame for frame in outer if alias in frame.open_aliases()), self)
                owner._claims.append((alias, self.held, token))

    def _refuse_twice(self, alias: str, outer: list[Frame]) -> None:
        """ImproperlyConfigured if another alias has claimed these rows in the same database: this one would wait for
        this hold's own transaction, and be refused when the server loses its patience."""
        rows = self.claimed_rows()
        for frame in (*outer, self):
            for other in frame.fenced:
                if fences.same_database(alias, other) and not rows.isdisjoint(frame.claimed_rows()):
                    raise ImproperlyConfigured(
                        f"{self.held.view or 'A hold'} writes {', '.join(map(repr, self.held.writes))} in transactions "
                        f"on {other!r} and {alias!r}, which are the same database: the second would wait for the "
                        f"first one's fence, and for its rows. Name one of them with using={other!r}; or set "
                        f"ATOMIC_REQUESTS for one of them only."
                    )

    def claimed_rows(self) -> set[str]:
        """Groups whose fences its claims lock, be it for sharing: who makes a row below one of these locks it alone."""
        return set(fences.all_rows(self.held.reads, self.held.writes))

    def commit(self) -> None:
        """COMMIT, and with it the on_commit callbacks, unless the lock was lost meanwhile: LockLost, FenceRejected."""
        if self.blocks:
            # The store need not be asked where all that is written is fenced: a newer holder waits for our fences.
            self.held.check(ask=any(alias not in self.fenced for alias, _ in self.blocks))
            for nested in self._nested():
                if not nested.borrowed:
                    nested.check(ask=bool(nested.writes) and not self._has_claimed(nested))
            self._claim_again()
        for alias, callback in self._end_transactions():
            transaction.on_commit(callback, using=alias)
        self.stack.close()

    def _nested(self) -> list[Any]:
        """Holds that are kept until this frame's COMMIT."""
        with self._mutex:
            return [held for held, _, _ in self._deferred]

    def _has_claimed(self, held: Any) -> bool:
        return all(any(held is one and alias == name for name, one, _ in self._claims) for alias, _ in self.blocks)

    def _claim_again(self) -> None:
        """After an error that may have cost the claims: FenceRejected if a newer holder came since then.

        A deadlock makes the server roll back the whole transaction, and with it what was claimed. Does the view swallow
        the error, all that it does from then on is a transaction without a fence, that is committed in the end.
        """
        for alias, held, token in self._claims:
            wrapper = connections[alias]
            if held.writes and wrapper.errors_occurred and not wrapper.needs_rollback:
                try:
                    fences.claim(alias, held.reads, held.writes, token, held.view)
                except FenceRejected as error:
                    groups = ", ".join(map(repr, held.writes))
                    raise FenceRejected(
                        f"{held.view or 'A holder'} may not commit what it wrote to {groups}: an error of the database "
                        f"(a deadlock, say) has ended its transaction on {alias!r} before, and a newer holder has come "
                        f"since. Nothing was written; try again. Let such an error pass through the hold, which rolls "
                        f"back and unlocks, instead of catching it inside."
                    ) from error

    def rollback(self, error: BaseException) -> None:
        """ROLLBACK what is still open. A failure is logged: ``error`` is what the caller must see."""
        self._end_transactions()
        try:
            self.stack.__exit__(type(error), error, error.__traceback__)
        except BaseException as failure:
            if failure is not error:
                extra = {"view": getattr(self.held, "view", ""), "error": type(error).__name__}
                logger.exception("Rolling back after %r failed", error, extra=extra)

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

    def observe(self, nested: Frame) -> None:
        """What ``nested`` has taken is held to the end of this frame."""
        if self.observed is not None and nested.observed is not None:
            self.observed.groups.extend(nested.observed.groups)

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


current: contextvars.ContextVar[tuple[Frame, ...]] = contextvars.ContextVar("pooling_frames", default=())


def at_commit(callback: Callable[[], None], using: Collection[str] | None = None) -> bool:
    """Call ``callback`` after the COMMIT of this context's holds, and not at all after a ROLLBACK.

    Only transactions of another thread count, as those of ``async with locked(…)``, which the event loop's thread
    cannot see; for this thread's there is `transaction.on_commit`. ``using``: only these aliases. False: no such
    transaction is open, ``callback`` will not be called.
    """
    found: set[str] = set()
    for frame in reversed(current.get()):
        for alias, block in frame.blocks:
            wanted = alias not in found and (using is None or alias in using)
            if wanted and block not in connections[alias].atomic_blocks and frame.at_commit(alias, callback):
                found.add(alias)
    return bool(found)


def in_hold() -> bool:
    """Is this context inside a hold?"""
    return bool(current.get())
