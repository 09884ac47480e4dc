"""release="transaction": when a connection goes back in the middle of a request, and when it stays."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.db import DatabaseError, IntegrityError, OperationalError, ProgrammingError, connections, transaction
from django.db.backends.signals import connection_created
from django.test import RequestFactory
from MySQLdb.cursors import SSCursor

from pooling import LockTimeout, locked
from pooling.errors import PoolTimeout
from tests.app.models import Account, Note

from .conftest import ask, until

pytestmark = pytest.mark.django_db(transaction=True)

ONE = {"max_size": 1, "timeout": 5, "release": "transaction"}
LEFT = Note._meta.db_table
ROWS = "SELECT 1 UNION SELECT 2 UNION SELECT 3"


@pytest.fixture
def two(make: Any) -> tuple[Any, Any]:
    """Two users of a pool with one connection."""
    return make(ONE), make(ONE)


@pytest.fixture
def mine(make: Any) -> Iterator[Any]:
    """The thread's own "default", as the ORM and `transaction` see it, with a pool of one connection."""
    before = connections["default"]
    wrapper = make(ONE)
    connections["default"] = wrapper
    try:
        yield wrapper
    finally:
        connections["default"] = before


def free(wrapper: Any) -> bool:
    """Whether its pool lends nothing now, and has lost nothing."""
    stats = wrapper.pool.get_stats()
    return bool(stats["pool_available"] == stats["pool_size"] == 1)


def raw(wrapper: Any, sql: str) -> None:
    cursor = wrapper.connection.cursor()
    cursor.execute(sql)
    cursor.close()


def refused(wrapper: Any) -> bool:
    """Whether no connection is to be had for it now."""
    with pytest.raises(PoolTimeout):
        wrapper.pool.getconn(timeout=0)
    return True


class Undo(Exception):
    pass


def undone() -> None:
    with transaction.atomic():
        Note.objects.create(text="never")
        raise Undo


# ----- it goes back -----


def test_after_each_statement(two: Any) -> None:
    first, second = two
    numbers = set()
    for _ in range(3):
        for wrapper in (first, second):
            [[number]] = ask(wrapper, "SELECT CONNECTION_ID()")
            numbers.add(number)
            assert free(wrapper)
    assert len(numbers) == 1


def test_it_sends_nothing_of_its_own(two: Any) -> None:
    def asked() -> int:
        return int(ask(two[0], "SHOW SESSION STATUS LIKE 'Questions'")[0][1])

    before = asked()
    for wrapper in (*two, *two):
        ask(wrapper, "SELECT 1")
    assert asked() == before + 5


@pytest.mark.parametrize("durable", [False, True])
def test_after_a_transaction(mine: Any, two: Any, durable: bool) -> None:
    with transaction.atomic(durable=durable):
        Note.objects.create(text="a")
        with transaction.atomic():
            Note.objects.create(text="b")
        Account.objects.create(name="x")
        with pytest.raises(IntegrityError), transaction.atomic():
            Account.objects.create(name="x")
        list(Note.objects.select_for_update())
        assert not free(mine)
    assert free(mine)
    assert Note.objects.count() == 2
    assert free(mine)
    with pytest.raises(Undo):
        undone()
    assert free(mine)
    assert Note.objects.count() == 2


def test_after_an_error_that_broke_the_transaction(mine: Any) -> None:
    """Django keeps the error, and with it the frames it came through."""
    Account.objects.create(name="x")
    with pytest.raises(IntegrityError), transaction.atomic():
        Account.objects.create(name="x")
    assert mine.rollback_exc is not None
    assert free(mine)


def test_an_error_that_somebody_keeps_does_not_keep_the_connection(mine: Any) -> None:
    Account.objects.create(name="x")
    kept = []
    # The last one is an error of the driver's that Django gives another type.
    for statement in ("SELECT nothing", "SELECT CAST(0 AS UNSIGNED) - 1"):
        with pytest.raises(DatabaseError) as caught:
            ask(mine, statement)
        kept.append(caught.value)
    ask(mine, "SELECT 1")
    assert free(mine)


