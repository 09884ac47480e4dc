"""The process's mailbox: a list in Redis in which grants for its waiting requests arrive, and a thread that empties it.

The mailbox is a hint, the lock table in Redis is the authority. A message can get lost: the connection breaks after the
server took it from the list, or the list itself is gone. So who waits also looks at the table, when somebody in its way
may have died, after every loss of the connection, and every `LOOK_EVERY` seconds at the latest.
"""

from __future__ import annotations

import collections
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable

from ._scripts import command, encode
from ._wire import Line, Trouble, Wire
from .protocol import Grant

logger = logging.getLogger("pooling.locks")

LOOK_EVERY = 5.0  # seconds
_LEAST_NAP = 0.02  # seconds; tickets elsewhere that end all the time must not make everybody look all the time
_BLOCK = 1  # seconds that one BLPOP waits: so long a hung server stays unnoticed here
_IDLE_ROUNDS = 10  # after so many in vain, with nobody waiting, the thread ends
_PAUSE = 0.5  # seconds between attempts to connect
_EARLY = 1000  # messages kept for requests that do not know yet that they must wait


class Pending:
    """A request of this process that waits. ``look_at``: when to look at the table, by the store's clock."""

    __slots__ = ("grant", "look_at", "wakers")

    def __init__(self) -> None:
        self.grant: Grant | None = None
        self.look_at = 0.0
        self.wakers: list[Callable[[], None]] = []


def parse(message: bytes) -> tuple[str, Grant | None]:
    """Ticket and grant of a message; no grant: the ticket was withdrawn. See `message` in lua/_table.lua."""
    line, _, values = message.partition(b"\n")
    ticket, token, leading, lengths = line.decode().rsplit(" ", 3)
    if token == "0":
        return ticket, None
    vector, at = [], 0
    for length in lengths.split(",") if lengths else ():
        vector.append(values[at : at + int(length)])
        at += int(length)
    return ticket, Grant(ticket, int(token), tuple(vector), leading == "1")


class Mailbox:
    """``prefix`` begins the name of the list. ``clock`` gives seconds that never go back."""

    def __init__(self, wire: Wire, prefix: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._wire = wire
        self._prefix = prefix
        self._clock = clock
        self.start_over()

    def start_over(self) -> None:
        """Empty, under another name, without a thread: in a forked child."""
        self.name = self._prefix + os.urandom(9).hex()
        self._mutex = threading.Lock()
        self._pending: dict[str, Pending] = {}
        self._early: collections.OrderedDict[str, Grant] = collections.OrderedDict()
        self._thread: threading.Thread | None = None
        self._line: Line | None = None
        self._stopped = threading.Event()

    def expect(self, ticket: str, nap: float) -> Pending:
        """From now on ``ticket`` waits here. ``nap``: seconds until it must look at the table; negative: not known."""
        nap = LOOK_EVERY if nap < 0 else min(max(nap, _LEAST_NAP), LOOK_EVERY)
        with self._mutex:
            pending = self._pending.get(ticket)
            if pending is None:
                pending = self._pending[ticket] = Pending()
            pending.look_at = self._clock() + nap
            if (grant := self._early.pop(ticket, None)) is not None:
                pending.grant = grant
            if self._thread is None and not self._stopped.is_set():
                thread = threading.Thread(target=self._run, name="pooling-mailbox", daemon=True)
                # Noted only once it runs: where no thread can be had, the next one tries again.
                thread.start()
                self._thread = thread
        return pending

    def find(self, ticket: str) -> Pending | None:
        return self._pending.get(ticket)

    def forget(self, ticket: str) -> None:
        """It waits no more: whoever waits for it is woken."""
        with self._mutex:
            self._early.pop(ticket, None)
            pending = self._pending.pop(ticket, None)
            wakers = _take(pending) if pending is not None else []
        for waker in wakers:
            waker()

    def deliver(self, messages: Iterable[bytes]) -> None:
        for message in messages:
            ticket, grant = parse(message)
            with self._mutex:
                pending = self._pending.get(ticket)
                if pending is None:
                    if grant is not None:
                        # Faster than the answer that says that it must wait; or too late, and then never asked for.
                        self._early[ticket] = grant
                        if len(self._early) > _EARLY:
                            self._early.popitem(last=False)
                    continue
                pending.grant = grant
                if grant is None:
                    pending.look_at = self._clock()
                wakers = _take(pending)
            for waker in wakers:
                waker()

    def doubt(self, after: float = 0.0) -> None:
        """Messages may be lost: let everybody look at the table, in ``after`` seconds."""
        wakers = []
        with self._mutex:
            at = self._clock() + after
            for pending in self._pending.values():
                if pending.look_at > at:
                    pending.look_at = at
                    wakers += _take(pending)
        for waker in wakers:
            waker()

    def park(self, pending: Pending, waker: Callable[[], None]) -> float:
        """Seconds to sleep until it has to be looked at; ``waker`` is called when that changes, at most once."""
        with self._mutex:
            if pending.grant is not None:
                return 0.0
            pending.wakers.append(waker)
            return max(pending.look_at - self._clock(), 0.0)

    def unpark(self, pending: Pending, waker: Callable[[], None]) -> None:
        with self._mutex:
            if waker in pending.wakers:
                pending.wakers.remove(waker)

    def close(self) -> None:
        """End the thread. Who still waits finds out by looking."""
        self._stopped.set()
        line = self._line
        if line is not None:
            line.interrupt()

    # -- the thread

    def _run(self) -> None:
        stopped = self._stopped
        me = threading.current_thread()
        request = command(b"BLPOP", encode(self.name), b"%d" % _BLOCK)
        idle = losses = 0
        line: Line | None = None
        while not stopped.is_set():
            try:
                if line is None:
                    line = self._line = self._wire.connect(self._wire.budget)
                    line.settimeout(_BLOCK + self._wire.budget)
                    if losses:
                        self.doubt()
                answer = line.ask(request)
            except Trouble as trouble:
                broken, line, self._line = line, None, None
                if broken is not None:
                    broken.close()
                if stopped.is_set() or self._ended(me):
                    return
                losses += 1
                if broken is None or losses > 1:  # not merely a connection that broke
                    logger.warning(
                        "No grants of locks can arrive at present: %s", trouble, extra={"error": type(trouble).__name__}
                    )
                    self.doubt()  # the store itself tells them that it cannot be reached
                    stopped.wait(_PAUSE)
                continue
            losses = 0
            idle = 0 if answer else idle + 1
            if answer:
                self.deliver(answer[1:])
            elif idle >= _IDLE_ROUNDS and self._ended(me):
                break
        if line is not None:
            line.close()

    def _ended(self, me: threading.Thread) -> bool:
        """End this thread if nobody waits."""
        with self._mutex:
            if self._pending:
                return False
            if self._thread is me:
                self._thread = None
            return True


def _take(pending: Pending) -> list[Callable[[], None]]:
    wakers, pending.wakers = pending.wakers, []
    return wakers
