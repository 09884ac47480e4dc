"""What could not be told to the server when it was due: tickets to release and epochs to renew."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable

from ..errors import StoreUnavailable
from ._wire import Refused

logger = logging.getLogger("pooling.locks")

_PAUSE = 0.5  # seconds between attempts


class Owed:
    """``pay(tickets, epochs)`` tells the server, and raises StoreUnavailable. A thread tries it until nothing is owed;
    who asks the server for something before that pays first."""

    def __init__(self, pay: Callable[[list[str], list[str]], None]) -> None:
        self._pay = pay
        self.start_over()

    def start_over(self) -> None:
        """Nothing is owed: for a forked child, since these are its parent's."""
        self._mutex = threading.Lock()
        self._paying = threading.Lock()
        self._tickets: dict[str, None] = {}
        self._epochs: dict[str, None] = {}
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self.due = False

    def add(self, ticket: str | None, epochs: Iterable[str]) -> None:
        with self._mutex:
            if ticket is not None:
                self._tickets[ticket] = None
            self._epochs.update(dict.fromkeys(epochs))
            self.due = True
            if self._thread is None and not self._stopped.is_set():
                thread = threading.Thread(target=self._run, name="pooling-owed", daemon=True)
                # Noted only once it runs: where no thread can be had, who asks the server next pays.
                thread.start()
                self._thread = thread

    def settle(self) -> None:
        """Pay. StoreUnavailable, ``asked`` False, if that cannot be done: what the caller wants was not asked for."""
        with self._paying:
            with self._mutex:
                # Taken out: what is added while it is being paid is owed once more.
                tickets, epochs = self._tickets, self._epochs
                self._tickets, self._epochs = {}, {}
            if not tickets and not epochs:
                return  # another thread has paid
            try:
                self._pay(list(tickets), list(epochs))
            except BaseException as error:
                cause = error.__cause__
                if not (isinstance(error, StoreUnavailable) and isinstance(cause, Refused) and not cause.down):
                    with self._mutex:
                        self._tickets.update(tickets)
                        self._epochs.update(epochs)
                    if isinstance(error, StoreUnavailable):
                        error.asked = False
                    raise
                # It would be refused for ever, and everything else with it.
                logger.error(
                    "What was to be released later is left to the leases, for the store refuses it: %s",
                    error,
                    extra={"tickets": list(tickets), "error": type(error).__name__},
                )
            with self._mutex:
                self.due = bool(self._tickets or self._epochs)

    def close(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        stopped = self._stopped
        while not stopped.wait(_PAUSE):
            try:
                self.settle()
            except StoreUnavailable:
                continue  # it was logged when it came to be owed
            with self._mutex:
                if not self.due:
                    self._thread = None
                    return
