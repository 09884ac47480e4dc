"""start_transaction=True: `atomic()` in three statements, and as safe as in four."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import IntegrityError, OperationalError, connections, transaction
from django.test.utils import CaptureQueriesContext

from tests.app.models import Account, Note

from .conftest import ask, until

pytestmark = pytest.mark.django_db(transaction=True)

NOTES = Note._meta.db_table
TEXTS = f"SELECT text FROM {NOTES} ORDER BY id"
POOL = {"max_size": 1, "timeout": 5, "start_transaction": True}


class Undo(Exception):
    pass


@pytest.fixture(params=["request", "transaction"])
def mine(request: Any, make: Any) -> Iterator[Any]:
    """The thread's own "default", as the ORM and `transaction` see it."""
    before = connections["default"]
    wrapper = make({**POOL, "release": request.param})
    connections["default"] = wrapper
    try:
        yield wrapper
    finally:
        connections["default"] = before


@pytest.fixture
def log(observer: Any) -> Iterator[Any]:
    """What the server was sent since, by its own log: a function."""
    ask(observer, "SET GLOBAL log_output = 'TABLE'")
    ask(observer, "TRUNCATE mysql.general_log")
    ask(observer, "SET GLOBAL general_log = 1")

    def sent(wrapper: Any) -> list[str]:
        ask(observer, "SET GLOBAL general_log = 0")
        [slot] = wrapper.pool._slots.values()
        number = slot.conn.thread_id()
        rows = ask(
            observer,
            f"SELECT argument FROM mysql.general_log WHERE thread_id = {number} AND command_type = 'Query'",
        )
        return [bytes(row[0]).decode() if not isinstance(row[0], str) else row[0] for row in rows]

    yield sent
    ask(observer, "SET GLOBAL general_log = 0")
    ask(observer, "SET GLOBAL log_output = 'FILE'")


def undo(*texts: str, after: str | None = None) -> None:
    with transaction.atomic():
        add(*texts[:1])
        if after is not None:
            ask(connections["default"], after)
        add(*texts[1:])
        raise Undo


def undone(*texts: str, after: str | None = None) -> None:
    """Notes in a transaction that is rolled back; ``after`` is a statement between the first and the others."""
    with pytest.raises(Undo):
        undo(*texts, after=after)


def add(*texts: str) -> None:
    for text in texts:
        ask(connections["default"], f"INSERT INTO {NOTES} (text) VALUES ('{text}')")


# ----- statements -----


def test_three_statements(mine: Any, log: Any) -> None:
    with transaction.atomic():
        ask(mine, "SELECT 42")
    assert log(mine)[-3:] == ["START TRANSACTION", "SELECT 42", "COMMIT"]
    assert len([line for line in log(mine) if "autocommit" in line]) <= 1  # the connect's


def test_three_statements_for_a_rollback(mine: Any, log: Any) -> None:
    ask(mine, "SELECT 41")
    undone("a")
    sent = log(mine)
    at = sent.index("SELECT 41")
    assert [line.split()[0] for line in sent[at + 1 :]] == ["START", "INSERT", "ROLLBACK"]


def test_four_without_it(make: Any, log: Any) -> None:
    before = connections["default"]
    connections["default"] = wrapper = make({"max_size": 1, "timeout": 5})
    try:
        with transaction.atomic():
            ask(wrapper, "SELECT 42")
        assert log(wrapper)[-4:] == ["SET autocommit=0", "SELECT 42", "COMMIT", "SET autocommit=1"]
    finally:
        connections["default"] = before


def test_savepoints_cost_what_they_cost(mine: Any, log: Any) -> None:
    with transaction.atomic():
        add("a")
        with transaction.atomic():
            add("b")
        undone("c")
        with transaction.atomic(savepoint=False):
            add("d")
    words = [line.split()[0] for line in log(mine)]
    words = words[words.index("START") :]
    savepoint = ["SAVEPOINT", "INSERT", "RELEASE"]
    undo = ["SAVEPOINT", "INSERT", "ROLLBACK", "RELEASE"]
    assert words == ["START", "INSERT", *savepoint, *undo, "INSERT", "COMMIT"]
    assert ask(mine, TEXTS) == (("a",), ("b",), ("d",))


def test_it_is_logged_as_ever(mine: Any) -> None:
    with CaptureQueriesContext(mine) as queries, transaction.atomic():
        ask(mine, "SELECT 1")
    assert [query["sql"] for query in queries] == ["BEGIN", "SELECT 1", "COMMIT"]


def test_a_duplicate_costs_nothing_more(mine: Any, log: Any) -> None:
    Account.objects.create(name="x")
    with transaction.atomic():
        with pytest.raises(IntegrityError), transaction.atomic():
            Account.objects.create(name="x")
        add("a")
    words = [line.split()[0] for line in log(mine)]
    words = words[words.index("START") : words.index("COMMIT") + 1]
    assert words == ["START", "SAVEPOINT", "INSERT", "ROLLBACK", "RELEASE", "INSERT", "COMMIT"]


# ----- what it must not change -----


