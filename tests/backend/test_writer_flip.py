"""The writer has become a reader: the server refuses to write, and another one has taken over under its name."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import OperationalError
from MySQLdb import OperationalError as DriverError

from pooling.backends.mysql.connection import Connection

from .conftest import ask

pytestmark = pytest.mark.django_db


@pytest.fixture
def site(root: Any) -> Iterator[str]:
    """A user who may write to the database "flip", and whom read_only stops."""
    ask(root, "CREATE DATABASE flip")
    ask(root, "CREATE TABLE flip.note (text varchar(20))")
    ask(root, "CREATE USER site@'127.0.0.1' IDENTIFIED BY 'x'")
    ask(root, "GRANT ALL ON flip.* TO site@'127.0.0.1'")
    yield "site"
    ask(root, "SET GLOBAL read_only = 0")
    ask(root, "DROP USER site@'127.0.0.1'")
    ask(root, "DROP DATABASE flip")


@pytest.fixture
def four(there: Any, site: str) -> list[Any]:
    pool = {"max_size": 4, "timeout": 5}
    return [there(pool, NAME="flip", USER=site, PASSWORD="x") for _ in range(4)]


def numbers(wrappers: list[Any]) -> list[int]:
    return [ask(wrapper, "SELECT CONNECTION_ID()")[0][0] for wrapper in wrappers]


def write(wrapper: Any) -> None:
    ask(wrapper, "INSERT INTO note VALUES ('x')")


def test_a_refused_write_replaces_every_connection(root: Any, four: list[Any], caplog: Any) -> None:
    before = numbers(four)
    writer, idle, *busy = four
    idle.close()
    ask(root, "SET GLOBAL read_only = 1")
    with pytest.raises(OperationalError, match="1290"):
        write(writer)
    assert numbers([writer]) == before[:1]  # its user may still read to the end of the request
    assert len(writer.pool._slots) == 4
    with caplog.at_level(logging.WARNING, "pooling.backends"):
        writer.close()
    assert "does not write any more" in caplog.text
    assert numbers(busy) == before[2:]  # lent ones are left to their users …
    for wrapper in busy:
        wrapper.close()  # … and not kept
    assert not set(numbers(four)) & set(before)
    ask(root, "SET GLOBAL read_only = 0")
    for wrapper in four:
        write(wrapper)
    after = numbers(four)
    for wrapper in four:
        wrapper.close()
    assert set(numbers(four)) == set(after)  # once is enough


def refused(wrapper: Any) -> None:
    with pytest.raises(OperationalError, match="1290"):
        write(wrapper)
    wrapper.close()


def test_older_connections_that_are_refused_later_replace_nothing(root: Any, four: list[Any]) -> None:
    """A long request goes on with what it has, while the others have new connections to the new writer long since."""
    numbers(four)
    pool = four[0].pool
    ask(root, "SET GLOBAL read_only = 1")
    refused(four[0])
    drained = pool._drained
    [new] = numbers(four[:1])
    pool._evicted = pool._clock() - 60.0
    for wrapper in four[1:]:
        refused(wrapper)
    assert pool._drained == drained
    assert numbers(four[:1]) == [new]


def test_many_refusals_at_once_replace_once(root: Any, four: list[Any]) -> None:
    numbers(four)
    pool = four[0].pool
    drained = pool._drained
    ask(root, "SET GLOBAL read_only = 1")
    for wrapper in four:
        wrapper.inc_thread_sharing()
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(refused, four))
    assert pool._drained == drained + 1
    # New connections lead to the same server until its name leads elsewhere: no further round within a second.
    pool._evicted = pool._clock()
    refused(four[0])
    assert pool._drained == drained + 1
    pool._evicted = pool._clock() - 1.0
    refused(four[0])
    assert pool._drained == drained + 2


def test_a_second_statement_counts_too(root: Any, four: list[Any]) -> None:
    wrapper = four[0]
    ask(root, "SET GLOBAL read_only = 1")
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT 1; INSERT INTO note VALUES ('x')")
        with pytest.raises(OperationalError, match="1290"):
            cursor.nextset()
    assert wrapper.connection.read_only


def test_it_is_the_same_with_connections_that_go_back_early(there: Any, root: Any, site: str) -> None:
    pool = {"max_size": 2, "timeout": 5, "release": "transaction"}
    first, second = (there(pool, NAME="flip", USER=site, PASSWORD="x") for _ in range(2))
    with first.cursor() as one, second.cursor() as other:  # two that are open at once
        for cursor in (one, other):
            cursor.execute("SELECT CONNECTION_ID()")
        before = {cursor.fetchone()[0] for cursor in (one, other)}
    assert len(before) == 2
    ask(root, "SET GLOBAL read_only = 1")
    with pytest.raises(OperationalError, match="1290"):
        write(first)
    first.close()
    assert not set(numbers([first, second])) & before


@pytest.mark.parametrize(
    ("error", "flip"),
    [
        ((1290, "The MySQL server is running with the --super-read-only option so it cannot execute this"), True),
        ((1290, "Le serveur MySQL utilise l'option --read-only"), True),
        ((1290, "The MariaDB server is running with the --secure-file-priv option so it cannot execute"), False),
        ((1836, "Running in read-only mode"), True),
        ((1792, "Cannot execute statement in a READ ONLY transaction"), False),
        ((1142, "INSERT command denied"), False),
    ],
)
def test_which_errors_say_so(there: Any, site: str, error: Any, flip: bool) -> None:
    wrapper = there({"max_size": 1, "timeout": 5})
    wrapper.ensure_connection()
    connection: Connection = wrapper.connection
    connection._failed(DriverError(*error))
    assert (connection.read_only, connection.broken) == (flip, flip)


def test_a_transaction_for_reading_is_its_users_own_wish(four: list[Any]) -> None:
    wrapper = four[0]
    [number] = numbers([wrapper])
    ask(wrapper, "START TRANSACTION READ ONLY")
    with pytest.raises(OperationalError, match="1792"):
        write(wrapper)
    wrapper.close()
    assert numbers([wrapper]) == [number]
