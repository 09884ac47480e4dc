"""A way to the database that takes longer: each piece of data arrives so much later, in either direction.

Pieces that follow one another closely are all delayed by the same, as on a long cable: this is latency, and no
narrower a pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import TracebackType
from typing import Self

from demo_site.web import HOST

_AT_ONCE = 65536


class Delay:
    """Listens at ``HOST``:`port` for a database at ``host``:``port``, or at a socket file if ``host`` is a path.

    ``seconds`` are added to each round trip, half of them each way. A context manager with a thread of its own.
    """

    def __init__(self, host: str, port: int, seconds: float) -> None:
        self.target = host, port
        self.half = seconds / 2
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="delay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._serve())
            except OSError as error:
                self._failure = error
            finally:
                self._ready.set()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._forward, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self.target
        try:
            if host.startswith("/"):
                answers, database = await asyncio.open_unix_connection(host)
            else:
                answers, database = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()  # the client hears that there is nobody, as it would without us
            return
        try:
            await asyncio.gather(self._carry(reader, database), self._carry(answers, writer))
        except asyncio.CancelledError:
            database.close()  # the way is closed with a connection open; nobody is left to hear of it
            writer.close()

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Each piece waits for its own time to come, while the next ones are read already."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def arrive() -> None:
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if not data:
                    return
                target.write(data)
                await target.drain()

        arriving = asyncio.create_task(arrive())
        data = b"-"
        while data:
            try:
                data = await source.read(_AT_ONCE)
            except ConnectionError:
                data = b""
            under_way.put_nowait((loop.time() + self.half, data))
        with contextlib.suppress(ConnectionError):  # whoever hears nothing more has gone himself
            await arriving
        target.close()
