"""Reading answers in RESP2, the protocol of all connections on which the server speaks only when it is asked."""

from __future__ import annotations

from typing import Any

from ._resp3 import Failure

_CHUNK = 65536
_LINE, _FAILURE, _NUMBER, _TEXT, _LIST = b"+-:$*"


class Ended(Exception):
    """The server closed the connection."""


class Answers:
    """What comes in over ``sock``. Its ``recv`` says how long to wait."""

    __slots__ = ("_at", "_buffer", "_sock")

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._buffer = b""
        self._at = 0

    def next(self) -> Any:
        """One answer: bytes, numbers, lists of these, None for a null, or a `Failure`.

        `Ended`; ValueError if it is no such answer, or there is more than one: then the connection is of no use.
        """
        answer = self._read()
        if self._at != len(self._buffer):
            raise ValueError(f"more than one answer: {self._buffer[self._at :][:20]!r}")
        self._buffer, self._at = b"", 0
        return answer

    def _read(self) -> Any:
        at = self._at
        while (end := self._buffer.find(b"\r\n", at)) < 0:
            self._buffer += self._more()
        buffer = self._buffer
        kind, line = buffer[at], buffer[at + 1 : end]
        self._at = end + 2
        if kind == _TEXT:
            size = int(line)
            return None if size < 0 else self._text(size)
        if kind == _LIST:
            count = int(line)
            return None if count < 0 else [self._read() for _ in range(count)]
        if kind == _NUMBER:
            return int(line)
        if kind == _LINE:
            return line
        if kind == _FAILURE:
            return Failure(line.decode("utf-8", "replace"))
        raise ValueError(f"no answer begins with {buffer[at:end][:20]!r}")

    def _text(self, size: int) -> bytes:
        at = self._at
        end = at + size + 2
        if (missing := end - len(self._buffer)) > 0:
            pieces = [self._buffer[at:]]  # what was read already is not copied once more for each piece
            while missing > 0:
                piece = self._more()
                pieces.append(piece)
                missing -= len(piece)
            self._buffer, at, end = b"".join(pieces), 0, size + 2
        self._at = end
        return self._buffer[at : end - 2]

    def _more(self) -> bytes:
        data: bytes = self._sock.recv(_CHUNK)
        if not data:
            raise Ended("the server closed the connection.")
        return data
