"""Which tables a statement writes, and what becomes of its transaction."""

from __future__ import annotations

import pytest

from pooling.backends.mysql.tables import Tables, Then
from pooling.backends.mysql.writes import _SETTING

TABLES = Tables(["shop_product", "shop-tag", "straße"])
PRODUCT = {"shop_product"}
# A name that is spelled by the charset is never told for sure.
MENTIONED = {"shop_product", "straße"}
ALL = {"shop_product", "shop-tag", "straße"}

ONE_TABLE = [
    "INSERT INTO `shop_product` (name) VALUES ('x')",
    "INSERT INTO shop_product VALUES (1)",
    "insert into SHOP_PRODUCT values (1)",
    "INSERT LOW_PRIORITY IGNORE INTO shop_product VALUES (1)",
    "INSERT shop_product VALUES (1)",
    "INSERT INTO`shop_product`VALUES (1)",
    "INSERT INTO shop_product(name) SELECT name FROM other",
    "INSERT INTO shop.shop_product VALUES (1)",
    "INSERT INTO `shop` . `shop_product` VALUES (1)",
    'INSERT INTO "shop_product" VALUES (1)',
    "INSERT INTO shop_product VALUES ('a;b', 'it''s', \"x\")",
    "INSERT INTO shop_product VALUES ('a\\';b')",
    "INSERT INTO shop_product (name) VALUES ('/*! no comment */')",
    "INSERT INTO shop_product VALUES (1) ON DUPLICATE KEY UPDATE name = 'x';  ",
    "REPLACE DELAYED INTO shop_product VALUES (1)",
    "UPDATE shop_product SET name = 'x'",
    "UPDATE `shop_product` SET `name` = 'shop-tag'",
    "UPDATE LOW_PRIORITY IGNORE shop.shop_product AS p SET p.name = 'x'",
    "UPDATE shop_product p SET p.name = 'x'",
    "UPDATE\n\tshop_product\nSET name = 'x'",
    "/* the caller's remark; */ UPDATE /* here */ shop_product -- too\n SET name = 'x'",
    "# remark\nUPDATE shop_product SET name = 'x'",
    "DELETE FROM shop_product",
    "DELETE FROM `shop_product` WHERE id IN (SELECT id FROM other)",
    "DELETE QUICK FROM shop_product ORDER BY id LIMIT 1",
    "DELETE FROM shop_product RETURNING id",
]


@pytest.mark.parametrize("statement", ONE_TABLE)
def test_the_one_table_of_an_ordinary_write(statement: str) -> None:
    assert TABLES.examine(statement.encode(), backslash=True) == (PRODUCT, Then.STAYS)


@pytest.mark.parametrize("statement", [text.lower().replace("shop_product", "shop_products") for text in ONE_TABLE])
def test_another_table_is_none_of_them(statement: str) -> None:
    assert TABLES.examine(statement.encode(), backslash=True) == (set(), Then.STAYS)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE other JOIN shop_product ON other.id = shop_product.id SET shop_product.name = 'x'",
        "UPDATE other, shop.shop_product SET shop_product.name = 'x'",
        "UPDATE (SELECT 1) AS a JOIN `shop_product` SET name = 'x'",
        "UPDATE shop_product PARTITION (p0) SET name = 'x'",
        "DELETE p FROM other JOIN shop_product AS p ON other.id = p.id",
        "DELETE FROM p USING other JOIN shop_product AS p",
        "DELETE FROM other, shop_product USING other JOIN shop_product",
        "DELETE HISTORY FROM shop_product",
        "WITH a AS (SELECT 1) UPDATE shop_product SET name = 'x'",
        "WITH `select` AS (SELECT 1), b AS (SELECT ')') DELETE FROM shop_product",
        "LOAD DATA LOCAL INFILE 'x' INTO TABLE shop_product FIELDS TERMINATED BY ';'",
        "EXPLAIN ANALYZE DELETE p FROM shop_product p",
    ],
)
def test_all_that_are_named_by_what_is_less_simple(statement: str) -> None:
    assert TABLES.examine(statement.encode(), backslash=True) == (MENTIONED, Then.STAYS)


