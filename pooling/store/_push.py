"""The connection over which the server tells this process of every epoch that changes, and the thread that listens.

It is opened when somebody first wants to know epochs without asking (`Pushes.vector`), and closed again when nobody
has for a while. The server tracks keys by their prefix for it (CLIENT TRACKING … BCAST), so it keeps nothing per key.

A connection can be dead without a sign: a cable is pulled, a firewall forgets it, the server hangs. So a request goes
over it three times in each heartbeat, and what is known is relied on for one heartbeat from when the last answered
request was *sent*. A change that was made before that had been told before the answer came. Hence no value that is
relied on is older than a heartbeat, whatever happens to server, network or this process.
"""

from __future__ import annotations

import contextlib
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from ._known import Known
from ._resp3 import Failure, Incomplete, Push, parse
from ._scripts import command, encode
from ._wire import Lost, Moved, Refused, Slow, Stream, Trouble, Wire
from .protocol import Vector

logger = logging.getLogger("pooling.cache")

HEARTBEAT = 1.0  # seconds
_BEATS = 3  # requests in each heartbeat: one may come late, or its answer
_IDLE = 10.0  # seconds without a question after which the connection is closed
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between attempts to connect
_FAILS = 3  # in a row, and people are told
_CHUNK = 65536


class Pushes:
    """``prefix`` begins the keys of epochs, ``probe`` is a key that never exists, in the same slot of a cluster.
    ``heartbeat`` in seconds; ``clock`` gives seconds that never go back."""

    def __init__(
        self,
        wire: Wire,
        prefix: str,
        probe: str,
        *,
        heartbeat: float = HEARTBEAT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wire = wire
        self._prefix = encode(prefix)
        # A write: neither a replica nor, in a cluster, a node that has lost the keys to another one answers it.
        self._probe = command(b"DEL", encode(probe))
        self._channel = encode(probe)
        self._heartbeat = heartbeat
        self._clock = clock
        self._stream: Stream | None = None
        self.known = Known(clock)
        self.start_over()

    def start_over(self) -> None:
        """Without a connection, a thread and knowledge: in a forked child they are the parent's."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()  # this process's end of it, or the server would go on talking after the parent's death
        self.known.start_over()
        self._mutex = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._asked = self._trusted = False

    def vector(self, names: Sequence[str]) -> Vector | None:
        """The epochs' values, a heartbeat old at most, without asking; None if that is not possible now."""
        self._asked = True
        if self._thread is None:
            self._start()
        return self.known.vector(names)

    def close(self) -> None:
        """End the thread. Nothing is known any more."""
        self._stopped.set()
        self.known.close()
        stream = self._stream
        if stream is not None:
            with contextlib.suppress(OSError):  # it is closed already
                stream.shutdown(socket.SHUT_RDWR)

    def _start(self) -> None:
        with self._mutex:
            if self._thread is not None or self._stopped.is_set():
                return
            thread = threading.Thread(target=self._run, args=(self._stopped,), name="pooling-versions", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return  # no thread can be had: the caller asks the server, and the next one tries again
            self._thread = thread

    # -- the thread

    def _run(self, stopped: threading.Event) -> None:
        me = threading.current_thread()
        troubles = 0
        try:
            while not stopped.is_set():
                self._trusted = False
                try:
                    self._listen(stopped)
                    return
                except Trouble as error:
                    trouble = error
                finally:
                    self.known.close()
                self._wire.close()  # who asks from now on shall find out as well who has the keys
                if stopped.is_set():
                    return
                if isinstance(trouble, Moved):
                    self._wire.driver.redirect(*trouble.address)
                troubles = 1 if self._trusted else troubles + 1
                if troubles == _FAILS:  # not merely a connection that broke, or keys that are elsewhere
                    logger.warning(
                        "Pages of level 'near' are treated as 'validated' for the present: %s",
                        trouble,
                        extra={"error": type(trouble).__name__},
                    )
                if troubles >= _FAILS and not self._was_asked():
                    return
                pause = min(_FIRST_PAUSE * 2 ** min(troubles - 1, 10), _LONGEST_PAUSE)
                stopped.wait(pause * random.uniform(0.8, 1.2))  # or else all processes would come back at once
        finally:
            with self._mutex:
                if self._thread is me:
                    self._thread = None

    def _listen(self, stopped: threading.Event) -> None:
        """Hear of changes until nobody is interested any more. Raises `Trouble`."""
        line = self._wire.connect(self._wire.budget)
        try:
            stream = self._stream = line.take_over()
            talk = _Talk(stream, self._clock, self._told)
            budget = self._wire.budget
            talk.ask(command(b"HELLO", b"3"), budget)
            talk.ask(command(b"CLIENT", b"TRACKING", b"ON", b"BCAST", b"PREFIX", self._prefix), budget)
            with contextlib.suppress(Refused):  # a user that may not do it can do without
                # Nobody publishes there. But for subscribers the server bounds what it keeps for those who do not
                # read: or else a process that was stopped would fill its memory.
                talk.ask(command(b"SUBSCRIBE", self._channel), budget)
            # A value that is kept must come from the server that tells of its changes. After a failover connections to
            # the last master may be open still, and that one may answer. Those to come are made later than this one.
            self._wire.close()
            self.known.open()
            while not stopped.is_set():
                asked_until = self._clock() + _IDLE
                while not stopped.is_set() and self._clock() < asked_until:
                    sent = self._clock()
                    talk.ask(self._probe, self._heartbeat)
                    self.known.trust(sent + self._heartbeat)
                    self._trusted = True
                    talk.listen(sent + self._heartbeat / _BEATS)
                if not self._was_asked():
                    return
        finally:
            self._stream = None
            line.close()

    def _told(self, push: Push) -> None:
        if push.items[0] != b"invalidate":
            return
        keys, start = push.items[1], len(self._prefix)
        if keys is None:
            self.known.all_changed()  # FLUSHDB, FLUSHALL
        else:
            self.known.changed([key[start:].decode("utf-8", "surrogatepass") for key in keys])

    def _was_asked(self) -> bool:
        """Has anybody called `vector` since this was asked last?"""
        asked, self._asked = self._asked, False
        return asked


class _Talk:
    """RESP3 on a connection. ``told`` gets what the server says unasked. All methods raise `Trouble`."""

    def __init__(self, stream: Stream, clock: Callable[[], float], told: Callable[[Push], None]) -> None:
        self._stream = stream
        self._clock = clock
        self._told = told
        self._buffer = bytearray()

    def ask(self, request: bytes, seconds: float) -> None:
        """Send a request and wait for its answer; whatever had come before that, and with it, was told by then."""
        deadline = self._clock() + seconds
        try:
            self._stream.settimeout(seconds)
            self._stream.sendall(request)
        except OSError as error:
            raise Lost(f"{error}") from error
        while True:
            left = deadline - self._clock()
            if left <= 0:
                raise Slow(f"the server does not answer on the connection that tells of changes, {seconds:g} s long.")
            if answers := self._receive(left):
                answer = answers[0]
                if isinstance(answer, Failure):
                    raise _refused(answer.text)
                return

    def listen(self, until: float) -> None:
        """Hear what the server says until then."""
        while (left := until - self._clock()) > 0:
            self._receive(left)

    def _receive(self, seconds: float) -> list[Any]:
        """Wait for data; answers that are there now. An answer to SUBSCRIBE comes as if it were unasked."""
        try:
            self._stream.settimeout(seconds)
            data = self._stream.recv(_CHUNK)
        except TimeoutError:
            return []
        except OSError as error:
            raise Lost(f"{error}") from error
        if not data:
            raise Lost("the server closed the connection.")
        buffer = self._buffer
        buffer += data
        answers, at = [], 0
        try:
            while at < len(buffer):
                message, at = parse(buffer, at)
                if isinstance(message, Push) and message.items[0] != b"subscribe":
                    self._told(message)
                else:
                    answers.append(message)
        except Incomplete:
            pass  # the rest comes later
        except ValueError as error:
            raise Lost(f"the server speaks another protocol: {error}") from error
        del buffer[:at]
        return answers


def _refused(text: str) -> Refused:
    kind, _, rest = text.partition(" ")
    if kind == "MOVED":
        host, _, port = rest.partition(" ")[2].rpartition(":")
        return Moved(host, int(port))
    return Refused(f"the server answered {text!r} on the connection that would tell of changes.")
