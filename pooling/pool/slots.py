"""What the pool knows about one connection, one waiting checkout and one connect that is under way."""

from __future__ import annotations

import threading
from typing import Generic

from ..histogram import Histogram
from .driver import C, Failure
from .leaks import Taking
from .watcher import NO_TRUST

NEVER = float("-inf")


class Holder:
    """The thread, or greenlet, that has taken a connection. One object per thread and pool."""

    __slots__ = ("thread", "waited")

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.waited = 0.0  # seconds, of its last checkout that was queued

    @property
    def name(self) -> str:
        return self.thread.name

    def alive(self) -> bool:
        """Can this thread still give something back? A thread that `threading` did not start is believed to."""
        if isinstance(self.thread, threading._DummyThread):
            return self.thread in threading.enumerate()
        return self.thread.is_alive()


class Slot(Generic[C]):
    """One open connection. Only whoever has taken the slot out of the idle ones or the busy ones writes to it."""

    __slots__ = (
        "asked",
        "conn",
        "expires",
        "generation",
        "holder",
        "key",
        "lifetime",
        "made",
        "since",
        "taking",
        "trust",
        "used",
        "uses",
        "waits",
    )

    def __init__(self, conn: C, generation: int, made: float, lifetime: float) -> None:
        self.conn = conn
        self.key = id(conn)  # the slot keeps the connection alive, so no other object has this id meanwhile
        self.asked = made  # when the server answered for it last, other than to its user
        self.generation = generation
        self.made = made
        self.lifetime = lifetime
        self.expires = made + lifetime  # set to NEVER: close or examine it when it comes back
        self.since = made  # idle: when it was returned; busy: when it was taken
        self.holder: Holder | None = None
        self.taking: Taking | None = None  # with ``leak_after`` only
        self.trust = NO_TRUST  # for so many seconds after its return it is lent without a look
        self.uses = 0
        self.used = 0.0  # seconds
        self.waits = Histogram()  # of those uses whose user had to wait


class Waiter(Generic[C]):
    """A queued checkout. Written under the pool's lock; `wake` is released once, when it is served or refused."""

    __slots__ = ("doubt", "error", "failure", "patience", "slot", "wake")

    def __init__(self) -> None:
        self.wake = threading.Lock()
        self.wake.acquire()
        self.slot: Slot[C] | None = None
        self.error: BaseException | None = None
        self.doubt: Exception | None = None  # why the user's check refused what was handed over
        self.failure: Failure | None = None  # None: raise the error as it is
        self.patience = float("inf")  # until when to wait for somebody else's probe

    @property
    def settled(self) -> bool:
        return self.slot is not None or self.error is not None


class Attempt:
    """A connect under way; it counts against ``max_size`` for as long as it lives.

    The pool knows it only weakly: an attempt whose thread never started, or was killed on its way, frees its place.
    """

    __slots__ = ("__weakref__", "generation")

    def __init__(self, generation: int) -> None:
        self.generation = generation


class Bell:
    """Wakes the one thread that sleeps at it; rung before, the next sleep ends at once.

    An Event does that too, but it is written in Python: an asynchronous exception in the middle of its `set` can leave
    its inner lock taken, and whoever sets it next hangs. A bare lock is taken and released in one step.
    """

    __slots__ = ("_silent",)

    def __init__(self) -> None:
        self._silent = threading.Lock()
        self._silent.acquire()

    def ring(self) -> None:
        try:
            self._silent.release()
        except RuntimeError:
            return  # it rings already

    def sleep(self, seconds: float) -> None:
        """Until it rings, ``seconds`` at most."""
        self._silent.acquire(timeout=seconds)