def test_before_the_hooks_of_a_commit(mine: Any) -> None:
    seen: list[Any] = []

    def hook() -> None:
        seen.append((free(mine), Note.objects.count(), free(mine)))

    def failing() -> None:
        hook()
        raise Undo

    with transaction.atomic():
        Note.objects.create(text="a")
        transaction.on_commit(hook)
        transaction.on_commit(hook)
    assert seen == [(True, 1, True)] * 2
    with pytest.raises(Undo), transaction.atomic():
        transaction.on_commit(failing)
    assert seen[2:] == [(True, 1, True)]
    transaction.on_commit(hook)
    assert seen[3:] == [(True, 1, True)]


def test_a_hook_that_opens_a_transaction_with_hooks(mine: Any) -> None:
    told: list[str] = []

    def hook() -> None:
        with transaction.atomic():
            Note.objects.create(text="b")
            transaction.on_commit(lambda: told.append("inner"))
        told.append("outer")

    with transaction.atomic():
        transaction.on_commit(hook)
    assert told == ["inner", "outer"]
    assert free(mine)


def test_after_autocommit_by_hand(mine: Any, observer: Any) -> None:
    told: list[Any] = []
    transaction.set_autocommit(False)
    Note.objects.create(text="a")
    assert not free(mine)
    with transaction.atomic():
        transaction.on_commit(lambda: told.append(free(mine)))
        Note.objects.create(text="b")
    assert not free(mine)
    transaction.commit()
    assert not free(mine)
    assert told == []
    transaction.set_autocommit(True)
    assert told == [True]
    assert free(mine)
    assert ask(observer, f"SELECT COUNT(*) FROM {LEFT}") == ((2,),)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_after_a_transaction_in_sql(two: Any, end: str) -> None:
    for statement in ("BEGIN", f"SELECT * FROM {LEFT}"):
        ask(two[0], statement)
        assert refused(two[1])
    ask(two[0], end)
    ask(two[0], "SELECT 1")
    assert ask(two[1], "SELECT @@in_transaction") == ((0,),)


@pytest.mark.parametrize("end", ["read", "closed", "collected"])
def test_after_an_iterator(mine: Any, end: str) -> None:
    Note.objects.bulk_create(Note(text=str(number)) for number in range(30))
    rows = Note.objects.iterator(chunk_size=10)
    next(rows)
    assert not free(mine)
    if end == "read":
        assert len(list(rows)) == 29
    elif end == "closed":
        rows.close()  # type: ignore[attr-defined]
    del rows
    assert free(mine)


def test_an_iterator_that_another_thread_collects_leaves_it_to_the_owner(mine: Any) -> None:
    Note.objects.bulk_create(Note(text=str(number)) for number in range(30))
    mine.dec_thread_sharing()
    rows = [Note.objects.iterator(chunk_size=10)]
    next(rows[0])
    thread = threading.Thread(target=rows.clear)
    thread.start()
    thread.join()
    mine.inc_thread_sharing()
    assert not free(mine)
    assert Note.objects.count() == 30
    assert free(mine)


def test_execute_wrappers_go_on(mine: Any) -> None:
    seen: list[str] = []

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(sql)
        return execute(sql, params, many, context)

    with mine.execute_wrapper(wrapper):
        ask(mine, "SELECT 1")
        ask(mine, "SELECT 2")
        assert free(mine)
    assert seen == ["SELECT 1", "SELECT 2"]


def test_connection_created_comes_once(two: Any) -> None:
    told: list[Any] = []

    def receiver(connection: Any, **kwargs: Any) -> None:
        ask(connection, "SELECT 1")
        told.append(connection)

    connection_created.connect(receiver)
    try:
        for _ in range(3):
            ask(two[0], "SELECT 1")
            assert free(two[0])
        two[0].close()
        ask(two[0], "SELECT 1")
    finally:
        connection_created.disconnect(receiver)
    assert told == [two[0]] * 2
    assert two[0].pool.get_stats()["requests_num"] == 4  # with the receiver's own statement no more


