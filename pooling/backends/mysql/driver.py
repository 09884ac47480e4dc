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
from typing import Any, cast

import MySQLdb
from MySQLdb.connections import Connection as BaseConnection
from MySQLdb.cursors import BaseCursor

from pooling._forks import after_in_child
from pooling._numbers import MOST_SECONDS
from pooling.pool import Failure

from .credentials import Credentials
from .deadline import Deadline
from .options import BackendOptions
from .record import FORGET_MESSAGES, SessionRecord
from .tcp import TcpKeepalive
from .writes import Watch, WriteRecord

Error, OperationalError = MySQLdb.Error, MySQLdb.OperationalError

_CAPACITY = frozenset({1040, 1203, 1226})
# 2005 is a name that does not resolve: mistyped or not, nobody answers, and every attempt asks the name server again.
# 3032 is MySQL in offline mode, where an operator works on it.
_DOWN = frozenset({1053, 1927, 2002, 2003, 2005, 2006, 2013, 2055, 3032})
# Codes after which this very connection is useless. 4031 is MySQL's farewell after wait_timeout: it waits on the socket
# until the next statement finds it.
_LOST = frozenset({1053, 1927, 2006, 2013, 2014, 2055, 4031})

# Every live connection by id: a forked child has to disarm all of them, also those that a thread was using.
_live: dict[int, weakref.ref[Connection]] = {}

_DENIED = 1045
# A server that does not write any more says this to every write. Not 1792: there the transaction is one for reading by
# its user's own wish.
_READ_ONLY = 1836
_OPTION_FORBIDS = 1290  # any option; the text names it

# Seconds that a server has to answer a question that costs it nothing.
_PATIENCE = 5.0

# So many cursors are remembered before the first look at which of them are still there.
_CURSORS = 64
_ref = weakref.ref


def _code(error: BaseException) -> int:
    code = error.args[0] if error.args else 0
    return code if isinstance(code, int) else 0


def _names_read_only(error: BaseException) -> bool:
    # The option's name stands in the text in every language: --read-only, --super-read-only, --innodb-read-only.
    return any(name in str(error) for name in ("read-only", "read_only"))


class Connection(SessionRecord, BaseConnection):  # type: ignore[misc]
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
            BaseConnection.query(self, query)
        except MySQLdb.Error as error:
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
        except MySQLdb.Error as error:
            self.pending = False
            self._failed(error)
            raise
        self.store_result()

    def _failed(self, error: MySQLdb.Error) -> None:
        code = _code(error)
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
            result = BaseConnection.store_result(self)
        except MySQLdb.Error as error:
            # INSERT … RETURNING fails here: its columns come before the error. The server's is the end of the answer;
            # after the client library's own, 2000 to 2999, rows may be left.
            self.pending = 2000 <= _code(error) < 3000
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
            status = BaseConnection.next_result(self)
        except MySQLdb.Error as error:
            if _code(error) != 2014:  # rows are unread: nothing is wrong with the connection
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
        self.transaction_over()

    def rollback(self) -> None:
        try:
            super().rollback()
        except MySQLdb.Error as error:
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

    def renew(self, user: str, password: str, database: str) -> None:
        """A new session on the same socket; an empty ``database`` is none."""
        super().change_user(user, password, database)


class Watched(WriteRecord, Connection):
    """A connection that tells which tables its transactions wrote."""

    _query = Connection.query

    def settle(self, *, implicit: bool) -> None:
        super().settle(implicit=implicit)
        self.over()

    def start_transaction(self) -> None:
        self.begun()
        super().start_transaction()


class WatchedPlain(WriteRecord, BaseConnection):  # type: ignore[misc]
    """The same without a pool."""

    _query = BaseConnection.query


_kind: type[Connection] = Connection


def watch(by: Watch | None) -> None:
    """From here on all connections tell ``by`` what they write, or, with None, nobody: that costs a statement nothing.

    Pooled ones that are open already do so, too; without a pool the next ones.
    """
    global _kind
    _kind = Connection if by is None else Watched
    if by is not None:
        WriteRecord.watch = by
    for reference in list(_live.values()):
        connection = reference()
        if connection is not None:
            connection.__class__ = _kind


def plain(params: Mapping[str, Any]) -> Any:
    """A connection without a pool; None if nobody wants to know what it writes."""
    if _kind is Connection:
        return None
    connection = WatchedPlain(**params)
    _leave_bytes_alone(connection)
    return connection


def _leave_bytes_alone(connection: BaseConnection) -> None:
    # mysqlclient's encoder of bytes does not work; Django takes it out as well.
    if connection.encoders.get(bytes) is bytes:
        connection.encoders.pop(bytes)


def _hang_up_all() -> None:
    for reference in list(_live.values()):
        connection = reference()
        if connection is not None:
            connection.hang_up()
    _live.clear()


after_in_child(_hang_up_all)


