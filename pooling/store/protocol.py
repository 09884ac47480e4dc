"""What a store does: one lock table, the epochs and the cached entries, since one step often touches all three.

Two stores implement it: `pooling.store.memory` (one process) and, for a fleet, Redis. The suite in
``tests/contract`` is run unchanged against each. Every method is one atomic step of the store; in Redis, one
script or one command. Times are seconds, keys of entries and epochs are strings, bodies are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, Protocol

from ..groups import Mode

# Redis counts in doubles, which know all whole numbers up to 2**53. Below it is room for 2**40 grants more.
TOKENS_END = 2**53 - 2**40

# How the value of an epoch begins while `Store.committing` is in force; all others begin otherwise.
COMMITTING = b"!"

Wants = tuple[tuple[str, Mode], ...]
Vector = tuple[bytes, ...]


# Two of these are made for every hold: named tuples, since to make a frozen dataclass takes three times as long.


class LockRequest(NamedTuple):
    """Everything that one acquisition asks of the store.

    ``ticket``   a nonce made by the client, so that a request sent twice makes no second holder or waiter.
    ``wants``    groups and modes in canonical order, intentions on ancestors included.
    ``lease``    seconds until a holder that is not renewed is taken for dead.
    ``patience`` seconds until a waiter that was not cancelled is taken for dead.
    ``renews``   epochs renewed at the grant (and again by `release`).
    ``watches``  epochs whose values the grant reports: captured while the lock is held, before any snapshot.
    ``family``   tickets that the caller holds already. Not empty makes the request *nested*: it is blocked by
                 holders outside the family only and passes waiters, since its holders may be waiting for the family.
                 When a release frees nested waiters and others, the nested ones are served first.
    ``follow``   a resource for single-flight. Does anybody hold it with X or wait for that, then the request asks for
                 S on it alone instead of ``wants`` (which must contain it with X), and the grant says
                 ``leading=False``. Followers do not count: or else those who ask again follow one another for ever.
    ``nowait``   refuse instead of queueing.
    ``owner``    who asks, for people: host, pid, thread, view, …
    """

    ticket: str
    wants: Wants
    lease: float
    patience: float
    renews: tuple[str, ...] = ()
    watches: tuple[str, ...] = ()
    family: tuple[str, ...] = ()
    follow: str | None = None
    nowait: bool = False
    owner: Mapping[str, str] = MappingProxyType({})


class Grant(NamedTuple):
    """A granted ticket. ``token`` grows strictly from grant to grant: max(previous + 1, µs since 1970).

    ``vector`` are the values of the request's ``watches``, read in the same step as the grant was made.
    """

    ticket: str
    token: int
    vector: Vector = ()
    leading: bool = True


@dataclass(frozen=True, slots=True)
class Party:
    """A holder or a waiter as `Store.parties` reports it. ``seconds`` is how long it has held or waited."""

    ticket: str
    wants: Wants
    owner: Mapping[str, str]
    seconds: float
    holding: bool


@dataclass(frozen=True, slots=True)
class Found:
    """Answer of `Store.fetch`: the entry's bytes, if there is one, and the current values of the epochs."""

    entry: bytes | None
    vector: Vector


def is_being_written(vector: Vector) -> bool:
    """Is one of these the value of an epoch whose write is being committed? Nothing can be stored under it."""
    return any(value.startswith(COMMITTING) for value in vector)


def checked_token(token: int) -> int:
    """``token``; ValueError if a store cannot go on from there."""
    if not 0 <= token < TOKENS_END:
        raise ValueError(f"A token must be between 0 and {TOKENS_END - 1}, not {token!r}.")
    return token


