"""What the user of a connection did to its session, as far as its statements tell; no driver, no Django.

The driver's connection derives from `SessionRecord` and shows it every statement before it is sent. The server is never
asked about its state.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .session import About, Effect, about, backslash_escapes, classify

# Errors that undo one statement and never the transaction around it, those that Django's own code provokes.
_STATEMENT_ONLY = frozenset({1048, 1054, 1062, 1064, 1146, 1364, 1406, 1451, 1452})
# It reads a table, so the messages of the statement before are gone; on MariaDB most other statements leave them.
FORGET_MESSAGES = b"SELECT 1 FROM (SELECT 1) AS nothing"
# What a new session answers when it is asked for its last number and for the rows found.
_NO_NUMBER, _NO_ROWS = b"DO LAST_INSERT_ID(0)", b"SELECT 1 LIMIT 0"
_NUMBERING = re.compile(rb"INSERT|REPLACE|LOAD|CALL|EXECUTE", re.IGNORECASE)
_GONE = (
    "This statement asks for what the session says about the statement before it (LAST_INSERT_ID(), ROW_COUNT(), "
    "FOUND_ROWS()), but with release='transaction' the connection of that statement has gone back to the pool. Ask "
    "with the same cursor, or inside the same transaction.atomic(); cursor.lastrowid and cursor.rowcount are there "
    "without asking."
)


class SessionRecord:
    """``dirty``: needs a reset. ``broken``: must be closed. ``transaction``: one may be open that the client library
    does not show. ``pending``: a statement was sent whose result nobody has taken. ``streaming``: one was taken row
    by row, and is not known to be read to its end. ``implicit``: every statement may open a transaction.
    ``autocommits``: as it was switched last.

    ``starting``: `atomic()` is to use `start_transaction`. ``started``: it did. ``doubtful``: that one may be over.

    ``multiplexed``: the connection goes from user to user in the middle of their requests. Then only: ``foreign``: its
    last statement was somebody else's. ``about``: what the last one asked. ``kept``: its user may want to ask about it.
    ``statements``: how many there were.
    ``numbered``, ``found``: LAST_INSERT_ID() and FOUND_ROWS() may be of its user's. ``messages``: there may be some.
    """

    multiplexed = starting = False
    dirty: bool
    transaction: bool
    doubtful: bool

    if TYPE_CHECKING:
        ProgrammingError: type[Exception]

        def autocommit(self, on: bool) -> None: ...

        def string_literal(self, text: bytes) -> bytes: ...

        def say(self, statement: bytes) -> None:
            """Send a statement that is nobody's, and throw away what comes."""

    def __init__(self, **kwargs: Any) -> None:
        self.broken = self.foreign = self.numbered = self.found = self.messages = False
        self.about = About.NOTHING
        self.statements = 0
        self.settle(implicit=False)
        super().__init__(**kwargs)

    def settle(self, *, implicit: bool) -> None:
        """The session is in its initial state from here on. ``implicit``: every statement may open a transaction."""
        self.dirty = self.pending = self.streaming = False
        self.implicit = implicit
        self.autocommits = not implicit
        self.transaction_over()

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

    # ----- statements -----

    def before(self, statement: bytes) -> Effect:
        """``statement`` is about to be sent. ProgrammingError: it must not be."""
        if self.multiplexed:
            self._heed(statement)
        effect = classify(statement)
        if effect or self.implicit:
            if effect >= Effect.DIRTY:
                self.dirty = True
                self.broken = self.broken or effect is Effect.UNCLEAR
            elif effect is Effect.BEGINS or self.implicit:
                self.transaction = True
        if self.doubtful:
            self.started = self.doubtful = False
            self.autocommit(False)
        return effect

    def after(self, effect: Effect) -> None:
        """A statement of this effect, which is not CLEAN, was carried out."""
        if effect is Effect.ENDS:
            self.transaction = False
        self.doubtful = self.started and effect is not Effect.BEGINS

    def failed(self, code: int) -> None:
        """A statement ended with an error of the server's or the client library's."""
        self.messages = True
        self.doubtful = self.doubtful or (self.started and code not in _STATEMENT_ONLY)

    def lent(self) -> None:
        """It is somebody else's from here on."""
        self.foreign, self.kept, self.numbered, self.found = self.multiplexed, False, False, False

    def _heed(self, statement: bytes) -> None:
        """Let no statement ask this session about somebody else's. Messages are not there: a return forgets them."""
        asked = about(statement, backslash=backslash_escapes(statement, self.string_literal))
        # Asked first whether there is anything, for `&` of an enumeration is a function written in Python.
        if asked and asked & (About.ASKS_NUMBER | About.ASKS_COUNTS):
            if self.foreign:
                raise self.ProgrammingError(_GONE)
            if asked & About.ASKS_NUMBER and not self.numbered:
                self.say(_NO_NUMBER)
            if not self.found and b"FOUND_ROWS" in statement.upper():
                self.say(_NO_ROWS)
        self.about, self.foreign = asked, False
        self.statements += 1
        self.numbered = self.numbered or bool((asked and asked & About.LEAVES) or _NUMBERING.search(statement))
        self.found = self.found or statement.upper().find(b"SELECT") >= 0

    # ----- transactions -----

    def start_transaction(self) -> None:
        """Begin what `atomic()` needs, under autocommit.

        Two things end a transaction behind its user's back, an implicit commit and an error by which the server
        rolls back everything; with autocommit on, his next statements would be committed one by one. The server's
        answer does not show it. So when it may have happened, autocommit is switched off before the next statement:
        from there on all is as it would be without ``starting``.
        """
        self.transaction = True
        self.say(b"START TRANSACTION")
        self.started = True

    def transaction_over(self) -> None:
        """COMMIT or ROLLBACK was carried out."""
        self.transaction = self.started = self.doubtful = self.kept = False
