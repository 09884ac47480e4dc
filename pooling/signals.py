"""Signals for people who watch a site. Receivers run in the request's own thread: keep them short."""

from __future__ import annotations

from django.dispatch import Signal

busy = Signal()
"""BusyMiddleware answers 503. Sender: the class of the error, a PoolingError or an OperationalError. Arguments:
``request``, ``error``."""

lock_granted = Signal()
"""A view, function or block was given its groups, and its transaction has not begun yet. Sender: the class `Held`.
Arguments: ``view`` (its name), ``reads`` and ``writes`` (the declared groups), ``token`` (the fence's, which tells
holds apart), ``waited`` (seconds in the queue, 0 if granted at once). The groups are held meanwhile: others wait for
the receivers, too. Not sent for what was held already, for a page that somebody else computed, nor while the store is
down."""

lock_waited = Signal()
"""A view, function or block has stood in the queue, and got its groups or gave up (`LockTimeout`). Sender: the class
`Held`. Arguments: ``view``, ``reads``, ``writes``, ``seconds`` and ``granted``, True or False. If granted, it is sent
before `lock_granted`."""

lock_lost = Signal()
"""This process has found out that it lost a lock: its lease ran out without a renewal, or the store has forgotten it.
Sender: the class `Held`. Arguments: ``view``, ``reads``, ``writes``, ``token`` and ``seconds``, from the grant until it
was found out. Sent once for each hold, in a thread of its own. Nothing is committed under it any more."""

lock_broken = Signal()
"""The same where the lock was broken by hand, by ``manage.py pooling break``; then `lock_lost` is not sent. Argument
besides: ``by``, the user and the host of who broke it. If it is found out more than an hour after that, it was lost."""
