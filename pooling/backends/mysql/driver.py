"""The only module that imports MySQLdb: a connection that knows the state of its session, and the pool's Driver.

The connection sniffs every statement in its own ``query()``, so that raw use of ``connection.connection`` is
seen as well as Django's cursors. It never asks the server about its state.
"""

from __future__ import annotations

import math
import os
import select
import weakref
from collections.abc import Mapping
from typing import Any

import MySQLdb
from MySQLdb.connections import Connection as BaseConnection
from MySQLdb.cursors import BaseCursor

from pooling.pool import Failure

from .session import Effect, classify

_CAPACITY = frozenset({1040, 1203, 1226})
# 2005 is a name that does not resolve: mistyped or not, nobody answers, and every attempt asks the name server again.
_DOWN = frozenset({1053, 1927, 2002, 2003, 2005, 2006, 2013, 2055})
# Codes after which this very connection is useless.
_LOST = frozenset({1053, 1927, 2006, 2013, 2014, 2055})

# Every live connection by id: a forked child has to disarm all of them, also those that a thread was using.
_live: dict[int, weakref.ref[Connection]] = {}

# Seconds that a server has to answer a question that costs it nothing.
_PATIENCE = 5.0

# So many cursors are remembered before the first look at which of them are still there.
_CURSORS = 64
_ref = weakref.ref


def _code(error: BaseException) -> int:
    code = error.args[0] if error.args else 0
    return code if isinstance(code, int) else 0


class Connection(BaseConnection):  # type: ignore[misc]
    """A MySQLdb connection that records what its user did to the session.

    ``dirty``: needs a reset. ``broken``: must be closed. ``transaction``: one may be open that the client library
    does not show. ``pending``: a statement was sent whose result nobody has taken. ``streaming``: one was taken row
    by row, and is not known to be read to its end. ``pool``: where it came from, while it is checked out.
    ``abandoned``: it belongs to the parent process.
    """

    __slots__ = ("_cursors", "autocommits", "broken", "dirty", "fd", "implicit", "pending", "streaming", "transaction")

    # MySQLdb has a function of its own here, for the sake of one name, which makes every look at an attribute several
    # times dearer: the interpreter knows a short way only for its own.
    __getattribute__ = object.__getattribute__

    @property
    def closed(self) -> int:
        return int(not self.open)

    def __init__(self, **kwargs: Any) -> None:
        self.fd = -1
        self.dirty = self.broken = self.transaction = self.pending = self.streaming = self.abandoned = False
        self.implicit = False
        self.autocommits = True
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

    def settle(self, *, implicit: bool) -> None:
        """The session is in its initial state from here on. ``implicit``: every statement may open a transaction."""
        self.dirty = self.transaction = self.pending = self.streaming = False
        self.implicit = implicit
        self.autocommits = bool(self.get_autocommit())

    @property
    def clean(self) -> bool:
        """Whether the next user would find nothing of this one, without asking the server."""
        return not (
            self.dirty
            or self.broken
            or self.transaction
            or self.pending
            or self.streaming
            or self.autocommits is self.implicit
        )

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

    def _note(self, statement: Any) -> None:
        if isinstance(statement, str):
            statement = statement.encode("utf-8", "surrogateescape")
        effect = classify(statement)
        if effect:
            if effect is Effect.BEGINS:
                self.transaction = True
            elif effect is Effect.DIRTY or effect is Effect.UNCLEAR:
                self.dirty = True
                self.broken = self.broken or effect is Effect.UNCLEAR
        elif self.implicit:
            self.transaction = True

    def query(self, query: Any) -> None:
        if isinstance(query, bytearray):
            query = bytes(query)
        self._note(query)
        # Cleared by store_result(): an interrupt anywhere between leaves a connection that nobody can use.
        self.pending = True
        try:
            super().query(query)
        except MySQLdb.Error as error:
            self.pending = False
            self._failed(error)
            raise

    def _failed(self, error: MySQLdb.Error) -> None:
        code = _code(error)
        if code in _LOST:
            self.broken = True
        if code in (2006, 2013, 2055):
            # The client library has closed the socket: its number may be anybody's by now.
            self.fd = -1

    def send_query(self, *args: Any, **kwargs: Any) -> Any:
        self.pending = self.dirty = True
        return super().send_query(*args, **kwargs)

    def store_result(self) -> Any:
        result = super().store_result()
        self.pending = self.streaming = False
        return result

    def use_result(self) -> Any:
        # Before the call, so that no interrupt comes between the two.
        self.streaming = True
        result = super().use_result()
        self.pending = False
        return result

    def next_result(self) -> Any:
        # Refused by the client library while rows are unread; -1 says that nothing at all is left. Closing a cursor
        # comes along here, and it costs no round trip.
        status = super().next_result()
        self.streaming = status == 0
        return status

    def read_to_the_end(self) -> bool:
        """Whether no row and no result is left to read; asks the client library, not the server."""
        if self.more_results():
            return False
        try:
            return bool(self.next_result() == -1)
        except MySQLdb.Error:
            return False

    def autocommit(self, on: bool) -> None:
        # Written down, since asking the client library at each return costs more than all else there. What changes it
        # by a statement is dirty anyway, and functions and triggers may not.
        super().autocommit(on)
        self.autocommits = bool(on)

    def commit(self) -> None:
        try:
            super().commit()
        except MySQLdb.Error as error:
            self._failed(error)
            raise
        self.transaction = False

    def rollback(self) -> None:
        try:
            super().rollback()
        except MySQLdb.Error as error:
            self._failed(error)
            raise
        self.transaction = False

    def select_db(self, *args: Any) -> Any:
        self.dirty = True
        return super().select_db(*args)

    def change_user(self, *args: Any, **kwargs: Any) -> Any:
        # Another user's session is nothing a reset of ours can be trusted with.
        self.broken = True
        return super().change_user(*args, **kwargs)

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        self.dirty = True
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
        except MySQLdb.Error as error:
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
        except MySQLdb.Error as error:
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

    def renew(self, user: str, password: str, database: str | None) -> None:
        """A new session on the same socket."""
        super().change_user(user, password, database)