def test_what_needs_no_connection_takes_none(make: Any) -> None:
    first, second = make({**ONE, "timeout": 1}), make({**ONE, "timeout": 1})
    ask(first, "SELECT 1")
    with second.cursor():
        assert first.get_autocommit()
        first.commit()
        first.rollback()
        first.close_if_unusable_or_obsolete()
        assert first.connection is None
    ask(first, "SELECT 1")
    with second.cursor():
        assert not first.is_usable()
        first.close()
    assert first.is_usable() is False  # as with any wrapper that is closed
    ask(first, "SELECT 1")
    assert first.is_usable()
    assert free(first)


def test_a_first_question_about_autocommit_holds_nothing(two: Any) -> None:
    assert two[0].get_autocommit()
    assert free(two[0])


def test_a_dead_connection_is_not_given_back(two: Any, observer: Any) -> None:
    first, second = two
    [[number]] = ask(first, "SELECT CONNECTION_ID()")
    with first.cursor() as cursor:
        ask(observer, f"KILL {number}")
        with pytest.raises(OperationalError):
            cursor.execute("SELECT 1")
    assert not free(first)
    first.close()
    assert ask(second, "SELECT CONNECTION_ID()") != ((number,),)


def test_a_statement_that_finds_no_connection_can_be_tried_again(make: Any) -> None:
    first, second = make({**ONE, "timeout": 1}), make({**ONE, "timeout": 1})
    ask(first, "SELECT 1")
    with second.cursor():
        for _ in range(2):
            with pytest.raises(OperationalError, match="max_size"):
                ask(first, "SELECT 1")
    assert ask(first, "SELECT 1") == ((1,),)
    assert free(first)


def test_requests_in_a_transaction_each(settings: Any, mine: Any) -> None:
    settings.ROOT_URLCONF = "tests.backend.urls"
    mine.settings_dict["ATOMIC_REQUESTS"] = True
    handler = WSGIHandler()
    for path, status in (("/number", "200"), ("/broken", "500")):
        told: list[str] = []
        response = handler(RequestFactory().get(path).environ, lambda line, headers: told.append(line))  # noqa: B023
        assert told[0].startswith(status)
        assert free(mine)
        response.close()
        assert mine.connection is None


# ----- it stays -----


@pytest.mark.parametrize(
    "statement",
    [
        "SET @x = 1",
        "SELECT @x := 1",
        "SET SESSION wait_timeout = 1000",
        "SELECT GET_LOCK('release-test', 0)",
        "CREATE TEMPORARY TABLE leak (a int)",
        "PREPARE p FROM 'SELECT 1'",
        f"LOCK TABLES {LEFT} READ",
        "BEGIN",
        "SET autocommit = 0",
    ],
)
@pytest.mark.parametrize("way", [ask, raw])
def test_with_a_session_that_is_not_clean(two: Any, statement: str, way: Callable[[Any, str], Any]) -> None:
    first, second = two
    ask(first, "SELECT 1")
    [[number]] = ask(first, "SELECT CONNECTION_ID()")
    way(first, statement)
    for _ in range(2):
        assert refused(second)
        assert ask(first, "SELECT CONNECTION_ID()") == ((number,),)
    first.close()
    assert ask(second, "SELECT @x, @@autocommit, @@in_transaction") == ((None, 1, 0),)


def test_with_autocommit_off_by_setting(make: Any) -> None:
    wrapper = make(ONE, AUTOCOMMIT=False)
    ask(wrapper, "SELECT 1")
    wrapper.commit()
    ask(wrapper, "SELECT 1")
    wrapper.commit()
    wrapper.set_autocommit(False)
    with wrapper.cursor():
        pass
    assert not free(wrapper)
    wrapper.close()
    assert free(wrapper)


