"""What a request spends its time on in this package, told to those who look on: traces, Server-Timing, a toolbar.

Does nobody look on, then all this costs is a look at `listeners` where something waits, is locked or is answered.
What is told are names of views, groups and pools, and seconds: no statement, parameter, path or session.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from ._forks import after_in_child

logger = logging.getLogger("pooling.moments")

LIMIT = 1000  # moments that one recording keeps


@dataclass(frozen=True, slots=True)
class Checkout:
    """A connection was asked of the pool of this name. ``waited``: not served at once. ``error``: the class of what
    was raised instead."""

    pool: str
    seconds: float
    waited: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class LockWaited:
    """A hold stood in the queue for so long and was ``granted`` its groups, or gave up."""

    view: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    seconds: float
    granted: bool = True


@dataclass(frozen=True, slots=True)
class LockHeld:
    """A hold has ended. What was held further out already is not told."""

    view: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    waited: float
    seconds: float


@dataclass(frozen=True, slots=True)
class PageAwaited:
    """A request waited for another one that made the same page."""

    view: str
    seconds: float


@dataclass(frozen=True, slots=True)
class PageMade:
    """A cached view was called after a miss and has answered; the seconds go to the end of its COMMIT and storing."""

    view: str
    seconds: float
    stored: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """A cached view answers: ``status`` has the words of ``Cache-Status``, such as ``("fwd=uri-miss", "stored")``."""

    view: str
    status: tuple[str, ...]
    detail: str = ""

    @property
    def outcome(self) -> str:
        """In one word: "hit", "stale" (an old page was served), "collapsed" (another request made it), "miss" or
        "bypass"."""
        first = self.status[0] if self.status else ""
        if first == "hit":
            return "stale" if any(part.startswith("ttl=-") for part in self.status) else "hit"
        if "collapsed" in self.status:
            return "collapsed"
        return "bypass" if first in ("fwd=bypass", "fwd=method") else "miss"


Moment = Checkout | LockWaited | LockHeld | PageAwaited | PageMade | Answered
Listener = Callable[[Moment], None]
Surrounding = Callable[[str], AbstractContextManager[Any]]

listeners: tuple[Listener, ...] = ()
surroundings: tuple[Surrounding, ...] = ()
_mutex = threading.Lock()


def listen(listener: Listener) -> None:
    """Tell ``listener`` of each moment when it is over, in the context of the request. It must not block. What it
    raises is logged."""
    global listeners
    with _mutex:
        listeners = (*listeners, listener)


def unlisten(listener: Listener) -> None:
    global listeners
    with _mutex:
        listeners = tuple(one for one in listeners if one != listener)


def surround(surrounding: Surrounding) -> None:
    """Enter ``surrounding(view)`` around each call of a cached view that makes a page."""
    global surroundings
    with _mutex:
        surroundings = (*surroundings, surrounding)


def unsurround(surrounding: Surrounding) -> None:
    global surroundings
    with _mutex:
        surroundings = tuple(one for one in surroundings if one != surrounding)


def tell(moment: Moment) -> None:
    """Tell all `listeners`. Callers look whether there are any before they make the moment."""
    for listener in listeners:
        try:
            listener(moment)
        except Exception:
            # Whoever looks on must not harm what he looks at.
            fields = {"view": getattr(moment, "view", "")}
            logger.exception("%r could not be told of %s", listener, type(moment).__name__, extra=fields)


def checkout(pool: Any) -> Any:
    """``pool.getconn()``, told."""
    pool.last_wait()  # it may be of a checkout that nobody asked about
    started = time.monotonic()
    try:
        connection = pool.getconn()
    except Exception as error:
        tell(Checkout(pool.name, time.monotonic() - started, True, type(error).__name__))
        raise
    seconds = time.monotonic() - started
    try:
        tell(Checkout(pool.name, seconds, pool.last_wait() > 0))
    except BaseException:  # interrupted: the caller will not get it
        pool.putconn(connection)
        raise
    return connection


@contextmanager
def making(view: str) -> Iterator[None]:
    """Around a cached view that makes a page."""
    with ExitStack() as stack:
        for surrounding in surroundings:
            try:
                stack.enter_context(surrounding(view))
            except Exception:
                logger.exception("%r could not be told of a page", surrounding, extra={"view": view})
        yield


# -- the moments of one request

_recordings: ContextVar[tuple[Recording, ...]] = ContextVar("pooling_recordings", default=())
_running = 0  # recordings; in a forked child those of the parent count on, and make it look in vain


class Recording:
    """What a context is told of from `start` to `stop`, in tasks and threads that it waits for as well.

    ``moments``   the first `LIMIT` of them, in the order in which they ended.
    ``left_out``  how many more there were.

    Both methods may be called any number of times; also as a ``with``.
    """

    def __init__(self) -> None:
        self.moments: list[Moment] = []
        self.left_out = 0
        self._runs = False

    def start(self) -> None:
        global _running, listeners
        if self._runs:
            return
        self._runs = True
        _recordings.set((*_recordings.get(), self))
        with _mutex:
            _running += 1
            if _running == 1:
                listeners = (*listeners, _write)

    def stop(self) -> None:
        global _running, listeners
        if not self._runs:
            return
        self._runs = False
        # Not `reset` with a token: the end may come in another context than the beginning.
        _recordings.set(tuple(one for one in _recordings.get() if one is not self))
        with _mutex:
            _running -= 1
            if _running == 0:
                listeners = tuple(one for one in listeners if one is not _write)

    def __enter__(self) -> Recording:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _add(self, moment: Moment) -> None:
        if not self._runs:
            return  # a task that goes on after the request
        if len(self.moments) < LIMIT:
            self.moments.append(moment)
        else:
            self.left_out += 1


def _write(moment: Moment) -> None:
    for recording in _recordings.get():
        recording._add(moment)


def _after_fork_in_child() -> None:
    global _mutex
    _mutex = threading.Lock()  # another thread may have had it at the moment of the fork


after_in_child(_after_fork_in_child)
