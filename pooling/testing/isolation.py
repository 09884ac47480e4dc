"""A cache, locks and counters of its own for one test, whatever store the site has."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .. import containers, fences, frames, runtime
from ..cache import stats
from ..errors import StoreUnavailable
from ..locks.report import declared, describe

logger = logging.getLogger("pooling.locks")

PATIENCE = 1.0  # seconds for whoever is about to release: a thread whose answer has just gone out
_PAUSE = 0.01


@contextmanager
def isolated(test: str = "") -> Iterator[None]:
    """What happens inside has a store of its own: it begins without pages, without locks, with `pooling.cache_stats` at
    zero and with every warning still to come, and nothing of it is left at the end.

    With the store in memory it is a new one. In Redis it is the same server under keys of their own, ``KEY_PREFIX`` and
    a random word, and only these are deleted: what a site or other test runs have there stays as it is. All threads
    and forked children of the process are inside; processes that it starts anew are not. Can be nested.

    AssertionError at the end for a lock that is still held, see `assertNoLockHeld`; ``test`` names the test in it.
    """
    with started_over():
        yield
        assertNoLockHeld(test)


@contextmanager
def started_over() -> Iterator[None]:
    """`isolated`, but nobody looks for locks at the end."""
    with runtime.apart(f"-test-{os.urandom(8).hex()}"):
        stats.reset()
        containers.forget_warnings()
        fences.forget()  # their rows went with the last test's
        frames.current.set(())  # a hold that somebody forgot in this context is not this test's
        yield


def assertNoLockHeld(test: str = "") -> None:
    """AssertionError if anybody holds a group, naming who it is, and for how long he has it. Whoever is just about to
    release it gets a second. A store that cannot be asked holds nothing: a test may have stopped it."""
    deadline = time.monotonic() + PATIENCE
    while held := _held():
        if time.monotonic() > deadline:
            where = f"At the end of {test} a" if test else "A"
            raise AssertionError(
                f"{where} lock is still held: {'; '.join(held)}. Leave every `with locked(…)`, join the threads and "
                f"await the tasks that are in one before the test ends."
            )
        time.sleep(_PAUSE)


def _held() -> list[str]:
    found = []
    for store in runtime.stores():
        try:
            parties = store.parties()
        except StoreUnavailable as error:
            logger.warning("Whether a test has left a lock cannot be told: %s", error)
            continue
        found += [describe(party, declared(party.wants)) for party in parties if party.holding]
    return found