def test_while_a_cursor_is_open(two: Any) -> None:
    first, second = two
    with first.cursor() as cursor:
        for _ in range(2):
            cursor.execute("SELECT 1")
            assert refused(second)
            with first.cursor() as inner:
                inner.execute("SELECT 2")
            assert refused(second)
    ask(second, "SELECT 1")

    cursor = first.cursor()
    cursor.execute(ROWS)
    assert refused(second)
    del cursor  # never closed: the next statement of the wrapper finds that it is gone
    ask(first, "SELECT 1")
    ask(second, "SELECT 1")


def test_while_rows_are_unread(two: Any) -> None:
    first, second = two
    ask(first, "SELECT 1")
    cursor = first.connection.cursor(SSCursor)
    cursor.execute(ROWS)
    first.set_autocommit(True)
    assert refused(second)
    cursor.close()
    ask(first, "SELECT 1")
    ask(second, "SELECT 1")


def test_while_the_drivers_connection_is_in_somebodys_hands(two: Any) -> None:
    first, second = two
    ask(first, "SELECT 1")
    driver = first.connection
    number = driver.thread_id()
    for _ in range(2):
        assert ask(first, "SELECT CONNECTION_ID()") == ((number,),)
        assert refused(second)
    with_method = driver.thread_id
    del driver
    ask(first, "SELECT 1")
    assert refused(second)
    del with_method
    ask(first, "SELECT 1")
    ask(second, "SELECT 1")


def test_in_a_transaction_the_drivers_connection_is_the_transactions(mine: Any, two: Any) -> None:
    with transaction.atomic():
        number = mine.connection.thread_id()
        Note.objects.create(text="a")
        driver = mine.connection
        assert driver.thread_id() == number
    assert not free(mine)
    del driver
    assert Note.objects.count() == 1
    assert free(mine)


def test_several_statements_in_one(two: Any) -> None:
    first, second = two
    with first.cursor() as cursor:
        cursor.execute("SELECT 1; SELECT 2")
        assert cursor.fetchall() == ((1,),)
        assert cursor.nextset()
        assert cursor.fetchall() == ((2,),)
    assert refused(second)  # nobody can say what the second one did
    first.close()
    ask(second, "SELECT 1")


# ----- what the session says about the last statement -----


def test_an_insert_and_its_number(mine: Any, two: Any) -> None:
    ask(mine, f"INSERT INTO {LEFT} (text) VALUES ('a')")
    assert not free(mine)
    [[number]] = ask(mine, "SELECT LAST_INSERT_ID()")
    assert ask(mine, "SELECT LAST_INSERT_ID()") == ((number,),)
    assert ask(mine, f"SELECT id FROM {LEFT}") == ((number,),)
    assert free(mine)
    with mine.cursor() as cursor:
        cursor.execute(f"INSERT INTO {LEFT} (text) VALUES ('b')")
        assert cursor.lastrowid == number + 1
    assert free(mine)


def test_an_older_cursor_that_closes_does_not_answer_for_the_last_statement(mine: Any) -> None:
    older = mine.cursor()
    older.execute("SELECT 1")
    ask(mine, f"INSERT INTO {LEFT} (text) VALUES ('a')")
    older.close()
    assert ask(mine, "SELECT LAST_INSERT_ID()") == ask(mine, f"SELECT id FROM {LEFT}")
    assert free(mine)


def test_rows_found_and_counted(mine: Any) -> None:
    Note.objects.bulk_create(Note(text="a") for _ in range(5))
    ask(mine, "SELECT 1")
    ask(mine, f"UPDATE {LEFT} SET text = 'b' LIMIT 3")
    assert ask(mine, "SELECT ROW_COUNT()") == ((3,),)
    ask(mine, f"SELECT SQL_CALC_FOUND_ROWS id FROM {LEFT} LIMIT 2")
    assert ask(mine, "SELECT FOUND_ROWS()") == ((5,),)
    ask(mine, "SELECT LAST_INSERT_ID(4711)")
    assert ask(mine, "SELECT LAST_INSERT_ID()") == ((4711,),)
    ask(mine, "SELECT 1")
    assert free(mine)


