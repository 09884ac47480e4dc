"""What the pool asks of MySQL and MariaDB: its Driver, over the connections of `connection`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from pooling._numbers import MOST_SECONDS
from pooling.pool import Failure

from .connection import Connection, Error, OperationalError, code_of, leave_bytes_alone
from .credentials import Credentials
from .deadline import Deadline
from .options import BackendOptions
from .record import FORGET_MESSAGES
from .tcp import TcpKeepalive
from .watched import opened

_CAPACITY = frozenset({1040, 1203, 1226})
# 2005 is a name that does not resolve: mistyped or not, nobody answers, and every attempt asks the name server again.
# 3032 is MySQL in offline mode, where an operator works on it.
_DOWN = frozenset({1053, 1927, 2002, 2003, 2005, 2006, 2013, 2055, 3032})
_DENIED = 1045

# Seconds that a server has to answer a question that costs it nothing.
_PATIENCE = 5.0


class MySQLDriver:
    """Opens, judges and resets connections for one pool.

    ``params`` are MySQLdb.connect()'s; ``isolation`` is a transaction isolation level or None for the server's.
    ``options.credentials`` is asked before each connect and reset. A connection goes on with those that it was
    opened with until it is reset or replaced; one whose reset is refused is closed.

    ValueError for a time limit of the driver's that is none.

    A server that hangs is given ``connect_timeout`` seconds to answer the pool's own questions, 5 at most. A user's
    statement waits for ever: set ``read_timeout`` in OPTIONS to the longest one there is to end that as well.
    """

    errors: tuple[type[BaseException], ...] = (Error,)

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
            leave_bytes_alone(connection)
            self._initialise(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open(self, params: dict[str, Any]) -> Connection:
        if self.credentials is None:
            return opened(params)
        asked = self.credentials()
        try:
            return opened({**params, **asked})
        except OperationalError as error:
            if code_of(error) != _DENIED:
                raise
            # Rotated between the answer and the connect? Once only, and not with the same: servers lock accounts.
            again = self.credentials()
            if again == asked:
                raise
        return opened({**params, **again})

    def _see_that_it_is_encrypted(self, connection: Connection) -> None:
        # MariaDB's client library goes on in the clear where the server has no TLS, unless certificates are verified.
        Connection.query(connection, b"SHOW SESSION STATUS LIKE 'Ssl_cipher'")  # nobody's, hence not watched
        if not any(cipher for _, cipher in connection.store_result().fetch_row(0)):
            raise OperationalError(
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
        except Error:
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
        except Error:
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
        code = code_of(error)
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
