"""Statements are judged by what they leave in the session; doubt is dirty."""

from __future__ import annotations

import pytest

from pooling.backends.mysql.session import About, Effect, about, classify


@pytest.mark.parametrize(
    "statement",
    [
        b"SELECT 1",
        b"select 'a@b.c;'",
        b"SELECT @@version",
        b'INSERT INTO t VALUES (\'{\\"mail\\": \\"a@b.c\\"}\')',
        b"  \n UPDATE t SET a = 1",
        b"DELETE FROM t;",
        b"(SELECT 1) UNION (SELECT 2)",
        b"/* why */ SELECT 1 /* ; @x */",
        b"-- note @x\nSELECT 1",
        b"ROLLBACK TO SAVEPOINT `s1`",
        b"SAVEPOINT `s1`",
        b"SELECT next_id FROM t WHERE note = 'NEXTVAL(s)'",
        b"SELECT xa FROM t WHERE note = 'SET RESOURCE GROUP x; @'",
    ],
)
def test_clean(statement: bytes) -> None:
    assert classify(statement) is Effect.CLEAN


@pytest.mark.parametrize(
    "statement",
    [
        b"SELECT @a := 1",
        b"SELECT 1 INTO @a",
        b"SELECT Get_Lock('a', 1)",
        b"DO GET_LOCK('a', 1)",
        b"SELECT NEXTVAL(s)",
        b"INSERT INTO t VALUES (next value  for s)",
        b"SET @a = 1",
        b"SET SESSION sql_mode = ''",
        b"LOCK TABLES t WRITE",
        b"CREATE TEMPORARY TABLE t (a int)",
        b"CREATE OR REPLACE /* x */ TEMPORARY TABLE t (a int)",
        b"PREPARE p FROM 'SELECT 1'",
        b"USE other",
        b"HANDLER t OPEN",
        b"CALL p()",
        b"LOAD DATA INFILE 'x' INTO TABLE t",
        b"/*!50000 SET @a = 1 */",
        b"SELECT 1 /*!, @a := 1 */",
        b"SELECT 1 /*M!100000 , @a := 1 */",
        b"INSERT INTO t VALUES (1); BEGIN",
        b"SELECT /* ' */ @a := 1 /* ' */",
        b"SELECT 'it\\'s @x'",
        b"SELECT 'open @x",
        b"ROLLBACK RELEASE",
        b"FLUSH TABLES WITH READ LOCK",
        b"\xff",
    ],
)
def test_dirty(statement: bytes) -> None:
    assert classify(statement) is Effect.DIRTY


@pytest.mark.parametrize("statement", [b"BEGIN", b"start transaction read only", b"COMMIT AND CHAIN", b"/* x */ BEGIN"])
def test_begins(statement: bytes) -> None:
    assert classify(statement) is Effect.BEGINS


@pytest.mark.parametrize(
    "statement",
    [
        b"XA START 'a'",
        b"xa prepare 'a'",
        b"SELECT 1; XA START 'a'",
        b"/*! XA START 'a' */",
        b"SET RESOURCE GROUP batch",
        b"set  resource\ngroup batch",
        b"/*!80003 SET RESOURCE GROUP batch */",
        b"SELECT 1; SET RESOURCE GROUP batch",
    ],
)
def test_beyond_a_reset(statement: bytes) -> None:
    assert classify(statement) is Effect.UNCLEAR


@pytest.mark.parametrize(
    "statement",
    [b"CREATE TABLE t (a int)", b"drop table t", b"/* x */ TRUNCATE t", b"ANALYZE TABLE t", b"UNLOCK TABLES"],
)
def test_a_transaction_may_be_over(statement: bytes) -> None:
    assert classify(statement) is Effect.COMMITS


@pytest.mark.parametrize("statement", [b"COMMIT", b"rollback work", b"COMMIT; "])
def test_ends(statement: bytes) -> None:
    assert classify(statement) is Effect.ENDS


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (b"SELECT LAST_INSERT_ID()", About.LEAVES | About.ASKS_NUMBER),
        (b"INSERT INTO t VALUES (last_insert_id( /* x */ ))", About.LEAVES | About.ASKS_NUMBER),
        (b"SELECT @@identity", About.ASKS_NUMBER),
        (b"SELECT @@session.last_insert_id", About.LEAVES | About.ASKS_NUMBER),
        (b"SELECT ROW_COUNT()", About.LEAVES | About.ASKS_COUNTS),
        (b"SELECT found_rows ()", About.LEAVES | About.ASKS_COUNTS),
        (b"SELECT /*! ROW_COUNT() */ 1", About.LEAVES | About.ASKS_COUNTS),
        (b"SHOW WARNINGS", About.ASKS_WARNINGS),
        (b"show count(*) errors", About.ASKS_WARNINGS),
        (b"SELECT @@warning_count", About.ASKS_WARNINGS),
        (b"GET DIAGNOSTICS @n = NUMBER", About.ASKS_WARNINGS),
        (b"UPDATE seq SET id = LAST_INSERT_ID(id + 1)", About.LEAVES),
        (b"SELECT SQL_CALC_FOUND_ROWS a FROM t LIMIT 1", About.LEAVES),
        (b"SELECT row_count FROM t", About.LEAVES),
        (b"INSERT INTO t VALUES ('it\\'s ROW_COUNT() and SHOW WARNINGS')", About.LEAVES),
        (b"SELECT error FROM t", About.NOTHING),
        (b"SELECT warnings FROM t WHERE a = 'SHOW WARNINGS'", About.NOTHING),
        (b"SELECT @@version", About.NOTHING),
        (b"SELECT 1", About.NOTHING),
    ],
)
def test_what_it_asks_about_the_statement_before(statement: bytes, expected: About) -> None:
    assert about(statement, backslash=True) == expected


def test_whether_a_backslash_escapes_decides_what_is_code() -> None:
    statement = b"SELECT 'a\\', ROW_COUNT(), '"
    assert not about(statement, backslash=True) & About.ASKS_COUNTS
    assert about(statement, backslash=False) & About.ASKS_COUNTS