def test_warnings(mine: Any, two: Any) -> None:
    ask(mine, "DROP TABLE IF EXISTS nothing_of_the_kind")
    [[level, code, text]] = ask(mine, "SHOW WARNINGS")
    assert (level, code) == ("Note", 1051)
    assert "nothing_of_the_kind" in text
    assert ask(mine, "SELECT CAST('a' AS SIGNED)") == ((0,),)
    assert ask(mine, "SHOW WARNINGS")[0][1] == 1292
    assert ask(mine, f"SELECT COUNT(*) FROM {LEFT}") == ((0,),)
    assert free(mine)
    with pytest.raises(DatabaseError):
        ask(mine, "SELECT nothing FROM nowhere")
    assert ask(mine, "SHOW ERRORS")[0][1] == 1146
    assert ask(mine, "SELECT @@error_count")[0][0] == 1


@pytest.mark.parametrize("question", ["SHOW WARNINGS", "SHOW ERRORS", "SELECT 1 WHERE @@warning_count <> 0"])
def test_warnings_of_somebody_else(two: Any, question: str) -> None:
    first, second = two
    ask(first, "SELECT 1")
    ask(second, "DROP TABLE IF EXISTS nothing_of_the_kind")
    second.close()
    with first.cursor() as cursor:
        for _ in range(2):
            cursor.execute(question)
            assert cursor.fetchall() == ()
            cursor.execute("SELECT 1")  # on MariaDB the messages would survive this


@pytest.mark.parametrize(
    "question",
    ["SELECT LAST_INSERT_ID()", "SELECT ROW_COUNT()", "SELECT FOUND_ROWS()", "SELECT @@identity"],
)
def test_a_question_that_comes_too_late_is_refused(two: Any, question: str) -> None:
    first, second = two
    with first.cursor() as cursor:
        cursor.execute(f"INSERT INTO {LEFT} (text) VALUES ('a')")
        assert cursor.rowcount == 1  # which tells that the answer is not wanted from the session
    ask(second, f"INSERT INTO {LEFT} (text) VALUES ('b')")
    ask(second, "SELECT 1")
    with pytest.raises(ProgrammingError, match=r"gone back to the pool.*transaction\.atomic\(\)"):
        ask(first, question)
    with first.cursor() as cursor:
        cursor.execute(ROWS)
        cursor.execute(question)  # it has a statement of its own to ask about
    ask(first, "SELECT 1")
    assert free(first)


@pytest.mark.parametrize(
    ("question", "sql"), [("SELECT LAST_INSERT_ID()", "SELECT 1"), ("SELECT FOUND_ROWS()", "DO 0")]
)
def test_what_somebody_else_left_is_not_the_answer(two: Any, question: str, sql: str) -> None:
    first, second = two
    with second.cursor() as cursor:
        cursor.execute("SELECT LAST_INSERT_ID(4711) UNION SELECT 1")
    second.close()
    with first.cursor() as cursor:
        cursor.execute(sql)
        cursor.execute(question)
        assert cursor.fetchall() == ((0,),)
        cursor.execute("SELECT LAST_INSERT_ID(8) UNION SELECT 1")
        cursor.execute(question)
        assert cursor.fetchall() == ((8 if "LAST" in question else 2,),)


def test_nothing_is_refused_for_a_text(two: Any) -> None:
    with two[0].cursor() as cursor:
        text = "it's \\' LAST_INSERT_ID() or SHOW WARNINGS, ROW_COUNT()"
        cursor.execute("SELECT %s", [text])
        assert cursor.fetchall() == ((text,),)


def test_nothing_is_refused_for_a_text_where_a_backslash_is_none(make: Any) -> None:
    wrapper = make(ONE, OPTIONS={"sql_mode": "NO_BACKSLASH_ESCAPES"})
    with wrapper.cursor() as cursor:
        text = "it's \\' LAST_INSERT_ID() or SHOW WARNINGS, ROW_COUNT() \\"
        cursor.execute("SELECT %s", [text])
        assert cursor.fetchall() == ((text,),)
    ask(wrapper, "SELECT 1")
    assert free(wrapper)
    with pytest.raises(ProgrammingError, match="gone back"):
        ask(wrapper, "SELECT 'a\\', ROW_COUNT(), ''")


