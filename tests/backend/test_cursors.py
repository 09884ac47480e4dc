"""Cursors that outlive their user's time with a connection, and results that are not read to their end."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Iterator
from typing import Any

import MySQLdb
import pytest
from django.db import ProgrammingError, connection
from MySQLdb.cursors import Cursor, DictCursor, SSCursor

from tests.app.models import Note

from .conftest import ask, in_transaction, until

pytestmark = pytest.mark.django_db

ROWS = "SELECT 1 UNION SELECT 2 UNION SELECT 3"
ONE = {"max_size": 1, "timeout": 5}


def identity(wrapper: Any) -> int:
    return int(ask(wrapper, "SELECT CONNECTION_ID()")[0][0])


@pytest.fixture
def two(make: Any) -> tuple[Any, Any]:
    """Two users of a pool with one connection; the first has used it already."""
    first, second = make(ONE), make(ONE)
    identity(first)
    return first, second


@pytest.mark.parametrize("kind", [None, DictCursor, SSCursor])
def test_a_kept_cursor_does_not_reach_the_next_user(two: Any, observer: Any, kind: Any) -> None:
    first, second = two
    number = identity(first)
    cursor = first.connection.cursor(kind)
    cursor.execute(ROWS)
    assert len(cursor.fetchall()) == 3
    first.close()

    assert identity(second) == number  # the same physical connection
    second.set_autocommit(False)
    ask(second, "INSERT INTO django_content_type (app_label, model) VALUES ('kept', 'kept')")
    with pytest.raises(MySQLdb.ProgrammingError, match="cursor closed"):
        cursor.nextset()
    for statement in ("SELECT 1", "COMMIT", "SET @x = 1"):
        with pytest.raises(MySQLdb.ProgrammingError, match="cursor closed"):
            cursor.execute(statement)
    with pytest.raises(MySQLdb.ProgrammingError, match="cursor closed"):
        cursor.executemany("INSERT INTO django_content_type (app_label, model) VALUES (%s, %s)", [("a", "b")])
    assert ask(second, "SELECT @x") == ((None,),)
    assert in_transaction(second)
    assert ask(observer, "SELECT COUNT(*) FROM django_content_type WHERE app_label = 'kept'") == ((0,),)


def test_djangos_own_cursor_kept(two: Any) -> None:
    first, second = two
    cursor = first.cursor()
    cursor.execute("SELECT 1")
    first.close()
    second.ensure_connection()
    assert cursor.fetchall() == ((1,),)  # what was read before is the cursor's own
    with pytest.raises(ProgrammingError, match="cursor closed"):
        cursor.execute("SELECT 2")
    cursor.close()


def test_a_generator_that_kept_its_cursor(two: Any) -> None:
    first, second = two

    def numbers() -> Iterator[Any]:
        with first.cursor() as cursor:
            for number in range(3):
                cursor.execute("SELECT %s", [number])
                yield cursor.fetchone()[0]

    generator = numbers()
    assert next(generator) == 0
    first.close()
    second.ensure_connection()
    with pytest.raises(ProgrammingError, match="cursor closed"):
        next(generator)
    assert ask(second, "SELECT 4") == ((4,),)


@pytest.mark.parametrize("end", ["close", "collect"])
@pytest.mark.parametrize("kind", [Cursor, SSCursor])
def test_the_end_of_an_old_cursor_leaves_the_next_users_result_alone(two: Any, kind: Any, end: str) -> None:
    first, second = two
    number = identity(first)
    old = first.connection.cursor(kind)
    old.execute(ROWS)
    old.fetchall()
    first.close()
    assert identity(second) == number
    cursor = second.connection.cursor(SSCursor)
    cursor.execute(ROWS)
    assert cursor.fetchone() == (1,)
    if end == "close":
        old.close()
    del old
    gc.collect()
    assert cursor.fetchall() == ((2,), (3,))
    cursor.close()


@pytest.mark.parametrize("end", ["close", "collect"])
def test_the_end_of_an_unread_cursor(two: Any, end: str) -> None:
    first, second = two
    number = identity(first)
    old = first.connection.cursor(SSCursor)
    old.execute(ROWS)
    assert old.fetchone() == (1,)
    first.close()
    assert identity(second) != number
    with pytest.raises(MySQLdb.Error):
        old.fetchall()
    if end == "close":
        old.close()
    del old
    gc.collect()
    assert ask(second, "SELECT 5") == ((5,),)


def test_the_end_of_an_old_cursor_does_not_wait_for_the_next_users_statement(two: Any, observer: Any) -> None:
    first, second = two
    number = identity(first)
    old = [first.connection.cursor(SSCursor)]
    old[0].execute(ROWS)
    old[0].fetchall()
    first.close()
    table = Note._meta.db_table
    observer.inc_thread_sharing()
    ask(observer, f"LOCK TABLES {table} WRITE")
    busy = threading.Thread(target=ask, args=(second, f"SELECT * FROM {table}"))
    collected = threading.Event()
    collector = threading.Thread(target=lambda: (old.clear(), collected.set()))
    try:
        busy.start()
        until(lambda: "Waiting" in (_state(observer, number) or ""))
        collector.start()
        assert collected.wait(20)
    finally:
        ask(observer, "UNLOCK TABLES")
        busy.join()
        collector.join()


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("read", ["rows", "nothing"])
def test_a_streamed_result_costs_the_connection_only_while_rows_are_unread(two: Any, closed: bool, read: str) -> None:
    first, second = two
    number = identity(first)
    cursor = first.connection.cursor(SSCursor)
    cursor.execute(ROWS)
    if read == "rows":
        cursor.fetchall()
    if closed:
        cursor.close()  # reads what is left
    first.close()
    assert (identity(second) == number) is (closed or read == "rows")


@pytest.mark.parametrize("kind", [Cursor, SSCursor])
def test_further_results_left_unread_cost_the_connection(two: Any, kind: Any) -> None:
    first, second = two
    number = identity(first)
    cursor = first.connection.cursor(kind)
    cursor.execute("SELECT 1; SELECT 2")
    assert cursor.fetchall() == ((1,),)
    first.close()
    assert identity(second) != number


def test_many_cursors_are_not_remembered_for_ever(two: Any) -> None:
    first, second = two
    first.ensure_connection()
    connection = first.connection
    for _ in range(1000):
        connection.cursor().close()
    assert len(connection._cursors) <= 64
    kept = [connection.cursor() for _ in range(200)]
    assert connection.has_open_cursors
    first.close()
    second.ensure_connection()
    assert second.connection is connection
    for cursor in kept:
        with pytest.raises(MySQLdb.ProgrammingError, match="cursor closed"):
            cursor.execute("SELECT 1")


def test_a_cursor_that_cannot_be_cut_off_costs_the_connection(two: Any) -> None:
    class Wrapped:
        def __init__(self, connection: Any) -> None:
            self.inner = Cursor(connection)

    first, second = two
    number = identity(first)
    first.connection.cursor(Wrapped)
    first.close()
    assert identity(second) != number


def test_no_early_release_under_an_open_cursor(two: Any) -> None:
    first, _ = two
    with first.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert not first.release_if_clean()
        cursor.execute("SELECT 2")
    assert first.release_if_clean()


@pytest.mark.django_db(transaction=True)
def test_no_early_release_under_rows_that_are_not_fetched_yet() -> None:
    Note.objects.bulk_create(Note(text=str(number)) for number in range(300))
    rows = Note.objects.order_by("pk").values_list("text", flat=True).iterator(chunk_size=10)
    assert next(rows) == "0"
    assert not connection.release_if_clean()
    assert len(list(rows)) == 299
    assert connection.release_if_clean()


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals need the main thread")
@pytest.mark.parametrize("kind", ["SELECT", "INSERT"])
def test_an_interrupt_in_mid_query_costs_the_connection(two: Any, observer: Any, kind: str) -> None:
    """The statement waits for a table that is locked, the signal comes, then the table is unlocked."""
    first, second = two
    number = identity(first)
    waits = threading.Event()
    main = threading.get_ident()
    table = Note._meta.db_table
    statement = f"SELECT * FROM {table}" if kind == "SELECT" else f"INSERT INTO {table} (text) VALUES ('interrupted')"
    observer.inc_thread_sharing()
    ask(observer, f"LOCK TABLES {table} WRITE")

    def interrupt() -> None:
        try:
            until(lambda: "Waiting" in (_state(observer, number) or ""))
            waits.set()
            signal.pthread_kill(main, signal.SIGUSR1)
        finally:
            ask(observer, "UNLOCK TABLES")

    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    helper = threading.Thread(target=interrupt)
    try:
        helper.start()
        with pytest.raises(KeyboardInterrupt):
            ask(first, statement)
        assert waits.is_set()
    finally:
        helper.join()
        signal.signal(signal.SIGUSR1, before)
        ask(observer, f"DELETE FROM {table}")
    first.close()
    assert identity(second) != number


def _state(observer: Any, number: int) -> Any:
    rows = ask(observer, f"SELECT state FROM information_schema.processlist WHERE id = {number}")
    return rows[0][0] if rows else None
