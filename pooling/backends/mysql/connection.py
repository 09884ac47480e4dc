"""A connection of MySQLdb that knows the state of its session; the only module that imports MySQLdb.

It sniffs every statement in its own ``query()``, so that raw use of ``connection.connection`` is seen as well as
Django's cursors. It never asks the server about its state.
"""

from __future__ import annotations

import math
import os
import select
import weakref
from typing import Any

from MySQLdb import Error, OperationalError
from MySQLdb.connections import Connection as DriverConnection
from MySQLdb.cursors import BaseCursor

from pooling._forks import after_in_child

from .deadline import Deadline
from .record import SessionRecord

__all__ = ["Connection", "DriverConnection", "Error", "OperationalError", "code_of", "every", "leave_bytes_alone"]

# Codes after which this very connection is useless. 4031 is MySQL's farewell after wait_timeout: it waits on the socket
# until the next statement finds it.
_LOST = frozenset({1053, 1927, 2006, 2013, 2014, 2055, 4031})
# A server that does not write any more says this to every write. Not 1792: there the transaction is one for reading by
# its user's own wish.
_READ_ONLY = 1836
_OPTION_FORBIDS = 1290  # any option; the text names it

# So many cursors are remembered before the first look at which of them are still there.
_CURSORS = 64
_ref = weakref.ref

# Every live connection by id: a forked child has to disarm all of them, also those that a thread was using.
_live: dict[int, weakref.ref[Connection]] = {}


def code_of(error: BaseException) -> int:
    code = error.args[0] if error.args else 0
    return code if isinstance(code, int) else 0


def _names_read_only(error: BaseException) -> bool:
    # The option's name stands in the text in every language: --read-only, --super-read-only, --innodb-read-only.
    return any(name in str(error) for name in ("read-only", "read_only"))


