"""When a wrapper gives its pooled connection back, and when it must not.

Under ``release="request"`` that is at `close()`. Under ``release="transaction"`` it is as soon as nothing needs it any
more: after the outermost COMMIT or ROLLBACK, or at the end of a cursor outside of a transaction. The wrapper is
then *parked*: it has no attribute ``connection`` of its own, and whoever reads it, Django or a user, gets one from the
pool, by way of the class's. While there is one it is an ordinary attribute, so that nobody pays for this.

A connection stays with its wrapper

* in a transaction, with autocommit off, and with a session that is not clean;
* while a cursor is open, or anybody at all has a reference to the driver's connection: the interpreter counts them;
* after a statement that its user may want to ask about, until his next one: one that had warnings, one without a
  result, failed ones too, of which nobody has read ``cursor.lastrowid`` or ``cursor.rowcount`` (Django's ORM reads one
  of them), and any that names LAST_INSERT_ID, ROW_COUNT, FOUND_ROWS or warnings.

So most questions meet the connection that can answer. A later one is refused (see `SessionRecord`), since another
connection would answer about somebody else's statement. That depends on the code alone, not on how busy the pool is.
"""

from __future__ import annotations

import logging
import sys
import threading
from asyncio import _get_running_loop
from typing import Any

from django.db import OperationalError
from django.db.backends.mysql import base as mysql
from django.db.backends.utils import debug_transaction
from django.utils.asyncio import async_unsafe

from pooling.pool.state import COUNTS_REFERENCES

from .connection import Connection, Error
from .cursors import PooledCursor, ReleasingCursor

log = logging.getLogger("pooling.backends")


def _alone() -> int:
    """What `sys.getrefcount` says in `_releasable` of a connection that only its wrapper and its pool refer to."""
    wrapper = {"connection": object()}
    pool = [wrapper.get("connection")]
    connection = wrapper.get("connection")
    return sys.getrefcount(connection) if pool else 0


# At most as without a tracer that reads the variables of `_alone`, which adds a reference before Python 3.13: with the
# higher number a connection that its user refers to would go to the next one.
_ALONE = min(_alone(), 4)

_PARKED = object()

# Django's guard raises an error and catches it to see that no event loop runs; that costs as much as the pool's part of
# a checkout. So what every request calls looks in a cheaper way, and does what Django's method does.
_GUARD = async_unsafe(len).__code__


def djangos(name: str) -> Any:
    """The wrapper's method of this name if it is as Django wrote it. None if something, such as a library that records
    what a request does, put its own in the place before: then that one is called, always."""
    method = getattr(mysql.DatabaseWrapper, name)
    return method if getattr(method, "__code__", None) is _GUARD else None


_CLOSE = djangos("close")


class _Attachment:
    """What ``connection`` is while the wrapper has none: an attribute of the instance comes before it."""

    def __get__(self, wrapper: Releasing | None, owner: type | None = None) -> Any:
        return self if wrapper is None else wrapper._attach()


