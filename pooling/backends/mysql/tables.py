"""Which of some tables a statement writes, and what becomes of its transaction (pure; no driver, no Django).

Asked for every statement that is not a plain SELECT. The ordinary forms name their table at the beginning. Of all
others it is assumed that they write what they name anywhere, be it in a literal; and of those that write what they
need not name (CALL, EXECUTE, XA, …, and whatever is not known here), that they write everything. A table too many
costs misses, one too few would leave stale pages.

Not seen: what triggers and stored functions write, and what is written through a view.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable

from .session import TOKENS, TOKENS_PLAIN


class Then(enum.IntEnum):
    """What becomes of the transaction. STAYS is 0, so that a truth test is enough for the usual case."""

    STAYS = 0
    COMMITS = 1  # it may be committed
    BEGINS = 2  # it may be committed, and another may be open
    ENDS = 3  # it is committed, and none is open, unless autocommit is off
    ROLLS_BACK = 4  # it is undone, and none is open, unless autocommit is off


_NONE: frozenset[str] = frozenset()
_GAP = rb"(?:\s|/\*(?!M?!).*?\*/|--(?=\s)[^\n]*\n|\#[^\n]*\n)"
_NAME = rb"""(?:`(?:[^`]|``)+`(?!`)|"(?:[^"]|"")+"(?!")|[\w$\x80-\xff]+(?![\w$\x80-\xff]))"""
# Reserved words are no tables.
_TABLE = (
    rb"(?!(?:INTO|FROM|SET|TABLE|IGNORE|LOW_PRIORITY|HIGH_PRIORITY|DELAYED|QUICK)\b)(?:"
    + _NAME
    + rb"~\.~)?(?P<table>"
    + _NAME
    + rb")(?!~\.)"
)


def _form(*parts: bytes) -> re.Pattern[bytes]:
    """A statement that begins so. A space stands for a gap that must be there, ``~`` for one that may."""
    text = b"~" + b"".join(parts)
    return re.compile(text.replace(b" ", _GAP + b"+").replace(b"~", _GAP + b"*"), re.IGNORECASE | re.DOTALL)


_WORD = _form(rb"(?:\(~)*(?P<word>[A-Za-z]+)")
# Each names one table, the only one that it writes.
_ONE_TABLE = {
    b"INSERT": _form(rb"INSERT\b~(?:(?:LOW_PRIORITY|DELAYED|HIGH_PRIORITY|IGNORE)\b~)*(?:INTO\b~)?", _TABLE),
    b"REPLACE": _form(rb"REPLACE\b~(?:(?:LOW_PRIORITY|DELAYED)\b~)*(?:INTO\b~)?", _TABLE),
    b"UPDATE": _form(
        rb"UPDATE\b~(?:(?:LOW_PRIORITY|IGNORE)\b~)*", _TABLE, rb"(?:~(?:AS )?(?!SET\b)" + _NAME + rb")?~\bSET\b"
    ),
    b"DELETE": _form(
        rb"DELETE\b~(?:(?:LOW_PRIORITY|QUICK|IGNORE)\b~)*FROM\b~",
        _TABLE,
        rb"~(?:\Z|\b(?:WHERE|ORDER|LIMIT|RETURNING)\b)",
    ),
}
# They write what they name, if anything.
_NAMING = frozenset(b"LOAD ALTER CREATE DROP RENAME TRUNCATE REPAIR ANALYZE".split())
# They write no table's rows, and most of them end the transaction.
_HARMLESS = frozenset(
    b"SET LOCK UNLOCK GRANT REVOKE CHECK OPTIMIZE CACHE FLUSH RESET PURGE INSTALL UNINSTALL CHANGE STOP".split()
)
_READING = frozenset(
    b"SELECT SHOW EXPLAIN DESCRIBE DESC VALUES TABLE HANDLER USE HELP DO KILL GET SIGNAL RESIGNAL CHECKSUM SAVEPOINT "
    b"RELEASE PREPARE DEALLOCATE".split()
)
_WHOLE_DATABASE = re.compile(rb"\b(?:DATABASE|SCHEMA)\b", re.IGNORECASE)
# What writes tables that it need not name.
_INDIRECT = re.compile(rb"\b(?:CALL|EXECUTE|XA|BINLOG|IMPORT|DATABASE|SCHEMA)\b", re.IGNORECASE)
_TO_SAVEPOINT = _form(rb"ROLLBACK(?: WORK)? TO\b")
_CHAIN = re.compile(rb"\bAND\s+CHAIN\b", re.IGNORECASE)
_FOR_ONE_STATEMENT = _form(rb"SET STATEMENT\b")
_VERB = re.compile(rb"\b(SELECT|UPDATE|DELETE|INSERT|REPLACE)\b", re.IGNORECASE)
_INNERMOST = re.compile(rb"\([^()]*\)")
_QUOTES = (b"'", b'"', b"`")


class Tables:
    """Names of tables, to be found in statements. Upper and lower case are not told apart, nor are schemas."""

    def __init__(self, names: Iterable[str]) -> None:
        self.all = frozenset(names)
        self._known: dict[str, frozenset[str]] = {}
        for name in self.all:
            key = _folded(name.encode())
            self._known[key] = self._known.get(key, _NONE) | {name}
        plain = {name for name in self.all if re.fullmatch(r"[\w$ .-]+", name, re.ASCII)}
        # These may be spelled in ways that depend on the charset and the sql_mode.
        self._odd = self.all - plain
        self._named = (
            re.compile(
                rb"(?<![\w$\x80-\xff])(?:"
                + b"|".join(re.escape(name.encode()) for name in sorted(plain))
                + rb")(?![\w$\x80-\xff])",
                re.IGNORECASE,
            )
            if plain
            else None
        )

    def examine(self, statement: bytes, *, backslash: bool) -> tuple[frozenset[str], Then]:
        """Which of the tables ``statement``, as it is sent, may write, and what becomes of its transaction.

        ``backslash``: whether it escapes in a literal, by sql_mode.
        """
        tokens = TOKENS if backslash else TOKENS_PLAIN
        found = _WORD.match(statement)
        word = found["word"].upper() if found else b""
        code = statement.rstrip(b"; \t\r\n\0")
        if (b";" in code or b"/*!" in code or b"/*M!" in code) and not _is_one(tokens.sub(b" ", code)):
            return self.all if _INDIRECT.search(code) else self._mentioned(code), Then.BEGINS
        if word in _ONE_TABLE:
            form = _ONE_TABLE[word].match(code)
            return (self._mentioned(code) if form is None else self._of(form["table"])), Then.STAYS
        if word in _READING:
            # With ANALYZE a statement is carried out.
            analyzes = word in (b"EXPLAIN", b"DESCRIBE", b"DESC") and b"ANALYZE" in code.upper()
            return (self._mentioned(code) if analyzes else _NONE), Then.STAYS
        if word == b"WITH":
            return (self._mentioned(code) if _with_writes(tokens.sub(b" ", code)) else _NONE), Then.STAYS
        if word == b"SET" and _FOR_ONE_STATEMENT.match(code):
            return self._mentioned(code), Then.BEGINS
        if word in (b"COMMIT", b"ROLLBACK"):
            return _NONE, _end(word, code)
        if word in (b"START", b"BEGIN"):
            return _NONE, Then.BEGINS
        if word in _HARMLESS:
            return _NONE, Then.COMMITS
        if word in _NAMING and not _WHOLE_DATABASE.search(code):
            return self._mentioned(code), Then.STAYS if word == b"LOAD" else Then.COMMITS
        return (self.all, Then.BEGINS) if code.strip() else (_NONE, Then.STAYS)

    def _of(self, name: bytes) -> frozenset[str]:
        if name[:1] in (b"`", b'"'):
            name = name[1:-1].replace(name[:1] * 2, name[:1])
        return self._known.get(_folded(name), _NONE)

    def _mentioned(self, code: bytes) -> frozenset[str]:
        found = set(self._odd)
        for name in self._named.findall(code) if self._named is not None else ():
            found |= self._known[_folded(name)]
        return frozenset(found)


def _folded(name: bytes) -> str:
    if name.isascii():
        return name.decode().lower()
    # What is not ASCII depends on the connection's charset: all such signs are taken for the same.
    return re.sub("\ufffd+", "\ufffd", name.decode("ascii", "replace")).lower()


def _is_one(code: bytes) -> bool:
    """Whether it is surely one statement, with no executable comment in it. ``code`` is without literals."""
    return not any(sign in code for sign in (b";", b"/*", *_QUOTES))


def _with_writes(code: bytes) -> bool:
    """Whether a statement that begins with WITH goes on with something other than a query."""
    before = None
    while code != before:
        before, code = code, _INNERMOST.sub(b" ", code)
    verb = _VERB.search(code)
    return any(quote in code for quote in _QUOTES) or (verb is not None and verb[1].upper() != b"SELECT")


def _end(word: bytes, code: bytes) -> Then:
    if word == b"ROLLBACK" and _TO_SAVEPOINT.match(code):
        return Then.STAYS
    if _CHAIN.search(code):
        return Then.BEGINS
    return Then.ENDS if word == b"COMMIT" else Then.ROLLS_BACK
