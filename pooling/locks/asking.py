"""What an acquisition asks of the store: made from a plan and from what the context holds already. Asks nobody."""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from .. import _numbers
from ..groups import Mode, Plan, write_epochs
from ..store.protocol import LockRequest
from .beside import check_left, left_to, tickets_of
from .held import Held
from .order import check_order, modes_of, remaining

_PATIENCE_MARGIN = 2.0  # seconds: a live waiter gives up by itself before the store takes it for dead
_HOST = socket.gethostname()


def seconds(name: str, value: object, *, zero: bool = False) -> float:
    """TypeError or ValueError for what is no such number."""
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
        seconds("wait", self.wait, zero=True)
        seconds("lease", self.lease)


class Tickets:
    """Names for requests, unlike those of every other process."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._nonce = ""
        self.pid = 0

    def new(self) -> str:
        pid = os.getpid()
        if pid != self.pid:  # the first one, or the first after a fork
            self._nonce = os.urandom(9).hex()
            self.pid = pid
        return f"{self._nonce}.{next(self._numbers)}"


@dataclass(slots=True)
class Asking:
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

    @property
    def is_too_narrow(self) -> bool:
        """Was something left to the outer holds meanwhile, which it does not pass?"""
        return not set(tickets_of((*self.holds, *left_to(self.holds)))) <= set(self.request.family)

    def widen(self, tickets: Tickets, ranks: Mapping[str, int]) -> None:
        """Pass that as well, by a new ticket: the old one must have been withdrawn. LockOrderError."""
        left = left_to(self.holds)
        check_left(self.plan, self.holds, left, ranks, self.view)
        self.request = self.request._replace(ticket=tickets.new(), family=tickets_of((*self.holds, *left)))


def ask(
    plan: Plan,
    holds: tuple[Held, ...],
    tickets: Tickets,
    ranks: Mapping[str, int],
    wait: float,
    lease: float,
    watches: tuple[str, ...],
    follow: str | None,
    nowait: bool,
    view: str,
    label: str,
    trace: str,
    thread: threading.Thread | None,
) -> Asking | None:
    """What of ``plan`` is not held yet, as a request; None if there is nothing. For the rest see `LockManager.acquire`.

    LockOrderError if it may not be asked for inside ``holds``.
    """
    new = plan
    family: tuple[str, ...] = ()
    if holds:
        modes = modes_of(holds)
        new = remaining(plan, modes, ranks)
        if not new.wants:
            return None
        if modes:
            check_order(new, modes, ranks, view)
        left = left_to(holds)
        if left:
            check_left(plan, holds, left, ranks, view)
        family = tickets_of((*holds, *left))
    wants = new.wants
    if follow is not None:
        if holds:
            follow = None
        elif all(group != follow for group, _ in wants):
            wants = (*wants, (follow, Mode.X))
    request = LockRequest(
        ticket=tickets.new(),
        wants=wants,
        lease=lease,
        patience=wait + _PATIENCE_MARGIN,
        renews=write_epochs(new.writes) if new.writes else (),
        watches=watches,
        family=family,
        follow=follow,
        nowait=nowait or wait == 0,
        owner={
            "view": view,
            "label": label,
            "host": _HOST,
            "pid": str(tickets.pid),
            "thread": (thread or threading.current_thread()).name,
            **({"trace": trace} if trace else {}),
        },
    )
    needs = holds if new is not plan and new.wants != plan.wants else ()
    return Asking(request, plan, new, holds, needs, wait, view, thread, time.monotonic())
