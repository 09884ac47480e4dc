"""The lock table of the in-process store: who holds and who waits for which group.

Not thread-safe and without a clock of its own: `pooling.store.memory` calls it under a mutex and passes the time.
It never blocks and calls nobody back; those whose state changed are left in ``woken`` for the store to wake.

A request is granted when on every group that it wants no holder outside its family conflicts, and (unless it is
nested) no older waiter does. A waiter stands in the queue of all its groups at once, so waits run from younger to
older requests only, which is why there is neither a deadlock nor a starved writer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from ..groups import CONFLICTS, Mode
from ._epochs import Epochs
from .protocol import Grant, LockRequest, Party, Wants

_CONFLICTING: tuple[tuple[int, ...], ...] = ((), *(tuple(CONFLICTS[mode]) for mode in sorted(Mode)))
_MODES = len(_CONFLICTING)


class Ticket:
    """One request in the table, holding (``grant`` is set) or waiting."""

    __slots__ = ("expires", "grant", "leading", "number", "request", "since", "wakers", "wants")

    def __init__(self, request: LockRequest, wants: Wants, leading: bool, now: float) -> None:
        self.request = request
        self.wants = wants
        self.leading = leading
        self.since = now
        self.expires = now + request.patience
        self.number = 0  # place in the queue
        self.grant: Grant | None = None
        self.wakers: list[Callable[[], None]] | None = None


class _Node:
    """One group that somebody holds or waits for. The counts by mode keep every test independent of how many there
    are: thousands of holders of IX on a common ancestor cost the next one nothing."""

    __slots__ = ("held", "holders", "nested", "waiters", "waiting")

    def __init__(self) -> None:
        self.holders: dict[str, tuple[Ticket, Mode]] = {}
        self.held = [0] * _MODES
        self.waiters: dict[str, tuple[Ticket, Mode]] | None = None  # in queue order; made when the first one comes
        self.waiting: list[int] = []
        self.nested = 0  # how many of the waiters are nested


class LockTable:
    def __init__(self, epochs: Epochs, wall: Callable[[], int] = time.time_ns) -> None:
        self._epochs = epochs
        self._wall = wall
        self._nodes: dict[str, _Node] = {}
        self._numbers = 0
        self._token = 0
        self.tickets: dict[str, Ticket] = {}
        self.woken: list[Ticket] = []

    def ask(self, request: LockRequest, now: float) -> Ticket | None:
        """The ticket, granted or queued; None if it was refused (``nowait``)."""
        known = self.tickets.get(request.ticket)
        if known is not None:
            if known.grant is None:
                self.reap(known, now)
            return known
        wants, leading = request.wants, True
        if request.follow is not None and self._led(request.follow):
            wants, leading = ((request.follow, Mode.S),), False
        ticket = Ticket(request, wants, leading, now)
        if not self._free(ticket) and not (self.reap(ticket, now) and self._free(ticket)):
            if request.nowait:
                return None
            self._enqueue(ticket)
            return ticket
        self._hold(ticket, now)
        return ticket

    def drop(self, ticket: Ticket, now: float) -> None:
        """Take a ticket out, held or queued, and grant those who can go on."""
        if self._remove(ticket):
            self._sweep(ticket.wants, now)

    def _remove(self, ticket: Ticket) -> bool:
        """Take a ticket out of all its groups; does anybody wait there?"""
        name = ticket.request.ticket
        nodes = self._nodes
        del self.tickets[name]
        contended = False
        for group, mode in ticket.wants:
            node = nodes[group]
            if ticket.grant is not None:
                del node.holders[name]
                node.held[mode] -= 1
            else:
                self._unqueue(node, ticket, mode)
            if node.waiters:
                contended = True
            elif not node.holders:
                del nodes[group]
        if ticket.grant is None:
            self.woken.append(ticket)  # a thread may still be waiting on it: it must learn that it waits for nothing
        return contended

    def reap(self, ticket: Ticket, now: float) -> bool:
        """Drop who stands in this ticket's way and is dead: holders past their lease, waiters past their patience.
        Were there any?"""
        dead = [other for other in self._obstacles(ticket) if other.expires <= now]
        for other in dead:
            if self.tickets.get(other.request.ticket) is other and other.expires <= now:
                self.drop(other, now)
        return bool(dead)

    def next_expiry(self, ticket: Ticket) -> float | None:
        """When the first of those in this ticket's way will be taken for dead."""
        return min((other.expires for other in self._obstacles(ticket)), default=None)

    def parties(self, groups: Sequence[str] | None, now: float) -> list[Party]:
        """Holders in order of their grants, then waiters in queue order; the dead are reaped first."""
        for ticket in [ticket for ticket in self.tickets.values() if ticket.expires <= now]:
            # An earlier drop may have granted it meanwhile, and with that renewed it.
            if ticket.expires <= now:
                self.drop(ticket, now)
        holders = sorted((t for t in self.tickets.values() if t.grant), key=lambda t: t.grant.token if t.grant else 0)
        waiters = sorted((t for t in self.tickets.values() if not t.grant), key=lambda t: t.number)
        wanted = None if groups is None else set(groups)
        return [
            Party(t.request.ticket, t.wants, t.request.owner, now - t.since, t.grant is not None)
            for t in (*holders, *waiters)
            if wanted is None or any(group in wanted for group, _ in t.wants)
        ]

    def advance(self, token: int) -> bool:
        """Count tokens from there on; was it less until now?"""
        if token <= max(self._token, self._wall() // 1000 - 1):
            return False
        self._token = token
        return True

    # -- one ticket

    def _led(self, resource: str) -> bool:
        """Does somebody compute this resource, or wait to? Followers do not count: were they taken for a leader, then
        those who found no page and ask again would follow one another for ever."""
        node = self._nodes.get(resource)
        if node is None:
            return False
        return node.held[Mode.X] > 0 or (bool(node.waiters) and node.waiting[Mode.X] > 0)

    def _free(self, ticket: Ticket) -> bool:
        """May it be granted now?"""
        nodes = self._nodes
        family = ticket.request.family
        for group, mode in ticket.wants:
            node = nodes.get(group)
            if node is None:
                continue
            held = node.held
            for other in _CONFLICTING[mode]:
                if held[other] and (not family or held[other] > self._own(node, family, other)):
                    return False
            if node.waiters and not family and self._older_waiter(node, ticket, mode):
                return False
        return True

    @staticmethod
    def _own(node: _Node, family: Iterable[str], mode: int) -> int:
        return sum(1 for name in family if name in node.holders and node.holders[name][1] == mode)

    @staticmethod
    def _older_waiter(node: _Node, ticket: Ticket, mode: Mode) -> bool:
        conflicting = _CONFLICTING[mode]
        if not any(node.waiting[other] for other in conflicting):
            return False
        for other, wanted in (node.waiters or {}).values():
            if other is ticket:
                return False
            if wanted in conflicting:
                return True
        return False

    def _obstacles(self, ticket: Ticket) -> Iterable[Ticket]:
        """Everybody whose going would help this ticket: conflicting holders and conflicting older waiters."""
        family = ticket.request.family
        for group, mode in ticket.wants:
            node = self._nodes.get(group)
            if node is None:
                continue
            conflicting = _CONFLICTING[mode]
            if any(node.held[other] for other in conflicting):
                for name, (holder, held) in node.holders.items():
                    if held in conflicting and name not in family:
                        yield holder
            if node.waiters and not family:
                for waiter, wanted in node.waiters.values():
                    if waiter is ticket:
                        break
                    if wanted in conflicting:
                        yield waiter

    def _hold(self, ticket: Ticket, now: float) -> None:
        request = ticket.request
        name = request.ticket
        nodes = self._nodes
        for group, mode in ticket.wants:
            node = nodes.get(group)
            if node is None:
                node = nodes[group] = _Node()
            node.holders[name] = (ticket, mode)
            node.held[mode] += 1
        self.tickets[name] = ticket
        ticket.since = now
        ticket.expires = now + request.lease
        token = self._wall() // 1000
        if token <= self._token:
            token = self._token + 1
        self._token = token
        # Renewed first, then read: what this holder stores must survive its own grant.
        if request.renews and ticket.leading:
            self._epochs.renew(request.renews)
        vector = self._epochs.read(request.watches) if request.watches else ()
        ticket.grant = Grant(name, token, vector, ticket.leading)

    def _enqueue(self, ticket: Ticket) -> None:
        self._numbers += 1
        ticket.number = self._numbers
        name = ticket.request.ticket
        self.tickets[name] = ticket
        for group, mode in ticket.wants:
            node = self._nodes.get(group)
            if node is None:
                node = self._nodes[group] = _Node()
            if node.waiters is None:
                node.waiters = {}
                node.waiting = [0] * _MODES
            node.waiters[name] = (ticket, mode)
            node.waiting[mode] += 1
            if ticket.request.family:
                node.nested += 1

    @staticmethod
    def _unqueue(node: _Node, ticket: Ticket, mode: Mode) -> None:
        if node.waiters is not None:
            del node.waiters[ticket.request.ticket]
            node.waiting[mode] -= 1
            if ticket.request.family:
                node.nested -= 1

    # -- hand-off

    def _sweep(self, gone: Wants, now: float) -> None:
        """Grant whom the going of a ticket with these wants has freed.

        A grant frees nobody: whoever was blocked by the waiter is blocked by the holder now. A dead waiter found on
        the way frees others in turn; they are worked off in a loop, since a thousand of them would exhaust the stack.
        """
        work = [gone]
        while work:
            freed = self._freed(work.pop())
            # Nested ones first: their holders keep others waiting.
            for waiter in sorted(freed.values(), key=lambda t: (not t.request.family, t.number)):
                if not self._free(waiter):
                    continue
                if waiter.expires <= now:
                    if self._remove(waiter):
                        work.append(waiter.wants)
                else:
                    for group, mode in waiter.wants:
                        self._unqueue(self._nodes[group], waiter, mode)
                    self._hold(waiter, now)
                    self.woken.append(waiter)

    def _freed(self, gone: Wants) -> dict[str, Ticket]:
        """Waiters whom the going of these may have freed: only who conflicts with what is gone."""
        freed: dict[str, Ticket] = {}
        for group, mode in gone:
            node = self._nodes.get(group)
            if node is None or not node.waiters:
                continue
            conflicting = _CONFLICTING[mode]
            if not any(node.waiting[other] for other in conflicting):
                continue
            for name, (waiter, wanted) in node.waiters.items():
                if wanted in conflicting:
                    freed[name] = waiter
                if wanted == Mode.X and not node.nested:
                    break  # granted or not, nobody behind it can go on
        return freed
