"""A driver whose connections are real sockets, with the server's end in the test's hands."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Callable

from pooling.pool import Failure


class Conn:
    def __init__(self, ours: socket.socket, peer: socket.socket) -> None:
        self.ours = ours
        self.peer = peer
        self.closed = False

    def end(self) -> None:
        """What a server does that is stopped, or told to kill the session."""
        self.peer.close()


class SocketDriver:
    errors = (OSError,)

    def __init__(self) -> None:
        self.made: list[Conn] = []
        self.looks = 0
        self.number: int | None = None  # the descriptor that the next connection is to have
        self.on_connect: Callable[[Conn], object] | None = None
        self.on_fileno: Callable[[Conn], object] | None = None
        self.lock = threading.Lock()

    def connect(self, timeout: float) -> Conn:
        ours, peer = socket.socketpair()
        with self.lock:
            wanted, self.number = self.number, None
        if wanted == peer.fileno():
            ours, peer = peer, ours
        elif wanted is not None and wanted != ours.fileno():
            os.dup2(ours.fileno(), wanted, inheritable=False)
            ours.close()
            ours = socket.socket(fileno=wanted)
        conn = Conn(ours, peer)
        self.made.append(conn)
        if self.on_connect is not None:
            self.on_connect(conn)
        return conn

    def close(self, conn: Conn) -> None:
        conn.closed = True
        conn.ours.close()
        conn.peer.close()

    def alive(self, conn: Conn) -> bool:
        self.looks += 1
        return conn.ours.fileno() >= 0 and not select.select([conn.ours], [], [], 0)[0]

    def fileno(self, conn: Conn) -> int:
        number = conn.ours.fileno()
        if self.on_fileno is not None:
            self.on_fileno(conn)
        return number

    def ping(self, conn: Conn) -> bool:
        return self.alive(conn)

    def reset(self, conn: Conn) -> bool:
        return True

    def abandon(self, conn: Conn) -> None:
        conn.ours.close()

    def classify(self, error: BaseException) -> Failure:
        return Failure.DOWN
