"""A socket whose operations have one deadline together.

A time-out of a socket counts for each operation by itself: a server, or a network, that lets through a byte now and
then keeps its client for as long as it likes. Here whatever is sent and received from `begin` on ends at one moment.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

_SLACK = 1 / 64  # of the whole time: to set a time-out is a system call, so one that is nearly right is left alone


class Bounded:
    """``sock`` until ``end``, in seconds of the monotonic clock. Raises TimeoutError after that."""

    __slots__ = ("_end", "_kept", "_set", "_slack", "sock")

    def __init__(self, sock: Any, end: float) -> None:
        self.sock = sock
        self._end = end
        self._set = -1.0  # the socket's own time-out; negative: not known
        self._slack = 0.0
        self._kept = False

    def begin(self, seconds: float) -> None:
        """From now on everything together may take so long."""
        self._end = monotonic() + seconds
        self._slack = seconds * _SLACK

    def sendall(self, data: bytes) -> None:
        self._hurry()
        self.sock.sendall(data)

    def recv(self, size: int) -> Any:
        self._hurry()
        return self.sock.recv(size)

    def recv_into(self, *arguments: Any) -> Any:
        self._hurry()
        return self.sock.recv_into(*arguments)

    def settimeout(self, seconds: float | None) -> None:
        """For each operation, as usual: the Redis library looks with 0 whether there is something to read."""
        self.sock.settimeout(seconds)
        self._set = -1.0 if seconds is None else seconds
        self._kept = seconds is not None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def _hurry(self) -> None:
        left = self._end - monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        if not (-self._slack <= self._set - left <= self._slack or (self._kept and self._set <= left)):
            self.sock.settimeout(left)
            self._set = left
            self._kept = False
