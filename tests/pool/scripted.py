"""A driver whose server is a script: faults happen when a test says so, and every connection is accounted for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from pooling.pool import Failure

PATIENCE = 20.0  # seconds; only a hanging test ever waits for so long


class Refused(Exception):
    """What `ScriptedDriver.connect` raises; ``kind`` is what the pool is told about it."""

    def __init__(self, kind: Failure, words: str = "refused") -> None:
        super().__init__(words)
        self.kind = kind


class Conn:
    def __init__(self, number: int) -> None:
        self.number = number
        self.alive = True
        self.answers = True
        self.clean: bool | BaseException = True
        self.closed = 0
        self.abandoned = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Conn)  # the pool must go by identity

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Conn {self.number}>"


class ScriptedDriver:
    errors = (Refused,)

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.made: list[Conn] = []
        self.pings = 0
        self.connects = 0
        self.connecting = 0
        self.limits: list[float] = []  # what each connect was given
        self.most_open = 0
        self.refuse: Callable[[], BaseException] | None = None
        self.gate: threading.Event | None = None  # connects wait for it
        self.close_gate: threading.Event | None = None
        self.on_alive: Callable[[Conn], None] | None = None
        self.on_reset: Callable[[Conn], None] | None = None

    def connect(self, timeout: float) -> Conn:
        with self.lock:
            self.connects += 1
            self.limits.append(timeout)
            self.connecting += 1
            gate, refuse = self.gate, self.refuse
            self.most_open = max(self.most_open, self.connecting + self.open)
        try:
            if gate is not None:
                assert gate.wait(PATIENCE)
            if refuse is not None:
                raise refuse()
            with self.lock:
                conn = Conn(len(self.made))
                self.made.append(conn)
                return conn
        finally:
            with self.lock:
                self.connecting -= 1

    @property
    def open(self) -> int:
        return sum(not conn.closed for conn in self.made)

    def close(self, conn: Conn) -> None:
        if self.close_gate is not None:
            assert self.close_gate.wait(PATIENCE)
        conn.closed += 1

    def alive(self, conn: Conn) -> bool:
        if self.on_alive is not None:
            self.on_alive(conn)
        return conn.alive

    def fileno(self, conn: Conn) -> int:
        return -1

    def ping(self, conn: Conn) -> bool:
        self.pings += 1
        return conn.alive and conn.answers

    def reset(self, conn: Conn) -> bool:
        if self.on_reset is not None:
            self.on_reset(conn)
        if isinstance(conn.clean, BaseException):
            raise conn.clean
        return conn.clean

    def abandon(self, conn: Conn) -> None:
        conn.abandoned += 1

    def classify(self, error: BaseException) -> Failure:
        assert isinstance(error, Refused)
        return error.kind

    def refusing(self, kind: Failure, words: str = "refused") -> None:
        self.refuse = lambda: Refused(kind, words)


class Clock:
    """A clock that goes only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def until(condition: Callable[[], object], what: str = "") -> None:
    """Poll until the condition holds; fail when it does not in the end."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what or condition}"
        time.sleep(0.001)


class Caller(threading.Thread):
    """Runs a function in a thread and keeps what came out of it."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        super().__init__(daemon=True)
        self.function, self.args = function, args
        self.value: object = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.value = self.function(*self.args)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def result(self) -> object:
        self.join(PATIENCE)
        assert not self.is_alive(), "the thread hangs"
        if self.error is not None:
            raise self.error
        return self.value
