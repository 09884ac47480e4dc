"""What a statement does to the session it runs in (pure; no driver, no Django).

The driver's connection asks this for every statement it sends, so the ordinary case has to cost next to
nothing: one look at the first word and a few substring searches. Only a statement that contains something
suspicious, perhaps merely inside a literal, is taken apart. Doubt is always answered with DIRTY.

Not seen: what stored functions and triggers do to the session.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable


class Effect(enum.IntEnum):
    """What is left behind in the session. CLEAN is 0, so that a truth test is enough for the usual case."""

    CLEAN = 0
    COMMITS = 1  # nothing, but an open transaction may be over
    BEGINS = 2  # an explicit transaction is open now
    ENDS = 3  # the explicit transaction is over
    DIRTY = 4  # the session must be reset before somebody else uses it
    UNCLEAR = 5  # a reset does not undo it: the connection must be closed


class About(enum.IntFlag):
    """What a statement has to do with what stands in the session about the statement before. 0 for nearly all."""

    NOTHING = 0
    LEAVES = 1  # it leaves something there that a SELECT commonly does not
    ASKS_WARNINGS = 2  # it asks for the messages of the statement before
    ASKS_COUNTS = 4  # it asks for ROW_COUNT() or FOUND_ROWS()
    ASKS_NUMBER = 8  # it asks for LAST_INSERT_ID()


_CLEAN_WORDS = frozenset(
    b"SELECT INSERT UPDATE DELETE REPLACE WITH VALUES TABLE SHOW EXPLAIN DESCRIBE DESC SAVEPOINT RELEASE KILL".split()
)
_COMMITTING_WORDS = frozenset(b"CREATE ALTER DROP TRUNCATE RENAME ANALYZE CHECK OPTIMIZE GRANT REVOKE UNLOCK".split())
# Looked up in the enumeration each costs as much as a call.
_CLEAN, _NOTHING = Effect.CLEAN, About.NOTHING
# How nearly all statements begin.
_PLAIN_STARTS = frozenset(
    word + space for word in (b"SELECT", b"INSERT", b"UPDATE", b"DELETE") for space in (b" ", b"\n")
)
_AT, _SEMICOLON, _SLASH, _K, _X, _BACKSLASH = b"@;/KX\\"
_FIRST_WORD = re.compile(rb"[\s(]*([A-Za-z]+)")
# Tokens in which nothing is code; in PLAIN a backslash escapes nothing. An executable comment is code and is not
# matched; a hint is a comment.
_COMMENT = rb"--(?=\s|\Z)[^\n]*|\#[^\n]*|/\*(?!M?!).*?\*/"
_QUOTED = rb"""|'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*"|`(?:[^`]|``)*`"""
_QUOTED_PLAIN = rb"""|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`"""
TOKENS = re.compile(_COMMENT + _QUOTED, re.DOTALL)
TOKENS_PLAIN = re.compile(_COMMENT + _QUOTED_PLAIN, re.DOTALL)
# A user variable (not a @@system one), a second statement, a quote or a comment left open, a user lock, a sequence
# (which the session remembers for LASTVAL).
_HAZARD = re.compile(rb"(?<!@)@(?!@)|:=|;|['\"`]|/\*|\*/|_LOCK|\bNEXTVAL\b|\bNEXT\s+VALUE\s+FOR\b", re.IGNORECASE)
_CREATE_TEMPORARY = re.compile(rb"\s*CREATE\s+(?:OR\s+REPLACE\s+)?TEMPORARY\b", re.IGNORECASE)
_START = re.compile(rb"\s*(?:START\s+TRANSACTION\b|BEGIN(?:\s+WORK)?\s*\Z)", re.IGNORECASE)
_END = re.compile(rb"\s*(?:COMMIT|ROLLBACK)(?:\s+WORK)?\s*\Z", re.IGNORECASE)
_CHAIN = re.compile(rb"\s*(?:COMMIT|ROLLBACK)(?:\s+WORK)?\s+AND\s+CHAIN\s*\Z", re.IGNORECASE)
# What outlives a reset: distributed transactions, and MySQL's resource groups, which belong to the thread.
_BEYOND = re.compile(rb"\bXA\b|\bSET\s+RESOURCE\s+GROUP\b", re.IGNORECASE)
_ROLLBACK_TO = re.compile(rb"\s*ROLLBACK(?:\s+WORK)?\s+TO\b", re.IGNORECASE)
_VARIABLE = rb"@@(?:(?:SESSION|LOCAL)\s*\.\s*)?"
_NUMBER = re.compile(rb"\bLAST_INSERT_ID\s*\(\s*\)|" + _VARIABLE + rb"(?:IDENTITY|LAST_INSERT_ID)\b", re.IGNORECASE)
_COUNTS = re.compile(rb"\b(?:ROW_COUNT|FOUND_ROWS)\s*\(\s*\)", re.IGNORECASE)
_WARNINGS = re.compile(
    rb"\bSHOW\s+(?:COUNT\s*\(\s*\*\s*\)\s*)?(?:WARNINGS|ERRORS)\b|\bGET\s.*\bDIAGNOSTICS\b|"
    + _VARIABLE
    + rb"(?:WARNING|ERROR)_COUNT\b",
    re.IGNORECASE | re.DOTALL,
)


