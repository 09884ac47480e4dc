"""Statements are judged by what they leave in the session; doubt is dirty."""

from __future__ import annotations

import pytest

from pooling.backends.mysql.session import Effect, classify


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
        b"CREATE TABLE t (a int)",
        b"ROLLBACK TO SAVEPOINT `s1`",
        b"SAVEPOINT `s1`",
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
