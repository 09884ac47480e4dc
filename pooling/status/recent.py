"""The last warnings and errors of the loggers ``pooling.*`` in this process, in bounded memory."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from .._forks import after_in_child
from ..errors import PoolingError

ROOT = "pooling"
LIMIT = 20
LONGEST = 400  # characters of a text


class Recent(logging.Handler):
    """Keeps the last ones. The same again, one after the other, is counted: an outage must not push out all else."""

    def __init__(self, limit: int = LIMIT) -> None:
        super().__init__(logging.WARNING)
        self._kept: deque[dict[str, Any]] = deque(maxlen=limit)
        self._last: tuple[str, ...] = ()  # what makes two the same: their texts differ, by the seconds in them
        self.total = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._keep(record)
        except Exception:  # noqa: BLE001 - what a handler does: whoever logs must not fail by it
            self.handleError(record)
        # Python writes warnings to the standard error stream where nobody handles them, and no more once somebody does.
        # That we listen must not silence them.
        if not _others_listen() and logging.lastResort is not None and record.levelno >= logging.lastResort.level:
            logging.lastResort.handle(record)

    def _keep(self, record: logging.LogRecord) -> None:
        kind = ""
        if record.exc_info and record.exc_info[0] is not None:
            kind = record.exc_info[0].__name__
        found = {
            "at": record.created,
            "kind": kind or str(getattr(record, "error", "")) or record.name,
            "level": record.levelname.lower(),
            "logger": record.name,
            "text": _text(record)[:LONGEST],
            "view": str(getattr(record, "view", "")),
            "count": 1,
        }
        self.total += 1  # under the handler's own lock, as all of this
        same = (str(found["kind"]), record.name, str(found["view"]), str(record.msg))
        if self._kept and self._last == same:
            found["count"] += self._kept.pop()["count"]
        self._last = same
        self._kept.append(found)

    def newest_first(self) -> list[dict[str, Any]]:
        self.acquire()
        try:
            return [dict(one) for one in reversed(self._kept)]
        finally:
            self.release()

    def start_over(self) -> None:
        """Nothing has happened yet: for a forked child and for tests."""
        self.createLock()
        self._kept.clear()
        self.total = 0


recent = Recent()
_installing = threading.Lock()


def listen() -> None:
    """From now on. May be called again, as after a new configuration of logging."""
    with _installing:
        logger = logging.getLogger(ROOT)
        if recent not in logger.handlers:
            logger.addHandler(recent)


def _text(record: logging.LogRecord) -> str:
    """The message without what others wrote: of an error that is not ours only its class and number, since a database
    quotes values in its words; of a request no path, which may be a secret by itself."""
    if hasattr(record, "status_code"):
        error = record.args[-1] if isinstance(record.args, tuple) and record.args else ""
        return f"{record.status_code}: {_harmless(error)}"
    if isinstance(record.args, Mapping):
        return str(record.msg) % {key: _harmless(value) for key, value in record.args.items()}
    return str(record.msg) % tuple(map(_harmless, record.args)) if record.args else str(record.msg)


def _harmless(value: object) -> object:
    if not isinstance(value, BaseException) or isinstance(value, PoolingError):
        return value
    number = value.args[0] if value.args and isinstance(value.args[0], int) else ""
    return f"{type(value).__name__} {number}".rstrip()


def _others_listen() -> bool:
    logger: logging.Logger | None = logging.getLogger(ROOT)
    while logger is not None:
        if any(not isinstance(handler, Recent) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def _after_fork_in_child() -> None:
    global _installing
    _installing = threading.Lock()  # another thread may have had it at the moment of the fork
    recent.start_over()


after_in_child(_after_fork_in_child)