def backslash_escapes(statement: bytes, literal: Callable[[bytes], bytes]) -> bool:
    """Whether a backslash escapes in the literals of ``statement``, which sql_mode decides; True if it has none.
    ``literal`` is the connection's own way to write one."""
    return _BACKSLASH not in statement or literal(b"'") == b"'\\''"


def classify(statement: bytes) -> Effect:
    """The effect of ``statement`` (as sent, parameters filled in) on its session."""
    upper = statement.upper()
    # Looked for by number or with `find`: `in` with bytes first tries to make a number of them, and the error that it
    # meets and drops made these lines the dearest of a request. K and X are rarer than `find` is dear.
    if (
        upper[:7] in _PLAIN_STARTS
        and _AT not in upper
        and _SEMICOLON not in upper
        and (_SLASH not in upper or upper.find(b"/*") < 0)
        and (_K not in upper or upper.find(b"_LOCK") < 0)
        and (_X not in upper or upper.find(b"NEXT") < 0)
    ):
        return _CLEAN
    return _examine(statement)


def _examine(statement: bytes) -> Effect:
    # Whether a backslash escapes depends on sql_mode, which is not known here: the statement must be harmless
    # under both readings.
    effect = _judge(TOKENS.sub(b" ", statement))
    if effect is not Effect.UNCLEAR and _BACKSLASH in statement:
        effect = max(effect, _judge(TOKENS_PLAIN.sub(b" ", statement)))
    return effect


def _judge(code: bytes) -> Effect:
    code = code.rstrip(b"; \t\r\n\0")
    first = _FIRST_WORD.match(code)
    word = first.group(1).upper() if first else b""
    # Anywhere else the words may be names.
    if (word in (b"", b"XA", b"SET") or b";" in code) and _BEYOND.search(code):
        return Effect.UNCLEAR
    if not word:
        return Effect.DIRTY if code.strip() else Effect.CLEAN
    if _HAZARD.search(code):
        return Effect.DIRTY
    if word in (b"START", b"BEGIN") and _START.match(code):
        return Effect.BEGINS
    if word in (b"COMMIT", b"ROLLBACK"):
        if _END.match(code):
            return Effect.ENDS
        if _CHAIN.match(code):
            return Effect.BEGINS
        return Effect.CLEAN if _ROLLBACK_TO.match(code) else Effect.DIRTY
    if word in _CLEAN_WORDS:
        return Effect.CLEAN
    return Effect.DIRTY if word not in _COMMITTING_WORDS or _CREATE_TEMPORARY.match(code) else Effect.COMMITS


def about(statement: bytes, *, backslash: bool) -> About:
    """What ``statement`` asks about the one before it. ``backslash``: whether it escapes in a literal, by sql_mode.

    An answer that is too much would refuse a statement for a text that somebody typed, so literals are told from code
    exactly; only LEAVES may be said for one in a literal.
    """
    upper = statement.upper()
    found = _NOTHING
    find = upper.find
    if find(b"LAST_INSERT_ID") >= 0 or find(b"ROW_COUNT") >= 0 or find(b"FOUND_ROWS") >= 0:
        found = About.LEAVES
    elif find(b"WARNING") < 0 and find(b"ERROR") < 0 and _AT not in upper and find(b"DIAGNOSTICS") < 0:
        return found
    code = (TOKENS if backslash else TOKENS_PLAIN).sub(b" ", statement)
    if _NUMBER.search(code):
        found |= About.ASKS_NUMBER
    if _COUNTS.search(code):
        found |= About.ASKS_COUNTS
    if _WARNINGS.search(code):
        found |= About.ASKS_WARNINGS
    return found
