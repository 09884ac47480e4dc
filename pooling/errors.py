"""Every error that pooling raises itself, under one base.

A message says four things where they are known: what was waited for, how long, who holds it, and what
to change. ``retry_after`` is the number of whole seconds a client should wait before it tries again;
`pooling.middleware.BusyMiddleware` sends it as the ``Retry-After`` header.
"""

from __future__ import annotations


class PoolingError(Exception):
    """Base of all errors of this package."""

    retry_after: int = 1

    def __init__(self, message: str = "", *, retry_after: int | None = None) -> None:
        super().__init__(message)
        if retry_after is not None:
            self.retry_after = retry_after


class PoolTimeout(PoolingError):
    """No connection became free within the checkout's timeout, or the server is known to be down.

    ``retry_after`` is when a connection is to be expected: from the mean use, the present holders and those who wait.

    Reaches Django code as ``django.db.OperationalError`` with this error as its ``__cause__``.
    """


class PoolFull(PoolTimeout):
    """``max_waiting`` requests were queued already. Reaches Django code as ``OperationalError``, as PoolTimeout."""


class PoolClosed(PoolTimeout):
    """The pool was closed while, or before, a connection was asked for."""


class GroupError(PoolingError, ValueError):
    """A group or a group template is malformed, or it names an argument that the view does not have."""


class LockTimeout(PoolingError):
    """The groups were not granted within ``wait`` seconds. Nothing is held afterwards.

    ``waited``: seconds in the queue; 0 for who did not want to wait.
    """

    waited: float = 0.0


class LockOrderError(PoolingError):
    """A lock was asked for against the canonical order, as an upgrade, or inside an open transaction.

    It is raised always, not only when this particular run would have hung.
    """


class LockLost(PoolingError):
    """The lease ran out, or the lock was broken by hand, while the holder was still inside."""


class FenceRejected(PoolingError):
    """A newer holder has claimed one of the groups: this one came too late and must not write.

    ``newest`` is that holder's token where it is known, else 0.
    """

    newest: int = 0


class StoreUnavailable(PoolingError):
    """The store of locks and cached entries cannot be reached within its budget.

    ``asked`` False: it is known to be down and was not asked at all, so what was wanted has certainly not happened.
    """

    asked: bool = True
