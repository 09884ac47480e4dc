"""Sends the signals of locks. Nothing is done, and no thread changed, where nobody listens.

What receivers raise is logged. A lock that is granted waits for them, in the thread of the database's connections. That
one was lost may be found out anywhere: by the thread that renews leases, inside a transaction, in an event loop. So
that is told in a thread of its own, where receivers may take their time and use the database.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from django.db import connections
from django.dispatch import Signal

from . import signals
from .breaking import broken_by
from .errors import LockTimeout, StoreUnavailable
from .groups import Plan
from .locks import Held
from .store.protocol import Store

logger = logging.getLogger("pooling.locks")


def is_heard(held: Any) -> bool:
    """Is there anybody to tell of this grant, and anything to tell?"""
    if not (signals.lock_granted.receivers or signals.lock_waited.receivers):
        return False
    return isinstance(held, Held) and not held.borrowed and bool(held.waited or signals.lock_granted.receivers)


def granted(held: Held) -> None:
    about = {"view": held.view, "reads": held.reads, "writes": held.writes}
    if held.waited:
        _send(signals.lock_waited, about, seconds=held.waited, granted=True)
    _send(signals.lock_granted, about, token=held.fence, waited=held.waited)


def is_heard_in_vain(error: LockTimeout) -> bool:
    return bool(error.waited and signals.lock_waited.receivers)


def in_vain(plan: Plan, view: str, error: LockTimeout) -> None:
    about = {"view": view, "reads": plan.reads, "writes": plan.writes}
    _send(signals.lock_waited, about, seconds=error.waited, granted=False)


def lost(store: Store, ticket: str, held: Held, seconds: float) -> None:
    """Returns at once."""
    if not (signals.lock_lost.receivers or signals.lock_broken.receivers):
        return
    about = {"view": held.view, "reads": held.reads, "writes": held.writes, "token": held.fence, "seconds": seconds}
    thread = threading.Thread(target=_tell_lost, args=(store, ticket, about), name="pooling-signals", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # no more threads: the interpreter shuts down, or a limit of the system
        logger.error("Nobody can be told that the lock %r was lost: %s", held, error, extra=held.fields)


def _tell_lost(store: Store, ticket: str, about: dict[str, Any]) -> None:
    try:
        by = broken_by(store, ticket)
    except StoreUnavailable as error:
        logger.info(
            "Whether a lock was broken by hand or lost cannot be told: %s",
            error,
            extra={"view": about["view"], "ticket": ticket},
        )
        by = ""
    try:
        if by:
            _send(signals.lock_broken, about, by=by)
        else:
            _send(signals.lock_lost, about)
    finally:
        connections.close_all()  # this thread ends, and with it all that could give them back


def _send(signal: Signal, about: dict[str, Any], **more: Any) -> None:
    try:
        signal.send_robust(sender=Held, **about, **more)
    except Exception:
        # Not a receiver's error, which is logged already: asynchronous ones cannot be run from everywhere.
        groups = [*about["writes"], *about["reads"]]
        extra = {"view": about["view"], "groups": groups}
        logger.exception("A signal of the lock on %s could not be sent", ", ".join(groups), extra=extra)
