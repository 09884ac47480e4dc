"""The maintenance thread: refills, shrinks and replaces connections that nobody is using."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any

from . import report
from .slots import Bell

if TYPE_CHECKING:
    from .growth import Growth

log = logging.getLogger("pooling.pool")


def start(pool: Growth[Any]) -> None:
    """A daemon that knows the pool weakly: a pool that nobody uses any more is collected, and its thread ends."""
    wake = pool._wake
    ref = weakref.ref(pool, lambda _: wake.ring())
    thread = threading.Thread(target=_run, args=(ref, wake), name=f"pooling-maintenance-{pool.name}", daemon=True)
    thread.start()


def _run(ref: weakref.ref[Growth[Any]], wake: Bell) -> None:
    while True:
        pool = ref()
        if pool is None:
            return
        try:
            delay = pool._maintain()
        except Exception:
            log.exception(
                "%s: maintenance failed; the next round is tried in a minute",
                report.title(pool),
                extra={"pool": pool.name},
            )
            delay = 60.0
        del pool  # or it could not be collected while this thread sleeps
        if delay is None:
            return
        wake.sleep(delay)  # a ring during the work is kept: it ends this sleep at once
