"""One connection for the whole process, and a lock so that two requests never talk on it at the same time.

A request takes the lock with its first statement and keeps it to its end: a transaction, a last insert id or a
half-read result belong to the connection, so nobody else may use it in between. Pages that need no database do not
wait. The session is set up once, with the connection.
"""

from __future__ import annotations

import threading
from typing import Any

from django.db.backends.mysql import base
from django.db.utils import OperationalError

from demo_site.lab import waits
from demo_site.schemes import PATIENCE


class _Shared:
    """The connection. The lock is not re-entrant and is released by whichever thread ends the request."""

    def __init__(self) -> None:
        self.lock = waits.lock()
        self.connection: Any = None
        self.ready = False


_shared: dict[str, _Shared] = {}
_guard = threading.Lock()


class DatabaseWrapper(base.DatabaseWrapper):
    @property
    def _mine(self) -> _Shared:
        with _guard:
            return _shared.setdefault(repr(sorted(self.settings_dict.items(), key=str)), _Shared())

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        shared = self._mine
        if not shared.lock.acquire(timeout=PATIENCE):
            raise OperationalError(f"The shared connection did not become free within {PATIENCE:g} s.")
        try:
            if shared.connection is None:
                shared.ready = False
                shared.connection = super().get_new_connection(conn_params)
            return shared.connection
        except BaseException:
            shared.lock.release()
            raise

    def init_connection_state(self) -> None:
        if not self._mine.ready:
            super().init_connection_state()
            self._mine.ready = True

    def _close(self) -> None:
        # Called at the end of a request, or after an error that may have broken the connection.
        if self.connection is None:
            return
        shared = self._mine
        try:
            if self.errors_occurred or self.in_atomic_block or not self.autocommit:
                shared.connection = None
                super()._close()
        finally:
            shared.lock.release()
