"""A worker process: ``python -m faults.worker NAME SEED LEASE``. It makes transfers until it is told to end.

Each point that it reaches is a line of JSON on its output, in one write, so that what a killed worker has said is
whole. On its input it is told, one JSON object a line: ``lease``, seconds, from the next transfer on; ``stop``, a point
at which it shall stand still (it sends itself SIGSTOP there, so that all its threads stand exactly then); ``end``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

import django

from pooling.errors import FenceRejected, LockLost, LockTimeout, StoreUnavailable

# Nothing of it can have been committed. With other errors, such as a connection lost in COMMIT, nobody can know.
REFUSED = (FenceRejected, LockLost, LockTimeout, StoreUnavailable)
PAUSE = 0.02  # seconds until one who was refused asks again


class Worker:
    """``lease`` in seconds."""

    def __init__(self, name: str, seed: str, lease: float) -> None:
        self._name = name
        self._chance = random.Random(f"{seed}.{name}")
        self._lease = lease
        self._transfer = ""
        self._stop_at: str | None = None
        self._end = False

    def work(self) -> None:
        from django.db import DatabaseError, InterfaceError, connections

        from .bank import Order, carry_out

        self._listen_in()
        count = 0
        while not self._end:
            count += 1
            lease = self._lease
            order = Order.at_random(f"{self._name}.{count}", self._chance)
            self._transfer = order.transfer
            self._reached("start", lease=lease, accounts=order.accounts)
            try:
                carry_out(order, lease, self._reached)
                outcome, error = "done", ""
            except REFUSED as refused:
                outcome, error = "refused", type(refused).__name__
            except (DatabaseError, InterfaceError) as failed:
                outcome, error = "unknown", f"{type(failed).__name__}: {failed}"
            except Exception:  # noqa: BLE001 - it is in the history, and a finding
                outcome, error = "broken", traceback.format_exc()
            self._reached(outcome, error=error)
            connections.close_all()
            if outcome != "done":
                time.sleep(PAUSE)

    def obey(self) -> None:
        """Read what it is told, until the input ends."""
        for line in sys.stdin:
            told = json.loads(line)
            self._lease = told.get("lease", self._lease)
            self._stop_at = told.get("stop", self._stop_at)
            self._end = self._end or "end" in told
            self._say("heard", {"transfer": ""})
        os._exit(1)  # whoever started it is gone

    def _reached(self, point: str, **detail: Any) -> None:
        self._say(point, detail)
        if self._stop_at == point:
            self._stop_at = None
            self._say("stopped", {"at": point})
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread goes no further before it acts

    def _say(self, point: str, detail: dict[str, Any]) -> None:
        line = {"time": time.monotonic_ns(), "transfer": self._transfer, "point": point, **detail}
        os.write(1, json.dumps(line).encode() + b"\n")

    def _listen_in(self) -> None:
        """Points inside the library: behind a grant, in the queue, and around the COMMIT itself."""
        from django.db import connections

        from pooling import runtime

        manager: Any = runtime.manager()
        wrapper: Any = connections["default"]
        acquire, wait, commit = manager.acquire, manager.store.wait, wrapper._commit

        def granted(**given: Any) -> Any:
            held = acquire(**given)
            self._reached("granted", token=held.fence)
            return held

        def waiting(ticket: str, timeout: float) -> Any:
            self._reached("waiting")
            return wait(ticket, timeout)

        def commits() -> None:
            with self._around_commit():
                commit()

        manager.acquire, manager.store.wait, wrapper._commit = granted, waiting, commits

    @contextlib.contextmanager
    def _around_commit(self) -> Iterator[None]:
        self._reached("commit")
        yield
        self._reached("committed")


def main() -> None:
    logging.disable(logging.CRITICAL)  # what goes wrong here is meant to, and the history has it
    name, seed, lease = sys.argv[1:]
    django.setup()
    worker = Worker(name, seed, float(lease))
    threading.Thread(target=worker.obey, daemon=True).start()
    worker.work()


if __name__ == "__main__":
    main()
