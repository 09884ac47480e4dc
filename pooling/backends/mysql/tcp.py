"""TCP keepalive: the kernel finds out that the other end is gone, also while nobody sends anything."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pooling._names import nearest

# What Linux accepts at most.
_MOST = {"idle": 32767, "interval": 32767, "count": 127}


@dataclass(frozen=True, slots=True)
class TcpKeepalive:
    """When the kernel probes a silent connection, and when it gives up: after ``idle + interval * count`` seconds.

    ``idle``      seconds of silence before the first probe.
    ``interval``  seconds between probes that are not answered.
    ``count``     so many unanswered probes end the connection.

    Raises ValueError for anything but whole numbers that the kernel takes.
    """

    idle: int = 60
    interval: int = 10
    count: int = 3

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(
                    f"{name!r} of the pool option 'tcp_keepalive' must be a whole number from 1 to {most}, "
                    f"not {value!r}."
                )

    @classmethod
    def parse(cls, value: Any) -> TcpKeepalive | None:
        """From True (all defaults), a mapping, or None or False for the system's own. ValueError."""
        if value is None or value is False:
            return None
        if value is True:
            return cls()
        if not isinstance(value, Mapping):
            raise ValueError(
                f"Pool option 'tcp_keepalive' must be True, None or a dict such as {{'idle': 60}}, not {value!r}."
            )
        known = [field.name for field in dataclasses.fields(cls)]
        for name in value:
            if name not in known:
                raise ValueError(f"The pool option 'tcp_keepalive' has no {name!r}. {nearest(name, known)}")
        return cls(**value)

    def apply(self, fd: int) -> bool:
        """Set it on the socket ``fd``; says whether that is a TCP socket. OSError if it is none at all."""
        with socket.socket(fileno=os.dup(fd)) as same:  # options belong to the socket, not to its number
            if same.family not in (socket.AF_INET, socket.AF_INET6):
                return False
            same.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            # macOS has the first one under another name.
            idle = getattr(socket, "TCP_KEEPIDLE", None) or socket.TCP_KEEPALIVE  # type: ignore[attr-defined]
            same.setsockopt(socket.IPPROTO_TCP, idle, self.idle)
            same.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, self.interval)
            same.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, self.count)
        return True
