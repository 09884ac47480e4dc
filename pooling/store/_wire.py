"""Connections to the server: kept, renewed, and never waited for longer than the budget.

Knows no Redis library: a `Driver` opens the connections and translates their errors.
"""

from __future__ import annotations

import collections
import time
from typing import Any, Protocol

from ..errors import StoreUnavailable
from ._breaker import Breaker
from ._scripts import Script, command

OLDEST = (5, 0)  # from then on a script may ask for the time and write afterwards
_HOPS = 3  # redirections that one request follows


class Trouble(Exception):
    """Something is wrong with the server or the way to it. The text is a sentence for people."""


class Slow(Trouble):
    """No answer in time."""


class Lost(Trouble):
    """No connection, or it broke."""


class Refused(Trouble):
    """The server answered with an error. ``down``: it would give everybody the same answer for now."""

    def __init__(self, text: str, *, down: bool = False) -> None:
        super().__init__(text)
        self.down = down


class NoScript(Refused):
    """The server does not know a script by its digest."""


class Moved(Refused):
    """In a cluster: the keys are at another node."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"The keys are at {host}:{port}.")
        self.address = host, port


class Stream(Protocol):
    """The socket of a connection. Its methods raise OSError, after the timeout TimeoutError."""

    def settimeout(self, seconds: float | None, /) -> None: ...

    def sendall(self, data: bytes, /) -> None: ...

    def recv(self, size: int, /) -> bytes: ...

    def shutdown(self, how: int, /) -> None: ...

    def close(self) -> None: ...


class Line(Protocol):
    """One connection. Its methods raise `Trouble`."""

    def ask(self, request: bytes) -> Any:
        """Send one command and return its answer."""
        ...

    def settimeout(self, seconds: float) -> None:
        """How long an `ask` takes at most, from its beginning to the end of its answer."""
        ...

    def interrupt(self) -> None:
        """Make an `ask` of another thread end with `Lost`."""
        ...

    def take_over(self) -> Stream:
        """The bare connection, for who wants to speak another protocol. Nothing can be asked by `ask` any more."""
        ...

    def close(self) -> None:
        """Not while another thread asks."""
        ...


class Driver(Protocol):
    """Opens connections."""

    def name(self) -> str:
        """Where the server is, for people."""
        ...

    def connect(self, timeout: float) -> Line:
        """A connection that is authenticated and has its database selected. Raises `Trouble`."""
        ...

    def redirect(self, host: str, port: int) -> None:
        """Connect there from now on, and to the first address again when that fails."""
        ...


class Wire:
    """Asks the server. Thread-safe; each thread uses a connection of its own for the moment.

    ``budget`` is what one call may take, in seconds, connecting included. All methods raise StoreUnavailable.
    """

    def __init__(self, driver: Driver, budget: float) -> None:
        self.driver = driver
        self.budget = budget
        self.breaker = Breaker()
        self.start_over()

    def start_over(self) -> None:
        """Without connections: in a forked child they are the parent's."""
        self._idle: collections.deque[Line] = collections.deque()
        self._checked = False
        self.breaker.start_over()

    def close(self) -> None:
        """Close the connections: those in use, when their requests are answered. A later call opens new ones."""
        # Another deque, not this one emptied: what is returned to it afterwards, nobody uses any more.
        idle, self._idle = self._idle, collections.deque()
        while idle:
            try:
                line = idle.pop()
            except IndexError:
                return  # another thread took the last one
            line.close()

    def run(self, script: Script, keys: int, words: int, packed: bytes, *, insist: bool = False) -> Any:
        """The result of a script; see `Script.command` for the arguments. ``insist``: also if one call has just failed,
        see `Breaker`."""
        started = time.monotonic()
        try:
            return self._call(script.command(keys, words, packed), insist=insist)
        except NoScript:
            whole = script.command(keys, words, packed, whole=True)
            return self._call(whole, started + self.budget, insist=insist)

    def call(self, *words: bytes) -> Any:
        """The answer to one command."""
        return self._call(command(*words))

    def ask(self, request: bytes) -> Any:
        """The answer to one command as it goes over the wire."""
        return self._call(request)

    def connect(self, timeout: float) -> Line:
        """A connection of the caller's own, past the breaker. Raises `Trouble`."""
        deadline = time.monotonic() + timeout
        try:
            line = self.driver.connect(timeout)
        except Refused as refused:
            refused.down = True  # such as a database that is not there: it would refuse everybody
            raise
        try:
            if not self._checked:
                line.settimeout(deadline - time.monotonic())
                self._check_version(line)
                self._checked = True
        except BaseException:
            line.close()
            raise
        line.settimeout(self.budget)
        return line

    # -- one call

    def _call(self, request: bytes, deadline: float | None = None, *, insist: bool = False) -> Any:
        """``deadline``: when it must be done, if that is before the end of a whole budget."""
        probe = self.breaker.enter(insist=insist)
        try:
            answer = self._ask(request, deadline)
        except NoScript:
            self.breaker.success(probe)
            raise
        except Trouble as trouble:
            text = f"The store at {self.driver.name()} cannot be used: {trouble}"
            if isinstance(trouble, Refused) and not trouble.down:
                self.breaker.success(probe)
            else:
                self.close()
                self.breaker.failure(text, probe)
            raise StoreUnavailable(text) from trouble
        except BaseException:
            self.breaker.interrupted(probe)
            raise
        self.breaker.success(probe)
        return answer

    def _ask(self, request: bytes, deadline: float | None) -> Any:
        idle = self._idle
        now = time.monotonic()
        left = None if deadline is None else max(deadline - now, 0.001)
        end = now + self.budget if deadline is None else deadline
        try:
            line = idle.pop()
        except IndexError:
            return self._ask_anew(request, end)
        try:
            return self._ask_at(line, request, idle, left)
        except (Moved, Lost) as trouble:
            # Closed while it lay there, the server was restarted for instance: the others are no better. To send it
            # twice does no harm, since a request has the same effect twice as once.
            self.close()
            if isinstance(trouble, Moved):
                self.driver.redirect(*trouble.address)
            return self._ask_anew(request, end)

    def _ask_anew(self, request: bytes, deadline: float) -> Any:
        for _ in range(_HOPS):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            idle = self._idle  # before it is connected: `close` means it as well if it comes in between
            line = self.connect(left)
            try:
                return self._ask_at(line, request, idle, max(deadline - time.monotonic(), 0.001))
            except Moved as moved:
                self.driver.redirect(*moved.address)
        raise Slow(f"it did not answer within {self.budget:g} s (POOLING['STORE_BUDGET']).")

    def _ask_at(self, line: Line, request: bytes, idle: collections.deque[Line], left: float | None = None) -> Any:
        """On this connection, which is kept in ``idle`` unless it failed or all were closed meanwhile. ``left``:
        seconds, if less than the whole budget."""
        try:
            if left is not None:
                line.settimeout(left)
            answer = line.ask(request)
            if left is not None:
                line.settimeout(self.budget)
        except BaseException as error:
            if isinstance(error, Refused) and not error.down and not isinstance(error, Moved):
                line.settimeout(self.budget)
                self._keep(line, idle)
            else:
                line.close()  # the answer may still come: the next request must not take it for its own
            raise
        self._keep(line, idle)
        return answer

    def _keep(self, line: Line, idle: collections.deque[Line]) -> None:
        if idle is self._idle:
            idle.append(line)
        else:
            line.close()

    def _check_version(self, line: Line) -> None:
        try:
            text = line.ask(command(b"INFO", b"server"))
        except Refused as refused:
            if refused.down:
                raise
            return  # this user may not ask; the scripts will say what is missing
        check_version(_text(text))


def _text(answer: Any) -> str:
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else str(answer)


def check_version(info: str) -> None:
    """`Refused` if the server is too old. ``info``: its answer to INFO. Valkey tells its Redis version as well."""
    for line in info.splitlines():
        name, _, value = line.partition(":")
        if name == "redis_version":
            numbers = tuple(int(part) for part in value.split(".")[:2] if part.isdigit())
            if numbers < OLDEST:
                least = ".".join(map(str, OLDEST))
                raise Refused(f"it is Redis {value.strip()}; at least {least} is needed, or Valkey.", down=True)
