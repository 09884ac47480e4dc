"""A TCP proxy on loopback that does to its links what networks and dying servers do.

    with Proxy(server.host, server.port) as proxy:
        ...             # connect to proxy.host, proxy.port
        proxy.cut()

What is set holds for links that are there and for those to come, unless the method says otherwise. All methods return
at once and may be called from any thread. Threads and blocking sockets: what a test sees is what the kernel does.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing discards what is under way and says so with a RST


class Link:
    """One client, the connection to the server made for it, and how many bytes went up (to the server) and down."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.server: socket.socket | None = None
        self.up = self.down = 0
        self.forgotten = False  # set it: nothing is forwarded any more, whatever becomes of the others
        self.gone = threading.Event()

    def cut(self, *, reset: bool = False) -> None:
        self.gone.set()
        for end in (self.client, self.server):
            if end is not None:
                with contextlib.suppress(OSError):  # the other side may have been first
                    if reset:
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    # A RST goes out when the socket is closed, which is not before the threads have left it. They do
                    # so at a SHUT_RD, of which the other side hears nothing.
                    end.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)

    def passes(self, gate: threading.Event) -> bool:
        """Wait at ``gate``; False when the link was cut meanwhile."""
        while not self.gone.is_set():
            if self.forgotten:
                self.gone.wait()
            elif gate.wait(0.05):
                return not self.gone.is_set()
        return False

    def close(self) -> None:
        self.gone.set()
        for end in (self.client, self.server):
            if end is not None:
                end.close()


class Proxy:
    """Forwards connections at `host`:`port` to a server. ``accepted`` counts them; ``links`` are those that are up."""

    host = "127.0.0.1"

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.accepted = 0
        self.links: list[Link] = []
        self.drop_after: int | None = None  # a link is cut when so many bytes have come down on it
        self.stall_after: int | None = None  # nothing more comes down on a link than so many bytes
        self.delay = 0.0  # seconds that each piece of data is held back, either way
        self.drip = 0.0  # seconds between the bytes that come down, one by one
        self._lock = threading.Lock()
        self._up, self._down, self._greets = threading.Event(), threading.Event(), threading.Event()
        for gate in (self._up, self._down, self._greets):
            gate.set()
        # Bound and not listening: it keeps the port ours while connections to it are refused.
        self._holder = self._bound(0)
        self.port: int = self._holder.getsockname()[1]
        self._listener: socket.socket | None = None
        self.listen()

    # -- faults

    def cut(self, *, reset: bool = False) -> None:
        """End all links that are up: with a FIN, or with ``reset`` by a RST."""
        for link in self._all():
            link.cut(reset=reset)

    def refuse(self) -> None:
        """Connections are refused from now on, as by a machine on which no server runs. Links stay."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            # Not close() alone: the thread in accept() would keep the socket open.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def listen(self) -> None:
        """Accept again after `refuse`."""
        with self._lock:
            if self._listener is None:
                self._listener = self._bound(self.port)
                self._listener.listen(256)
                self._thread(self._accept, self._listener)

    def hang(self) -> None:
        """New connections are accepted and then nothing is said on them."""
        self._greets.clear()

    def stall(self, *, up: bool = True, down: bool = True) -> None:
        """Forward nothing more to the server (up), to the clients (down), or either way. Links stay open."""
        if up:
            self._up.clear()
        if down:
            self._down.clear()

    def go_on(self) -> None:
        """End `hang` and `stall`. What was held back is forwarded."""
        for gate in (self._up, self._down, self._greets):
            gate.set()

    def half_close(self) -> None:
        """Say to each client that nothing more will come, and go on listening to it."""
        for link in self._all():
            with contextlib.suppress(OSError):
                link.client.shutdown(socket.SHUT_WR)

    # -- life

    def close(self) -> None:
        self.refuse()
        self._holder.close()
        self.cut()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- details

    def _all(self) -> list[Link]:
        with self._lock:
            return list(self.links)

    def _bound(self, port: int) -> socket.socket:
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((self.host, port))
        return bound

    def _thread(self, function: Callable[..., None], *args: object) -> threading.Thread:
        thread = threading.Thread(target=function, args=args, name="proxy", daemon=True)
        thread.start()
        return thread

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # `refuse`
                return
            link = Link(client)
            with self._lock:
                self.accepted += 1
                self.links.append(link)
            self._thread(self._serve, link)

    def _serve(self, link: Link) -> None:
        try:
            if not link.passes(self._greets):
                return
            try:
                link.server = socket.create_connection(self.target)
            except OSError:
                link.cut(reset=True)
                return
            for end in (link.client, link.server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            upwards = self._thread(self._pump, link, "up")
            self._pump(link, "down")
            upwards.join()
        finally:
            with self._lock:
                self.links.remove(link)
            link.close()

    def _pump(self, link: Link, way: str) -> None:
        assert link.server is not None
        source, sink = (link.client, link.server) if way == "up" else (link.server, link.client)
        gate = self._up if way == "up" else self._down
        try:
            while data := source.recv(65536):
                if self.delay:
                    link.gone.wait(self.delay)
                if not link.passes(gate):
                    return
                if way == "down" and self.stall_after is not None and link.down + len(data) > self.stall_after:
                    data = data[: max(0, self.stall_after - link.down)]
                    link.forgotten = True
                if way == "down" and self.drop_after is not None:
                    data = data[: max(0, self.drop_after - link.down)]
                while way == "down" and self.drip and len(data) > 1:
                    sink.sendall(data[:1])
                    link.down += 1
                    data = data[1:]
                    if link.gone.wait(self.drip):
                        return
                sink.sendall(data)
                setattr(link, way, getattr(link, way) + len(data))
                if way == "down" and self.drop_after is not None and link.down >= self.drop_after:
                    link.cut()
                    return
            if not link.gone.is_set():
                sink.shutdown(socket.SHUT_WR)
        except OSError:  # cut, or one of the two has gone: then the other shall know
            link.cut()
