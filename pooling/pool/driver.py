"""What the pool asks of a database driver. The pool itself knows no database.

None of these methods is called while the pool holds its lock, so each may block without stalling other threads.
"""

from __future__ import annotations

import enum
from typing import Protocol, TypeVar

C = TypeVar("C")


class Failure(enum.Enum):
    """What a failed `Driver.connect` says about the server."""

    DOWN = "down"
    """Nobody answers. Back off, let one probe through at a time, let everybody else fail fast."""

    CAPACITY = "capacity"
    """The server is there and full. Wait for a connection of our own; have none: fail at once."""

    OTHER = "other"
    """Wrong password, unknown database, TLS mismatch, …: the caller gets the error as it is."""


class Driver(Protocol[C]):
    """Opens, judges and closes the connections of one database. ``C`` may be any type, hashable or not."""

    errors: tuple[type[BaseException], ...]
    """What `connect` raises when the server refuses. Anything else is a fault of the program: see `Failure.OTHER`."""

    def connect(self, timeout: float) -> C:
        """A new connection, ready for its first user. Gives up after about ``timeout`` seconds."""
        ...

    def close(self, conn: C) -> None:
        """Say goodbye and free the socket. Called once for each connection; it may be broken already."""
        ...

    def alive(self, conn: C) -> bool:
        """Does the connection look usable? Without a round trip: called at every checkout that the watcher of
        `fileno` does not make needless."""
        ...

    def fileno(self, conn: C) -> int:
        """The number of the socket, for a thread of the pool's that is told by the kernel when the server closes it;
        -1 if there is none to watch. It must not be another socket's: -1 as soon as the connection is closed."""
        ...

    def ping(self, conn: C) -> bool:
        """Ask the server. Called after a long idle and by `ConnectionPool.check`."""
        ...

    def reset(self, conn: C) -> bool:
        """Make the connection clean for its next user; without a round trip when it is clean already.

        False: it cannot be judged or cleaned, so it is closed. An error means the same and is logged.
        """
        ...

    def abandon(self, conn: C) -> None:
        """In a forked child: make sure that nothing done to this object reaches the parent's session, ever."""
        ...

    def classify(self, error: BaseException) -> Failure:
        """What an error of `connect` says about the server."""
        ...
