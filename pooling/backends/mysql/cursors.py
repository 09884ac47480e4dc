"""Cursors of pooled connections, which leave no reference to the connection behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import IntegrityError
from django.db.backends.mysql import base as mysql

from .connection import OperationalError

if TYPE_CHECKING:
    from .release import Releasing


class PooledCursor(mysql.CursorWrapper):
    """Django's cursor, leaving no trace of the connection in the errors that it raises.

    The driver's frames have it among their variables. An error that somebody keeps, as Django does with the one that
    broke a transaction, or that merely waits for the garbage collector, would look like a user of the connection.
    """

    # Django's methods are written out once more, for their errors and for the price of `super()`.

    def execute(self, query: Any, args: Any = None) -> Any:
        try:
            return self.cursor.execute(query, args)
        except BaseException as error:  # noqa: BLE001 - raised again
            raise self._cut(error)  # noqa: B904 - it is the same one, or Django's for it

    def executemany(self, query: Any, args: Any) -> Any:
        try:
            return self.cursor.executemany(query, args)
        except BaseException as error:  # noqa: BLE001
            raise self._cut(error)  # noqa: B904

    def callproc(self, procname: Any, args: Any = ()) -> Any:
        try:
            return self.cursor.callproc(procname, args)
        except BaseException as error:
            error.__traceback__ = None
            raise

    def _cut(self, error: BaseException) -> BaseException:
        """What Django's cursor raises for this error of the driver's."""
        error.__traceback__ = None
        if isinstance(error, OperationalError) and error.args[0] in self.codes_for_integrityerror:
            return IntegrityError(*error.args)
        return error


class ReleasingCursor(PooledCursor):
    """The cursor of a connection that goes back when the cursor is closed."""

    def __init__(self, cursor: Any, wrapper: Releasing) -> None:
        super().__init__(cursor)
        self.wrapper = wrapper
        self._said = -1  # the number of its last statement on the connection
        self._answered = False

    def execute(self, query: Any, args: Any = None) -> Any:
        return self._watched(super().execute, query, args)

    def executemany(self, query: Any, args: Any) -> Any:
        return self._watched(super().executemany, query, args)

    def callproc(self, procname: Any, args: Any = ()) -> Any:
        return self._watched(super().callproc, procname, args)

    def _watched(self, method: Any, *args: Any) -> Any:
        self._answered = False
        try:
            return method(*args)
        finally:
            if self.cursor.connection is not None:
                self._said = self.cursor.connection.statements

    @property
    def lastrowid(self) -> Any:
        self._answered = True
        return self.cursor.lastrowid

    @property
    def rowcount(self) -> Any:
        self._answered = True
        return self.cursor.rowcount

    def close(self) -> None:
        self._judge(self.cursor)
        try:
            self.cursor.close()
        finally:
            self.wrapper._release()

    def _judge(self, cursor: Any) -> None:
        """Write down whether the user may want to ask about the last statement."""
        connection = cursor.connection
        if connection is not None and self._said == connection.statements:
            connection.kept = bool(
                cursor.warning_count or connection.about or (cursor.description is None and not self._answered)
            )
