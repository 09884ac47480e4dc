"""A time limit for calls of the client library that have none: they end when the socket under them is shut down."""

from __future__ import annotations

import contextlib
import os
import socket
import threading


class Deadline:
    """After ``seconds`` from `start` on, the socket is shut down, unless `over` comes first. Used once.

    Whoever waits on that socket then hears from the client library that the connection was lost. RuntimeError from
    `start` if the system has no thread to spare.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer: threading.Timer | None = None

    def start(self, fd: int) -> None:
        # A number of our own for the same socket: when the library closes its number, another thread may get it.
        self._socket = socket.socket(fileno=os.dup(fd))
        self._timer = threading.Timer(self._seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def over(self) -> None:
        """Whatever it was for has been done, or has failed."""
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            known, self._socket = self._socket, None
        if known is not None:
            known.close()

    def _end(self) -> None:
        with self._lock:
            if self._socket is not None:
                with contextlib.suppress(OSError):  # the other end was first
                    self._socket.shutdown(socket.SHUT_RDWR)