def test_nobody_sees_it_before_the_commit(mine: Any, observer: Any) -> None:
    told: list[Any] = []
    with transaction.atomic(durable=True):
        add("a")
        transaction.on_commit(lambda: told.append(ask(observer, TEXTS)))
        assert ask(observer, TEXTS) == ()
        assert ask(mine, "SELECT @@in_transaction, @@autocommit") == ((1, 1),)
        assert not mine.connection.clean
    assert told == [(("a",),)]
    assert ask(mine, "SELECT @@in_transaction") == ((0,),)
    assert mine.connection is None or mine.connection.clean
    undone("b")
    assert ask(observer, TEXTS) == (("a",),)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE IF NOT EXISTS start_transaction_test (a int)",
        "TRUNCATE django_session",
        "ANALYZE TABLE django_session",
        "COMMIT",
        "ROLLBACK",
        "SET autocommit = 1",
        "LOCK TABLES {} WRITE",
        "SELECT 1; COMMIT",
        "BEGIN",
    ],
)
def test_after_an_implicit_commit_the_rest_is_undone_all_the_same(mine: Any, observer: Any, statement: str) -> None:
    """As without the option: what came before is committed, and what comes after belongs to the transaction."""
    try:
        undone("before", "after", "after", after=statement.format(NOTES))
        mine.close()
        assert "after" not in [text for [text] in ask(observer, TEXTS)]
        assert ask(mine, "SELECT @@autocommit, @@in_transaction") == ((1, 0),)
    finally:
        ask(observer, "DROP TABLE IF EXISTS start_transaction_test")


def test_after_a_deadlock_the_rest_is_undone_all_the_same(mine: Any, make: Any, observer: Any) -> None:
    """The server rolls the whole transaction back, and a view that goes on must not write bit by bit."""
    accounts = Account._meta.db_table
    rows = Account.objects.bulk_create(Account(name=name) for name in "ab")
    first, second = Account.objects.order_by("name").values_list("pk", flat=True)
    assert len(rows) == 2
    other = make({"max_size": 1, "timeout": 5, "min_size": 0, "max_waiting": 7})
    other.set_autocommit(False)
    # Heavier, so that the server rolls back the one under test.
    ask(other, f"INSERT INTO {NOTES} (text) SELECT 'heavy' FROM information_schema.collations")
    ask(other, f"UPDATE {accounts} SET balance = 1 WHERE id = {second}")
    blocked = threading.Thread(target=ask, args=(other, f"UPDATE {accounts} SET balance = 1 WHERE id = {first}"))
    waits = "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'"

    def view() -> None:
        with transaction.atomic():
            ask(mine, f"UPDATE {accounts} SET balance = 2 WHERE id = {first}")
            blocked.start()
            until(lambda: ask(observer, waits)[0][1] == "1")
            with pytest.raises(OperationalError) as caught:
                ask(mine, f"UPDATE {accounts} SET balance = 2 WHERE id = {second}")
            assert caught.value.args[0] == 1213
            add("after")
            assert ask(mine, "SELECT @@in_transaction, @@autocommit") == ((1, 0),)
            raise Undo

    with pytest.raises(Undo):
        view()
    blocked.join()
    other.close()
    assert ask(observer, TEXTS) == ()
    assert ask(mine, "SELECT @@autocommit, @@in_transaction") == ((1, 0),)


def test_by_hand_it_is_autocommit_that_is_switched(mine: Any, log: Any) -> None:
    transaction.set_autocommit(False)
    add("a")
    with transaction.atomic():
        add("b")
    transaction.rollback()
    with transaction.atomic():
        add("c")
    transaction.commit()
    transaction.set_autocommit(True)
    assert ask(mine, TEXTS) == (("c",),)
    assert "START TRANSACTION" not in log(mine)


def test_autocommit_off_by_setting(make: Any, observer: Any) -> None:
    wrapper = make(POOL, AUTOCOMMIT=False)
    before = connections["default"]
    connections["default"] = wrapper
    try:
        with transaction.atomic():
            add("a")
        assert ask(observer, TEXTS) == ()
        wrapper.commit()
        assert ask(observer, TEXTS) == (("a",),)
        undone("b")
        wrapper.commit()
        assert ask(observer, TEXTS) == (("a",),)
    finally:
        connections["default"] = before


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
def test_the_isolation_level(make: Any, observer: Any, level: str) -> None:
    wrapper = make(POOL, OPTIONS={"isolation_level": level})
    before = connections["default"]
    connections["default"] = wrapper
    observer.inc_thread_sharing()
    try:
        ask(observer, f"INSERT INTO {NOTES} (text) VALUES ('first')")
        with transaction.atomic():
            assert ask(wrapper, "SELECT @@tx_isolation")[0][0] == level.upper().replace(" ", "-")
            # START TRANSACTION takes no snapshot: the first read does, as ever.
            ask(observer, f"UPDATE {NOTES} SET text = 'second'")
            assert ask(wrapper, TEXTS) == (("second",),)
            if level != "serializable":
                ask(observer, f"UPDATE {NOTES} SET text = 'third'")
                expected = "third" if level == "read committed" else "second"
                assert ask(wrapper, TEXTS) == ((expected,),)
    finally:
        connections["default"] = before


def test_a_level_for_one_transaction(mine: Any) -> None:
    ask(mine, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    with pytest.raises(OperationalError, match="while a transaction is in progress"), transaction.atomic():
        ask(mine, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")


def test_closed_inside(mine: Any, observer: Any) -> None:
    with transaction.atomic():
        add("lost")
        mine.close()
    assert ask(observer, TEXTS) == ()
    assert ask(mine, "SELECT @@autocommit, @@in_transaction") == ((1, 0),)


def test_left_open_it_is_rolled_back(mine: Any, observer: Any) -> None:
    mine.ensure_connection()
    mine.connection.start_transaction()
    add("lost")
    assert not mine.release_if_clean()
    mine.close()
    assert ask(mine, TEXTS) == ()
    assert ask(observer, TEXTS) == ()


@pytest.mark.parametrize("option", [{"start_transaction": "yes"}, {"start_transaction": 1}, {"release": "statement"}])
def test_bad_options(make: Any, option: dict[str, Any]) -> None:
    [name] = option
    with pytest.raises(ImproperlyConfigured, match=f"'{name}' must be"):
        make({**option}).ensure_connection()


def test_an_option_misspelt(make: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="Did you mean 'release'"):
        make({"relase": "transaction"}).ensure_connection()
