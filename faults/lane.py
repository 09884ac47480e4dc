"""What every worker process says and is told.

Each point that it reaches is a line of JSON on its output, in one write, so that what a killed worker has said is
whole. On its input it is told, one JSON object a line: ``lease``, seconds, from the next piece of work on; ``stop``, a
point at which it shall stand still (it sends itself SIGSTOP there, so that all its threads stand exactly then);
``end``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from pooling.errors import FenceRejected, LockLost, LockTimeout, StoreUnavailable

# Nothing of it can have been committed. With other errors, such as a connection lost in COMMIT, nobody can know.
REFUSED = (FenceRejected, LockLost, LockTimeout, StoreUnavailable)


class Lane:
    """``lease`` in seconds. A thread that makes no transfers says only where it stands still."""

    def __init__(self, lease: float) -> None:
        self.lease = lease
        self.ends = False
        self._stop_at: str | None = None
        self._mutex = threading.Lock()
        self._of_this_thread = threading.local()

    def about(self, transfer: str) -> None:
        """What this thread says from now on is about this transfer."""
        self._of_this_thread.transfer = transfer

    def obey(self) -> None:
        """Read what it is told, until the input ends."""
        for line in sys.stdin:
            told = json.loads(line)
            with self._mutex:  # who has told it not to stop can rely on that once this is said
                self.lease = told.get("lease", self.lease)
                self._stop_at = told.get("stop", self._stop_at)
                self.ends = self.ends or "end" in told
                self.say("heard", told=told)
        os._exit(1)  # whoever started it is gone

    def reached(self, point: str, **detail: Any) -> None:
        """A named point of a transfer; or of something else, which counts only if it shall stand still there."""
        with self._mutex:
            stops = self._stop_at == point
            if stops or self._transfer:
                self.say(point, **detail)
            if stops:
                self._stop_at = None
                self.say("stopped", at=point)
        if stops:
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread goes no further before it acts

    def say(self, point: str, **detail: Any) -> None:
        line = {"time": time.monotonic_ns(), "transfer": self._transfer, "point": point, **detail}
        os.write(1, json.dumps(line).encode() + b"\n")

    def listen_in(self) -> None:
        """Points inside the library: behind a grant, in the queue, and around the COMMIT itself of this thread."""
        from django.db import connections

        from pooling import runtime

        manager: Any = runtime.manager()
        wrapper: Any = connections["default"]
        acquire, wait, commit = manager.acquire, manager.store.wait, wrapper._commit

        def granted(**given: Any) -> Any:
            held = acquire(**given)
            self.reached("granted", token=held.fence)
            return held

        def waiting(ticket: str, timeout: float) -> Any:
            self.reached("waiting")
            return wait(ticket, timeout)

        def commits() -> None:
            with self._around_commit():
                commit()

        manager.acquire, manager.store.wait, wrapper._commit = granted, waiting, commits

    @property
    def _transfer(self) -> str:
        return getattr(self._of_this_thread, "transfer", "")

    @contextlib.contextmanager
    def _around_commit(self) -> Iterator[None]:
        self.reached("commit")
        yield
        self.reached("committed")
