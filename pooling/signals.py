"""Signals for people who watch a site. Receivers run in the request's own thread: keep them short."""

from __future__ import annotations

from django.dispatch import Signal

busy = Signal()
"""BusyMiddleware answers 503. Sender: the class of the error, a PoolingError or an OperationalError. Arguments:
``request``, ``error``."""
