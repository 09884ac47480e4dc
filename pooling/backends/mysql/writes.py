"""Connections that say which tables their transactions wrote; no driver, no Django.

`WriteRecord` is mixed into the driver's connection, so that raw use of ``connection.connection`` is seen as well as
Django's cursors. It is told of every statement before it is sent, and tells its `Watch` before and after whatever may
commit: COMMIT, a write under autocommit, and statements that end a transaction by the way. In doubt it says so once
too often, and keeps what it said for the next time.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from .session import backslash_escapes
from .tables import Tables, Then

_NOTHING: frozenset[str] = frozenset()
_SEMICOLON = ord(";")  # `in` with a number is ten times cheaper than with bytes
# MariaDB's SET STATEMENT … FOR carries out another statement.
_SETTING = re.compile(rb"SET\s(?!.*STATEMENT)[^;]*\Z", re.IGNORECASE | re.DOTALL)


class Watch(Protocol):
    """Who is told. ``names`` are those of `tables`, as they are spelled there."""

    @property
    def tables(self) -> Tables:
        """What to look for. What it raises fails the statement that is about to be sent."""
        ...

    def writing(self, connection: Any, names: frozenset[str]) -> None:
        """``connection`` is about to write these. Whether it will be committed is open."""
        ...

    def committing(self, names: frozenset[str]) -> AbstractContextManager[Any]:
        """Entered before a commit of writes of these, and left after it, however it ended. Neither may raise."""
        ...


class WriteRecord:
    """``written``: tables that the open transaction wrote. ``trailing``: statements that were sent may still run."""

    watch: ClassVar[Watch]
    written: frozenset[str] = _NOTHING
    trailing = False
    _begun = False  # a transaction is open although autocommit is on
    _unclear = False  # one may be

    if TYPE_CHECKING:
        open: int

        # The `query` behind this one; named by the class that this is mixed into, since super() would cost a read more
        # than all else here.
        def _query(self, query: Any) -> None: ...

        def get_autocommit(self) -> bool: ...

        def more_results(self) -> bool: ...

        def string_literal(self, text: bytes) -> bytes: ...

    def query(self, query: Any) -> None:
        if query[:6] == b"SELECT" and _SEMICOLON not in query:
            self._query(query)
            return
        statement = query.encode("utf-8", "surrogateescape") if isinstance(query, str) else bytes(query)
        if not self.written and _SETTING.match(statement):
            self._query(query)  # a session's settings: with nothing written they end nothing
            return
        names, then = self._examine(statement)
        if not self.written or not (then or (names and self._commits_at_once())):
            self._query(query)
        elif then is Then.ROLLS_BACK:
            self._query(query)
            self.written = _NOTHING
        else:
            try:
                with self.watch.committing(self.written):
                    self._query(query)
                # The server may still be at the next statement, or in the middle of a procedure.
                self.trailing = then is Then.BEGINS and bool(self.more_results())
            finally:
                self._forget()
        if then is Then.ENDS or then is Then.ROLLS_BACK:
            self._begun = self._unclear = False
            self._forget()

    def _examine(self, statement: bytes) -> tuple[frozenset[str], Then]:
        escapes = backslash_escapes(statement, self.string_literal)
        names, then = self.watch.tables.examine(statement, backslash=escapes)
        # Before it is sent, so that no interrupt comes between.
        if then is Then.BEGINS:
            self._unclear = True
        if names:
            self.written |= names
            self.watch.writing(self, names)
        return names, then

    def _commits_at_once(self) -> bool:
        # A closed connection can only refuse, in its own words.
        return not self._begun and bool(self.open) and self.get_autocommit()

    def _forget(self) -> None:
        """What was written is committed, unless a transaction may be open."""
        if not self.trailing and not self._unclear and self._commits_at_once():
            self.written = _NOTHING

    def commit(self) -> None:
        if self.written:
            with self.watch.committing(self.written):
                super().commit()  # type: ignore[misc]
        else:
            super().commit()  # type: ignore[misc]
        self.over()

    def rollback(self) -> None:
        super().rollback()  # type: ignore[misc]
        self.over()

    def over(self) -> None:
        """No transaction of before is open."""
        self._begun = self._unclear = self.trailing = False
        self.written = _NOTHING

    def begun(self) -> None:
        """A transaction was begun, and not by `query`."""
        self._begun = True

    def autocommit(self, on: bool) -> None:
        if on and self.written:
            with self.watch.committing(self.written):  # it commits
                super().autocommit(on)  # type: ignore[misc]
            self.over()
        else:
            super().autocommit(on)  # type: ignore[misc]

    def next_result(self) -> Any:
        if not self.trailing:
            return super().next_result()  # type: ignore[misc]
        with self.watch.committing(self.written):
            status = super().next_result()  # type: ignore[misc]
        self.trailing = status == 0
        self._forget()
        return status

    def send_query(self, *args: Any, **kwargs: Any) -> Any:
        query = args[0] if args else b""
        self._examine(query.encode("utf-8", "surrogateescape") if isinstance(query, str) else bytes(query))
        # When it will be carried out is not known here.
        self._unclear = True
        self.trailing = bool(self.written)
        return super().send_query(*args, **kwargs)  # type: ignore[misc]

    def read_query_result(self) -> Any:
        if not self.written:
            return super().read_query_result()  # type: ignore[misc]
        with self.watch.committing(self.written):
            return super().read_query_result()  # type: ignore[misc]

    def close(self) -> None:
        if self.trailing:
            with self.watch.committing(self.written):
                super().close()  # type: ignore[misc]
        else:
            super().close()  # type: ignore[misc]
        self.over()