class Store(Protocol):
    """The store protocol. All methods raise `pooling.StoreUnavailable` when the store cannot be reached."""

    shared: bool
    """Is the store shared between processes? (In-process: False; fences need True.)"""

    # -- locks
    def acquire(self, request: LockRequest) -> Grant | None:
        """Grant at once, or enqueue and return None (with ``nowait``: just None). Sent again with the same ticket:
        the same answer as the first time, or the grant that was made meanwhile."""
        ...

    def wait(self, ticket: str, timeout: float) -> Grant | None:
        """Block until a queued ticket is granted, at most ``timeout`` seconds. None: it is still queued, or unknown."""
        ...

    async def wait_async(self, ticket: str, timeout: float) -> Grant | None:
        """`wait` without blocking a thread. Cancelled while waiting, it leaves the ticket as it is: call `release`."""
        ...

    def release(self, ticket: str, renews: tuple[str, ...] = ()) -> bool:
        """Let go of a ticket, held or queued, and grant those who can go on. ``renews`` are renewed even when the
        ticket was lost meanwhile. Returns whether the ticket was held until now. Idempotent."""
        ...

    def renew(self, tickets: Sequence[str], lease: float) -> list[bool]:
        """Prolong the leases of held tickets to ``lease`` seconds from now; per ticket, whether it is still held. One
        whose lease has run out is held until somebody conflicting reaps it."""
        ...

    def parties(self, groups: Sequence[str] | None = None) -> list[Party]:
        """Holders and then waiters in queue order; with ``groups`` only those that have or want one of these."""
        ...

    def advance(self, token: int) -> bool:
        """Give from now on only tokens above ``token``; was that news? For a store that has forgotten the tokens that
        it gave, or whose clock is behind another's. ValueError from 2**53 - 2**40 on: beyond that no store counts."""
        ...

    # -- epochs
    def epochs(self, names: Sequence[str]) -> Vector:
        """Current values. An epoch that is missing is set to a new random value first."""
        ...

    def invalidate(self, names: Sequence[str], word: str = "") -> None:
        """Give each epoch a new random value. With the ``word`` that was given to `committing`, that is over."""
        ...

    def committing(self, names: Sequence[str], word: str, seconds: float) -> None:
        """Somebody who has no lock is about to commit a write; ``word`` (hexadecimal digits) is his alone. What was
        stored under these epochs counts no more, and nothing can be stored under them until he has renewed them with
        `invalidate`, whoever renews them meanwhile. If he dies before that, ``seconds`` later they are renewed all the
        same. A store that would die with him need do nothing."""
        ...

    def known(self, names: Sequence[str]) -> Vector | None:
        """Current values without asking anybody; None if they are not known here. They are older than the truth by a
        bounded time at most, and not older than what this process wrote itself. Raises nothing."""
        ...

    def later(self, ticket: str | None, renews: Sequence[str] = ()) -> None:
        """`release` a ticket, or only renew epochs, as soon as the store can be reached, and before this process asks
        it for anything else than further renewals. For what could not be done when it was due. Raises nothing."""
        ...

    # -- entries
    def fetch(self, key: str, names: Sequence[str]) -> Found:
        """The entry under ``key`` and the epochs' values, read in one step."""
        ...

    def put(self, key: str, entry: bytes, ttl: float, names: Sequence[str], vector: Vector) -> bool:
        """Store an entry for ``ttl`` seconds, only if the epochs still have the values in ``vector``; did it?"""
        ...

    def delete(self, key: str) -> bool:
        """Remove an entry; was there one?"""
        ...

    # -- documents: a few small ones that processes share, neither entries nor locks
    def load(self, key: str) -> tuple[bytes, float]:
        """The document, b"" if there is none, and the store's clock in seconds, the same for all who share it."""
        ...

    def swap(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        """Replace it, if it is still ``old``, for ``ttl`` seconds; was it?"""
        ...

    # -- announcements: what processes say of themselves, each for as long as it goes on saying it
    def announce(self, name: str, document: bytes, ttl: float) -> None:
        """Have ``document`` stand under ``name`` for ``ttl`` seconds, instead of what stood there."""
        ...

    def announced(self) -> dict[str, bytes]:
        """What stands now, by name. Not one step: what is announced meanwhile may be in it or not."""
        ...

    def trouble(self) -> str:
        """Why the store cannot be reached just now, a sentence; "" if nothing is known of that. Asks nobody."""
        ...

    def clear(self) -> None:
        """Remove all entries and epochs. Locks stay: they belong to running requests."""
        ...

    def close(self) -> None:
        """Release what the store itself holds (connections, threads)."""
        ...