def test_the_number_of_an_insert_in_the_orm(mine: Any, two: Any) -> None:
    numbers = {Note.objects.create(text=str(number)).pk for number in range(3)}
    assert free(mine)
    assert numbers == set(Note.objects.values_list("pk", flat=True))
    assert Note.objects.update(text="x") == 3
    assert free(mine)
    assert Note.objects.all().delete()[0] == 3
    assert free(mine)


# ----- many users -----


def test_more_threads_than_connections(make: Any) -> None:
    """Each counts in a session of its own for a while, and alone in transactions."""
    wrappers = [make({"max_size": 2, "timeout": 30, "release": "transaction"}) for _ in range(8)]
    ask(wrappers[0], f"INSERT INTO {Account._meta.db_table} (name, balance) VALUES ('shared', 0)")
    failures: list[Any] = []

    def work(own: int, wrapper: Any) -> None:
        try:
            for number in range(5):
                connections["default"] = wrapper
                with transaction.atomic():
                    account = Account.objects.select_for_update().get(name="shared")
                    account.balance += 1
                    account.save()
                ask(wrapper, f"SET @own = {own * 100 + number}")
                assert ask(wrapper, "SELECT @own") == ((own * 100 + number,),)
                wrapper.close()
                assert ask(wrapper, "SELECT @own") == ((None,),)
                wrapper.close()
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(wrappers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    [[balance]] = ask(wrappers[0], f"SELECT balance FROM {Account._meta.db_table}")
    assert balance == 40
    stats = wrappers[0].pool.get_stats()
    assert stats["pool_size"] <= 2


# ----- while it waits for a lock -----


@pytest.fixture(params=["request", "transaction"])
def waiting(request: Any, make: Any) -> Iterator[tuple[Any, Callable[[], None]]]:
    """A wrapper in either mode, and a function that waits for a lock which somebody else has until it gives up."""
    before = connections["default"]
    wrapper = make({"max_size": 1, "timeout": 5, "release": request.param})
    connections["default"] = wrapper
    entered, go = threading.Event(), threading.Event()

    def holder() -> None:
        with locked(writes=["release-test"], atomic=False):
            entered.set()
            go.wait(60)

    def wait() -> None:
        with pytest.raises(LockTimeout), locked(writes=["release-test"], wait=0.01, atomic=False):
            raise AssertionError("must not be entered")

    thread = threading.Thread(target=holder)
    thread.start()
    assert entered.wait(60)
    try:
        yield wrapper, wait
    finally:
        go.set()
        thread.join()
        connections["default"] = before


def after_a_query() -> None:
    assert Note.objects.count() == 0


def after_a_transaction() -> None:
    with transaction.atomic():
        Note.objects.create(text="a")


def after_an_insert() -> None:
    ask(connections["default"], f"INSERT INTO {LEFT} (text) VALUES ('a')")


def after_a_failed_transaction() -> None:
    Account.objects.create(name="x")
    with pytest.raises(IntegrityError), transaction.atomic():
        Account.objects.create(name="x")


def after_a_kept_cursor() -> Any:
    cursor = connections["default"].cursor()
    cursor.execute("SELECT 1")
    cursor.close()
    return cursor


def after_a_cursor_that_nobody_closed() -> None:
    connections["default"].cursor().execute("SELECT 1")


def after_an_iterator_left_half_way() -> None:
    Note.objects.bulk_create(Note(text=str(number)) for number in range(300))
    for _ in Note.objects.iterator(chunk_size=10):
        break


def after_a_read_stream() -> None:
    connections["default"].ensure_connection()
    stream = connections["default"].connection.cursor(SSCursor)
    stream.execute(ROWS)
    stream.fetchall()
    stream.close()


@pytest.mark.parametrize(
    "before",
    [
        after_a_query,
        after_a_transaction,
        after_an_insert,
        after_a_failed_transaction,
        after_a_kept_cursor,
        after_a_cursor_that_nobody_closed,
        after_an_iterator_left_half_way,
        after_a_read_stream,
    ],
)
def test_whoever_waits_for_a_lock_holds_no_connection(waiting: Any, before: Callable[[], Any]) -> None:
    wrapper, wait = waiting
    kept = before()
    wait()
    assert free(wrapper)
    assert Note.objects.count() >= 0
    del kept


def test_whoever_asks_for_a_lock_needs_no_connection_for_that(waiting: Any, make: Any) -> None:
    wrapper, _ = waiting
    other = make(wrapper.settings_dict["OPTIONS"]["pool"])
    after_a_query()
    wrapper.release_if_clean()
    with other.cursor(), pytest.raises(LockTimeout), locked(writes=["release-test"], wait=0.01):
        raise AssertionError("must not be entered")


def with_an_open_cursor() -> Any:
    cursor = connections["default"].cursor()
    cursor.execute("SELECT 1")
    return cursor


def with_an_iterator() -> Any:
    Note.objects.bulk_create(Note(text=str(number)) for number in range(300))
    rows = Note.objects.iterator(chunk_size=10)
    next(rows)
    return rows


def with_a_variable() -> Any:
    ask(connections["default"], "SET @x = 1")


def with_the_drivers_connection() -> Any:
    connections["default"].ensure_connection()
    return connections["default"].connection


def with_a_raw_cursor() -> Any:
    connections["default"].ensure_connection()
    return connections["default"].connection.cursor()


@pytest.mark.parametrize(
    "before",
    [with_an_open_cursor, with_an_iterator, with_a_variable, with_the_drivers_connection, with_a_raw_cursor],
)
def test_whoever_waits_for_a_lock_keeps_what_he_may_go_on_with(waiting: Any, before: Callable[[], Any]) -> None:
    wrapper, wait = waiting
    kept = before()
    [[number]] = ask(wrapper, "SELECT CONNECTION_ID()")
    wait()
    assert not free(wrapper)
    assert ask(wrapper, "SELECT CONNECTION_ID()") == ((number,),)
    del kept


def test_a_cursor_that_is_not_collected_yet_may_still_be_used(waiting: Any) -> None:
    wrapper, wait = waiting

    class Report:
        def __init__(self) -> None:
            self.cursor = wrapper.cursor()
            self.itself = self

    gc.disable()
    try:
        report: Any = Report()
        report.cursor.execute("SELECT 1")
        del report
        wait()
        assert not free(wrapper)
        gc.collect()
        wait()
        assert free(wrapper)
    finally:
        gc.enable()


def test_the_waiters_do_not_keep_the_holder_from_the_database(make: Any) -> None:
    """One connection, and each who waits for the lock has used it: the holder gets it all the same."""
    option = {"max_size": 1, "timeout": 30}
    wrappers = [make(option) for _ in range(6)]
    pool = wrappers[0].pool
    done: list[int] = []
    failures: list[BaseException] = []

    def work(number: int) -> None:
        connections["default"] = wrappers[number]
        try:
            Note.objects.count()
            with locked(writes=["convoy-test"], wait=30):
                Note.objects.create(text=str(number))
                done.append(number)
            connections["default"].close()
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    entered, go = threading.Event(), threading.Event()

    def holder() -> None:
        with locked(writes=["convoy-test"], atomic=False):
            entered.set()
            go.wait(60)

    threads = [threading.Thread(target=holder)]
    threads[0].start()
    assert entered.wait(60)
    threads += [threading.Thread(target=work, args=[number]) for number in range(len(wrappers))]
    for thread in threads[1:]:
        thread.start()
    until(lambda: pool.get_stats().get("requests_num", 0) >= len(wrappers) and free(wrappers[0]))
    go.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(done) == list(range(len(wrappers)))