class Connection(SessionRecord, DriverConnection):  # type: ignore[misc]
    """A MySQLdb connection that records what its user did to the session.

    ``pool``: where it came from, while it is checked out. ``abandoned``: it belongs to the parent process.
    ``read_only``: its server has refused to write.
    """

    # What every return looks at.
    __slots__ = (
        *("_cursors", "autocommits", "broken", "dirty", "fd", "implicit"),
        *("messages", "pending", "streaming", "transaction"),
    )

    # MySQLdb has a function of its own here, for the sake of one name, which makes every look at an attribute several
    # times dearer: the interpreter knows a short way only for its own.
    __getattribute__ = object.__getattribute__

    @property
    def closed(self) -> int:
        return int(not self.open)

    def __init__(self, *, deadline: Deadline | None = None, **kwargs: Any) -> None:
        self.fd = -1
        self._deadline = deadline
        self.abandoned = self.read_only = False
        self._cursors: list[weakref.ref[Any]] = []
        self._cursors_limit = _CURSORS
        self.pool: Any = None
        super().__init__(**kwargs)
        # Recorded now: once somebody closed the connection, its number may belong to another socket.
        self.fd = self.fileno()
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLIN)
        key = id(self)
        _live[key] = weakref.ref(self, lambda _: _live.pop(key, None))

    # ----- cursors -----
    # A cursor may outlive its user's time with the connection, and would then speak on the next user's session.

    def cursor(self, cursorclass: Any = None) -> Any:
        cursor = (cursorclass or self.cursorclass)(self)
        if not isinstance(cursor, BaseCursor):
            self.broken = True  # it could not be cut off, so nobody may come after it
            return cursor
        known = self._cursors
        if len(known) >= self._cursors_limit:
            known[:] = [one for one in known if (other := one()) is not None and other.connection is not None]
            # Twice what is left: looking through many open cursors again at every new one would be quadratic.
            self._cursors_limit = max(_CURSORS, 2 * len(known))
        known.append(_ref(cursor))
        return cursor

    @property
    def has_open_cursors(self) -> bool:
        """Whether somebody may still go on with a cursor of this connection."""
        return any(
            cursor is not None and cursor.connection is not None
            for cursor in [reference() for reference in self._cursors]
        )

    def detach_cursors(self) -> None:
        """Cut off the cursors that are still there: used again, each raises ProgrammingError ("cursor closed")."""
        known = self._cursors
        unread = self.pending or self.streaming
        for reference in known:
            cursor = reference()
            if cursor is not None:
                cursor.connection = None
                # A result locks its connection when it is discarded, which would make a statement that the next user
                # sends at that moment fail. One with unread rows is left: freeing it reads all of them, and with
                # rows unread the connection is closed anyway.
                if not unread:
                    cursor._result = None
        known.clear()
        self._cursors_limit = _CURSORS

    def query(self, query: Any) -> None:
        if isinstance(query, bytearray):
            query = bytes(query)
        effect = self.before(query.encode("utf-8", "surrogateescape") if isinstance(query, str) else query)
        # Cleared by store_result(): an interrupt anywhere between leaves a connection that nobody can use.
        self.pending = True
        try:
            DriverConnection.query(self, query)
        except Error as error:
            self.pending = False
            self._failed(error)
            raise
        if effect:
            self.after(effect)

    def say(self, statement: bytes) -> None:
        """Send a statement that is nobody's, and throw away what comes."""
        self.pending = True
        try:
            super().query(statement)
        except Error as error:
            self.pending = False
            self._failed(error)
            raise
        self.store_result()

    def _failed(self, error: Error) -> None:
        code = code_of(error)
        self.failed(code)
        if code in _LOST:
            self.broken = True
        elif code == _READ_ONLY or (code == _OPTION_FORBIDS and _names_read_only(error)):
            self.broken = self.read_only = True
        if code in (2006, 2013, 2055):
            # The client library has closed the socket: its number may be anybody's by now.
            self.fd = -1

    def send_query(self, *args: Any, **kwargs: Any) -> Any:
        self.pending = self.dirty = True
        self.doubtful = self.started
        return super().send_query(*args, **kwargs)

    def store_result(self) -> Any:
        try:
            result = DriverConnection.store_result(self)
        except Error as error:
            # INSERT … RETURNING fails here: its columns come before the error. The server's is the end of the answer;
            # after the client library's own, 2000 to 2999, rows may be left.
            self.pending = 2000 <= code_of(error) < 3000
            self._failed(error)
            raise
        self.pending = self.streaming = False
        if self.multiplexed and self.warning_count():
            self.messages = True
        return result

    def use_result(self) -> Any:
        # Before the call, so that no interrupt comes between the two.
        self.streaming = self.messages = True
        result = super().use_result()
        self.pending = False
        return result

    def next_result(self) -> Any:
        # Refused by the client library while rows are unread; -1 says that nothing at all is left. Closing a cursor
        # comes along here, and it costs no round trip.
        try:
            status = DriverConnection.next_result(self)
        except Error as error:
            if code_of(error) != 2014:  # rows are unread: nothing is wrong with the connection
                self._failed(error)
            raise
        self.streaming = status == 0
        return status

    def read_to_the_end(self) -> bool:
        """Whether no row and no result is left to read; asks the client library, not the server."""
        if self.more_results():
            return False
        try:
            return bool(self.next_result() == -1)
        except Error:
            return False

    def autocommit(self, on: bool) -> None:
        # Written down, since asking the client library at each return costs more than all else there. What changes it
        # by a statement is dirty anyway, and functions and triggers may not.
        # Not clean until it is known how it ended: an interrupt after the server's answer would hide the change.
        self.autocommits = self.implicit
        super().autocommit(on)
        self.autocommits = bool(on)

    def commit(self) -> None:
        try:
            super().commit()
        except Error as error:
            self._failed(error)
            raise
        self.transaction_over()

    def rollback(self) -> None:
        try:
            super().rollback()
        except Error as error:
            self._failed(error)
            raise
        self.transaction_over()

    def select_db(self, *args: Any) -> Any:
        self.dirty = True
        return super().select_db(*args)

    def change_user(self, *args: Any, **kwargs: Any) -> Any:
        # Another user's session is nothing a reset of ours can be trusted with.
        self.broken = True
        return super().change_user(*args, **kwargs)

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        self.dirty = True
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            # Called by the constructor, and the first thing that is said after the login. That had its time limit, and
            # nothing that follows has one.
            deadline.start(self.fileno())
        super().set_character_set(charset, collation)

    def set_server_option(self, option: int) -> Any:
        self.broken = True
        return super().set_server_option(option)

    def ping(self, *args: Any) -> Any:
        if args:
            # A reconnect behind our back would leave a new session without any of our settings.
            self.broken = True
        try:
            return super().ping(*args)
        except Error as error:
            self._failed(error)
            raise

    def answers(self, seconds: float) -> bool:
        """Whether the server says anything within so many seconds; if not, the connection is ``broken``.

        The client library's own ping waits for ever, or for ``read_timeout``, which would cut off users' statements.
        """
        self.pending = True
        try:
            # Past our own methods, which take what is sent for a user's.
            super().send_query(b"DO 0")
            # False when somebody closed the socket meanwhile.
            if self.fd < 0 or not self._poll.poll(math.ceil(seconds * 1000)):
                self.broken = True  # and stays pending: an answer that comes late must be nobody's
                return False
            super().read_query_result()
            self.store_result()
        except Error as error:
            self.broken = True
            self._failed(error)
            return False
        return True

    def close(self) -> None:
        self.fd = -1
        super().close()

    def hang_up(self) -> None:
        """In a forked child: make sure that nothing is ever said on the parent's socket, not even goodbye."""
        self.abandoned = self.broken = True
        fd, self.fd = self.fd, -1
        if fd >= 0:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.dup2(null, fd, inheritable=False)
            finally:
                os.close(null)

    def renew(self, user: str, password: str, database: str) -> None:
        """A new session on the same socket; an empty ``database`` is none."""
        super().change_user(user, password, database)


def every() -> list[Connection]:
    """All connections that are open."""
    return [connection for reference in list(_live.values()) if (connection := reference()) is not None]


def leave_bytes_alone(connection: Any) -> None:
    # mysqlclient's encoder of bytes does not work; Django takes it out as well.
    if connection.encoders.get(bytes) is bytes:
        connection.encoders.pop(bytes)


def _hang_up_all() -> None:
    for connection in every():
        connection.hang_up()
    _live.clear()


after_in_child(_hang_up_all)