class MySQLDriver:
    """Opens, judges and resets connections for one pool.

    ``params`` are MySQLdb.connect()'s; ``isolation`` is a transaction isolation level or None for the server's.
    ``options.credentials`` is asked before each connect and reset. A connection goes on with those that it was
    opened with until it is reset or replaced; one whose reset is refused is closed.

    ValueError for a time limit of the driver's that is none.

    A server that hangs is given ``connect_timeout`` seconds to answer the pool's own questions, 5 at most. A user's
    statement waits for ever: set ``read_timeout`` in OPTIONS to the longest one there is to end that as well.
    """

    errors: tuple[type[BaseException], ...] = (MySQLdb.Error,)

    def __init__(
        self,
        params: Mapping[str, Any],
        *,
        autocommit: bool,
        isolation: str | None,
        options: BackendOptions = BackendOptions(),  # noqa: B008 - it is frozen
    ) -> None:
        self.credentials = cast("Credentials | None", options.credentials)
        self.tcp_keepalive = cast("TcpKeepalive | None", options.tcp_keepalive)
        self.params = dict(params)
        if "passwd" in self.params:  # the old name, which would win over what ``credentials`` say
            self.params["password"] = self.params.pop("passwd")
        for name in ("connect_timeout", "read_timeout", "write_timeout"):
            value = self.params.get(name, 0)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name!r} must be a whole number of seconds, not {value!r}; 0 is no limit.")
            if value > MOST_SECONDS:
                raise ValueError(f"{name!r} must be at most {MOST_SECONDS} seconds, not {value!r}; 0 is no limit.")
        self.autocommit = autocommit
        self.isolation = isolation
        self.options = options
        ssl = self.params.get("ssl")
        mode = self.params.get("ssl_mode") or ("REQUIRED" if ssl and not isinstance(ssl, Mapping) else None)
        self._must_be_encrypted = mode == "REQUIRED"
        self._patience = min(_PATIENCE, self.params.get("connect_timeout") or _PATIENCE)

    @property
    def address(self) -> str:
        """Where it connects to, for people: no user, no password, no path."""
        name = self.params.get("database") or self.params.get("db") or ""
        if self.params.get("unix_socket"):
            return f"socket/{name}"
        return f"{self.params.get('host') or 'localhost'}:{self.params.get('port') or 3306}/{name}"

    def connect(self, timeout: float) -> Connection:
        params = {**self.params, "autocommit": self.autocommit}
        limit = params.get("connect_timeout") or 0
        if math.isfinite(timeout):
            # The client library counts whole seconds, and 0 means for ever.
            ours = max(1, math.ceil(timeout))
            params["connect_timeout"] = min(limit, ours) if limit else ours
        deadline = Deadline(params.get("connect_timeout") or _PATIENCE)
        try:
            return self._made(self._open({**params, "deadline": deadline}))
        finally:
            deadline.over()

    def _made(self, connection: Connection) -> Connection:
        connection.multiplexed = self.options.release == "transaction"
        connection.starting = self.options.start_transaction
        try:
            if self.tcp_keepalive is not None:
                self.tcp_keepalive.apply(connection.fd)
            if self._must_be_encrypted:
                self._see_that_it_is_encrypted(connection)
            _leave_bytes_alone(connection)
            self._initialise(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open(self, params: dict[str, Any]) -> Connection:
        if self.credentials is None:
            return _kind(**params)
        asked = self.credentials()
        try:
            return _kind(**{**params, **asked})
        except MySQLdb.OperationalError as error:
            if _code(error) != _DENIED:
                raise
            # Rotated between the answer and the connect? Once only, and not with the same: servers lock accounts.
            again = self.credentials()
            if again == asked:
                raise
        return _kind(**{**params, **again})

    def _see_that_it_is_encrypted(self, connection: Connection) -> None:
        # MariaDB's client library goes on in the clear where the server has no TLS, unless certificates are verified.
        Connection.query(connection, b"SHOW SESSION STATUS LIKE 'Ssl_cipher'")  # nobody's, hence not watched
        if not any(cipher for _, cipher in connection.store_result().fetch_row(0)):
            raise MySQLdb.OperationalError(
                2026,
                "TLS/SSL error: SSL is required, but the server does not support it. Switch it on there, or set "
                "'ssl_mode' in OPTIONS to 'PREFERRED' or 'DISABLED'",
            )

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
            conn.dirty
            or conn.broken
            or conn.transaction
            or conn.pending
            or conn.streaming
            or conn.messages
            or conn.fd < 0
            or conn.autocommits is conn.implicit
        ):
            if conn._cursors:
                conn.detach_cursors()
            return True
        if conn.streaming and not conn.pending and conn.open:
            conn.broken = conn.broken or not conn.read_to_the_end()
        if conn._cursors:
            conn.detach_cursors()
        if conn.clean and not (conn.messages and conn.multiplexed):
            return conn.fd >= 0
        if conn.broken or conn.pending or conn.streaming or conn.fd < 0 or not conn.open:
            return False
        # Asked first, since nothing below can be given a time limit: a server that hangs would keep the thread.
        if not conn.answers(self._patience):
            return False
        try:
            if conn.dirty:
                if not self._renew(conn):
                    return False
            elif not conn.clean:
                conn.rollback()
                conn.autocommit(self.autocommit)
            if conn.multiplexed:
                conn.say(FORGET_MESSAGES)
        except MySQLdb.Error:
            conn.broken = True
            return False
        conn.settle(implicit=not self.autocommit)
        conn.messages = False
        return True

    def _renew(self, conn: Connection) -> bool:
        params = self.params
        if self.credentials is not None:
            params = {**params, **self.credentials()}
        user = params.get("user")
        if not user or params.get("read_default_file") or params.get("read_default_group"):
            return False  # the credentials stand in a file that only connect() reads
        password = params.get("password") or ""
        conn.renew(user, password, params.get("database") or params.get("db") or "")
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


def limits(connection: Connection) -> tuple[int, int | None]:
    """How many connections the server allows to all, and to this user; None if it makes no difference."""
    connection.query(b"SELECT @@max_connections, @@max_user_connections")
    [[most, users]] = connection.store_result().fetch_row(0)
    return int(most), int(users) if int(users) > 0 else None