@pytest.mark.parametrize(
    "statement",
    [
        "TRUNCATE shop_product",
        "TRUNCATE TABLE `shop`.`shop_product`",
        "ALTER TABLE shop_product DROP COLUMN name",
        "DROP TABLE IF EXISTS other, shop_product",
        "RENAME TABLE other TO shop_product",
        "CREATE OR REPLACE TABLE shop_product (id int)",
        "ANALYZE FORMAT=JSON UPDATE shop_product SET name = 'x'",
    ],
)
def test_the_tables_of_definitions_which_commit(statement: str) -> None:
    assert TABLES.examine(statement.encode(), backslash=True) == (MENTIONED, Then.COMMITS)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE other SET x = 1; UPDATE shop_product SET name = 'x'",
        "SELECT 1; DELETE FROM shop_product",
        "SELECT ';'; DELETE FROM shop_product",
        "SELECT 1 /*!; DELETE FROM shop_product */",
        "/*!50000 UPDATE shop_product SET name = 'x' */",
        "/*M!100000 UPDATE shop_product SET name = 'x' */",
        "BEGIN NOT ATOMIC UPDATE shop_product SET name = 'x'; END",
        "SET STATEMENT max_statement_time = 1 FOR UPDATE shop_product SET name = 'x'",
    ],
)
def test_several_statements_write_what_is_named_anywhere(statement: str) -> None:
    assert TABLES.examine(statement.encode(), backslash=True) == (MENTIONED, Then.BEGINS)


@pytest.mark.parametrize(
    "statement",
    [
        "CALL restock()",
        "EXECUTE prepared USING @x",
        "EXECUTE IMMEDIATE 'x'",
        "XA COMMIT 'x'",
        "BINLOG 'x'",
        "IMPORT TABLE FROM 'x'",
        "DROP DATABASE shop",
        "SELECT 1; CALL restock()",
        "FROBNICATE shop",
        "-- nothing but a remark",
    ],
)
def test_what_need_not_name_its_tables_writes_all(statement: str) -> None:
    assert TABLES.examine(statement.encode(), backslash=True) == (ALL, Then.BEGINS)


@pytest.mark.parametrize(
    ("statement", "then"),
    [
        ("SELECT 1", Then.STAYS),
        ("(SELECT 1) UNION (SELECT name FROM shop_product)", Then.STAYS),
        ("select name from shop_product for update", Then.STAYS),
        ("WITH a AS (SELECT 1) SELECT REPLACE(name, 'UPDATE', '(') FROM shop_product FOR UPDATE", Then.STAYS),
        ("WITH a AS (SELECT 1) (SELECT name FROM shop_product)", Then.STAYS),
        ("EXPLAIN SELECT name FROM shop_product", Then.STAYS),
        ("SHOW CREATE TABLE shop_product", Then.STAYS),
        ("SAVEPOINT s", Then.STAYS),
        ("RELEASE SAVEPOINT s", Then.STAYS),
        ("ROLLBACK TO SAVEPOINT s", Then.STAYS),
        ("ROLLBACK WORK TO s", Then.STAYS),
        ("", Then.STAYS),
        ("SET NAMES utf8mb4", Then.COMMITS),
        ("SET autocommit = 1", Then.COMMITS),
        ("LOCK TABLES shop_product READ", Then.COMMITS),
        ("START TRANSACTION", Then.BEGINS),
        ("BEGIN", Then.BEGINS),
        ("COMMIT AND CHAIN", Then.BEGINS),
        ("ROLLBACK AND CHAIN", Then.BEGINS),
        ("COMMIT", Then.ENDS),
        ("commit work;", Then.ENDS),
        ("COMMIT AND NO CHAIN", Then.ENDS),
        ("ROLLBACK", Then.ROLLS_BACK),
    ],
)
def test_what_writes_nothing(statement: str, then: Then) -> None:
    assert TABLES.examine(statement.encode(), backslash=True) == (set(), then)


def test_names_in_quotes_and_of_other_alphabets() -> None:
    assert TABLES.examine(b"INSERT INTO `shop-tag` VALUES (1)", backslash=True) == ({"shop-tag"}, Then.STAYS)
    for charset in ("utf-8", "latin-1"):
        assert TABLES.examine("INSERT INTO straße VALUES (1)".encode(charset), backslash=True) == (
            {"straße"},
            Then.STAYS,
        )
    assert Tables(["a`b"]).examine(b"INSERT INTO `a``b` VALUES (1)", backslash=True) == ({"a`b"}, Then.STAYS)


def test_no_table_is_looked_for() -> None:
    assert Tables([]).examine(b"UPDATE a JOIN b SET a.x = 1", backslash=True) == (set(), Then.STAYS)


def test_a_backslash_escapes_or_does_not_by_sql_mode() -> None:
    statement = rb"UPDATE other SET x = '\'; DELETE FROM shop_product; -- '"
    assert TABLES.examine(statement, backslash=True) == (set(), Then.STAYS)
    assert TABLES.examine(statement, backslash=False) == (MENTIONED, Then.BEGINS)


def test_settings_are_told_from_statements_with_settings() -> None:
    assert _SETTING.match(b"SET SQL_AUTO_IS_NULL = 0")
    assert _SETTING.match(b"set @x = 'a', autocommit = 1")
    assert not _SETTING.match(b"SET /* one */ STATEMENT max_statement_time = 1 FOR UPDATE shop_product SET name = 'x'")
    assert not _SETTING.match(b"SET @x = 1; UPDATE shop_product SET name = 'x'")