class Releasing(mysql.DatabaseWrapper):
    """The half of `DatabaseWrapper` that is about giving back."""

    connection: Any = _Attachment()
    _pool_option: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._checking_out = False
        self._checking_health = False

    # ----- at the end -----

    def close(self) -> None:
        connection = self.__dict__.get("connection")
        if (
            not isinstance(connection, Connection)
            or self.in_atomic_block
            or self.closed_in_transaction
            or _get_running_loop() is not None
            or mysql.DatabaseWrapper.close is not _CLOSE
        ):
            if self._parked:
                self.connection = None
            super().close()
            return
        if self._thread_ident != threading.get_ident():  # type: ignore[attr-defined]
            self.validate_thread_sharing()
        self.run_on_commit = []
        try:
            self._close()
        finally:
            self.connection = None

    def _close(self) -> None:
        connection = self.connection
        if not isinstance(connection, Connection):
            super()._close()  # type: ignore[misc]
            return
        try:
            self._give_back(discard=connection.broken or self._checking_health)
        except Error:
            with self.wrap_database_errors:
                raise

    def _give_back(self, *, discard: bool) -> None:
        # Forgotten first: whatever happens below, this wrapper has it no more.
        connection, self.connection = self.connection, None
        pool, connection.pool = connection.pool, None
        if connection.abandoned or pool is None:
            return
        try:
            if connection.read_only:
                if pool.evict(connection):
                    log.warning(
                        "%s: the server does not write any more; all connections are replaced.",
                        self.alias,
                        extra={"pool": self.alias},
                    )
            elif discard:
                pool.discard(connection)
            else:
                pool.putconn(connection)
        except ValueError as error:
            # The thread that took it ended without closing, and this one comes too late. The pool has seen to it.
            log.warning("%s: %s", self.alias, error, extra={"pool": self.alias, "error": type(error).__name__})

    def is_usable(self) -> bool:
        parked = self._parked
        try:
            if self.connection is None:
                return False
        except OperationalError:  # there was none to be had
            return False
        if not isinstance(self.connection, Connection):
            return bool(super().is_usable())
        if self.connection.abandoned or not super().is_usable():
            # Given back, it would be the first that the next checkout gets.
            self.connection.broken = True
            return False
        if parked:
            self._release()
        return True

    def close_if_health_check_failed(self) -> None:
        # Called before every cursor and every transaction.
        connection = self.__dict__.get("connection")
        if connection is None:
            return  # the pool judges what it lends
        if isinstance(connection, Connection) and connection.abandoned:
            # Made before a fork: it is the parent's. A transaction of the parent cannot be gone on with.
            self.close()
        if self.health_check_done or not self.health_check_enabled:  # type: ignore[attr-defined]
            return  # as Django's does
        # Whatever this closes has failed its check: given back, it would be the first that the next checkout gets.
        self._checking_health = True
        try:
            super().close_if_health_check_failed()
        finally:
            self._checking_health = False

    def close_if_unusable_or_obsolete(self) -> None:
        # Django would go a long way to find that CONN_MAX_AGE is 0. What failed is asked about first, as there.
        connection = self.__dict__.get("connection", _PARKED)
        if connection is None:
            return
        ours = isinstance(connection, Connection) and self.close_at is not None and not self.errors_occurred
        if ours or connection is _PARKED:
            self.close()
        else:
            super().close_if_unusable_or_obsolete()

    def validate_thread_sharing(self) -> None:
        # Django asks first whether others may use it too, under a lock.
        if self._thread_ident != threading.get_ident():  # type: ignore[attr-defined]
            super().validate_thread_sharing()

    # ----- earlier -----

    @property
    def _parked(self) -> bool:
        return "connection" not in self.__dict__

    def _attach(self) -> Any:
        # `connect()` is not for this: to Django, and to receivers of `connection_created`, it is the same connection.
        self._checking_out = self._pool_option is not None
        try:
            with self.wrap_database_errors:
                connection = self.get_new_connection(self.get_connection_params())
        finally:
            self._checking_out = False
        self.connection = connection
        return connection

    def _releasable(self) -> bool:
        """Whether nobody would miss the connection: no transaction, cursor, reference to it or session state."""
        connection = self.__dict__.get("connection")
        return (
            isinstance(connection, Connection)
            and self.autocommit  # off in every transaction, as Django sees it
            and not self._checking_out
            and connection.clean
            # A cursor that is open refers to it as well.
            and (sys.getrefcount(connection) <= _ALONE if COUNTS_REFERENCES else not connection.has_open_cursors)
        )

    def _park(self) -> None:
        self._give_back(discard=False)
        del self.connection

    def _release(self) -> None:
        """Park, if the connection is one that goes back early and nothing needs it now."""
        connection = self.__dict__.get("connection")
        if connection is None or not getattr(connection, "multiplexed", False) or connection.kept:
            return
        del connection
        # A generator that is collected closes its cursor in whatever thread that happens.
        ours = self.allow_thread_sharing or self._thread_ident == threading.get_ident()  # type: ignore[attr-defined]
        if ours and self._releasable():
            self._park()

    def release_if_clean(self) -> bool:
        """Give the pooled connection back early, before a wait for something else, and say whether it was done.

        Nothing happens without a pool, in a transaction, with autocommit off, with a session that is not clean, or
        while a cursor is open, or the driver's connection in somebody's hands, that its user may want to go on with.
        """
        if self.run_on_commit or not self._releasable():
            return False
        if self.connection.multiplexed:
            self._park()
        else:
            self.close()
        return True

    def create_cursor(self, name: Any = None) -> Any:
        connection = self.connection
        if not isinstance(connection, Connection):
            return super().create_cursor(name)
        cursor = connection.cursor()
        return ReleasingCursor(cursor, self) if connection.multiplexed else PooledCursor(cursor)

    def get_autocommit(self) -> bool:
        if self._parked:
            return bool(self.autocommit)
        connects = self.connection is None
        autocommit = bool(super().get_autocommit())
        if connects:
            self._release()
        return autocommit

    def set_autocommit(self, autocommit: bool, *args: Any, **kwargs: Any) -> None:
        found = self._checking_out and self.connection.autocommits is autocommit
        if found and not self.run_commit_hooks_on_set_autocommit_on:
            self.autocommit = autocommit  # a checkout finds it so; Django would go a long way to set it once more
            return
        try:
            super().set_autocommit(autocommit, *args, **kwargs)
        finally:
            if autocommit:
                self._release()

    def _start_transaction_under_autocommit(self) -> None:
        # Django looks for this method when `atomic()` begins, and calls it instead of `_set_autocommit(False)`.
        connection = self.connection
        with debug_transaction(self, "BEGIN"):
            if isinstance(connection, Connection) and connection.starting:
                with self.wrap_database_errors:
                    connection.start_transaction()
            else:
                self._set_autocommit(False)  # type: ignore[attr-defined]

    def run_and_clear_commit_hooks(self) -> None:
        # Their transaction is over, and they may well wait for something else than this database.
        self._release()
        super().run_and_clear_commit_hooks()

    def _commit(self) -> None:
        if not self._parked:
            super()._commit()  # type: ignore[misc]

    def _rollback(self) -> None:
        if not self._parked:
            super()._rollback()  # type: ignore[misc]