def _hang_up_all() -> None:
    for reference in list(_live.values()):
        connection = reference()
        if connection is not None:
            connection.hang_up()
    _live.clear()


os.register_at_fork(after_in_child=_hang_up_all)


class MySQLDriver:
    """Opens, judges and resets connections for one pool.

    ``params`` are MySQLdb.connect()'s; ``isolation`` is a transaction isolation level or None for the server's.

    A server that hangs is given ``connect_timeout`` seconds to answer the pool's own questions, 5 at most. A user's
    statement waits for ever: set ``read_timeout`` in OPTIONS to the longest one there is to end that as well.
    """

    errors: tuple[type[BaseException], ...] = (MySQLdb.Error,)

    def __init__(self, params: Mapping[str, Any], *, autocommit: bool, isolation: str | None) -> None:
        self.params = dict(params)
        self.autocommit = autocommit
        self.isolation = isolation
        self._patience = min(_PATIENCE, self.params.get("connect_timeout") or _PATIENCE)

    def connect(self, timeout: float) -> Connection:
        params = {**self.params, "autocommit": self.autocommit}
        limit = params.get("connect_timeout") or 0
        if math.isfinite(timeout):
            # The client library counts whole seconds, and 0 means for ever.
            ours = max(1, math.ceil(timeout))
            params["connect_timeout"] = min(limit, ours) if limit else ours
        connection = Connection(**params)
        try:
            # mysqlclient's encoder of bytes does not work; Django takes it out as well.
            if connection.encoders.get(bytes) is bytes:
                connection.encoders.pop(bytes)
            self._initialise(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _initialise(self, connection: Connection) -> None:
        # One by one, since OPTIONS may switch multi statements off.
        _run(connection, "SET SQL_AUTO_IS_NULL = 0")
        if self.isolation:
            _run(connection, f"SET SESSION TRANSACTION ISOLATION LEVEL {self.isolation.upper()}")
        if not self.autocommit:
            connection.commit()
        connection.settle(implicit=not self.autocommit)

    def close(self, conn: Connection) -> None:
        if conn.abandoned or not conn.open:
            return
        try:
            conn.close()
        except MySQLdb.Error:
            conn.broken = True  # closed by somebody already: nothing is left to close

    def alive(self, conn: Connection) -> bool:
        """Nothing may be waiting on an idle connection's socket: neither an end of file nor a stray message."""
        return conn.fd >= 0 and not conn.broken and bool(conn.open) and not conn._poll.poll(0)

    def fileno(self, conn: Connection) -> int:
        return conn.fd

    def ping(self, conn: Connection) -> bool:
        return conn.answers(self._patience)

    def reset(self, conn: Connection) -> bool:
        # Most often there is nothing to do: `clean`, written out once more, for a call costs as much as all of it.
        if not (
            conn._cursors
            or conn.dirty
            or conn.broken
            or conn.transaction
            or conn.pending
            or conn.streaming
            or conn.fd < 0
            or conn.autocommits is conn.implicit
        ):
            return True
        if conn.streaming and not conn.pending and conn.open:
            conn.broken = conn.broken or not conn.read_to_the_end()
        if conn._cursors:
            conn.detach_cursors()
        if conn.clean:
            return conn.fd >= 0
        if conn.broken or conn.pending or conn.streaming or conn.fd < 0 or not conn.open:
            return False
        # Asked first, since nothing below can be given a time limit: a server that hangs would keep the thread.
        if not conn.answers(self._patience):
            return False
        try:
            if conn.dirty:
                return self._renew(conn)
            conn.rollback()
            conn.autocommit(self.autocommit)
        except MySQLdb.Error:
            conn.broken = True
            return False
        conn.settle(implicit=not self.autocommit)
        return True

    def _renew(self, conn: Connection) -> bool:
        params = self.params
        user = params.get("user")
        if not user or params.get("read_default_file") or params.get("read_default_group"):
            return False  # the credentials stand in a file that only connect() reads
        password = params.get("password") or params.get("passwd") or ""
        conn.renew(user, password, params.get("database") or params.get("db"))
        # The new session has the server's defaults, while the client library may still believe in the old ones:
        # all that connect() set is said again, in its order, or strings would be escaped for another charset.
        if params.get("init_command"):
            _run(conn, params["init_command"])
        conn.set_character_set(params.get("charset") or conn.character_set_name(), params.get("collation") or "")
        if params.get("sql_mode"):
            conn.set_sql_mode(params["sql_mode"])
        conn.autocommit(self.autocommit)
        self._initialise(conn)
        return True

    def abandon(self, conn: Connection) -> None:
        conn.hang_up()

    def classify(self, error: BaseException) -> Failure:
        code = _code(error)
        if code in _CAPACITY:
            return Failure.CAPACITY
        return Failure.DOWN if code in _DOWN else Failure.OTHER


def _run(connection: Connection, statement: str) -> None:
    connection.query(statement)
    connection.store_result()
    while connection.next_result() == 0:
        connection.store_result()
