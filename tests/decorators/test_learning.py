"""Order learning: database-then-lock against lock-then-database is reported from runs that never met."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction
from django.test import TestCase, override_settings

from pooling import LockOrderError, group, learning
from pooling.decorators import locked
from tests.app.models import Account, Note

pytestmark = pytest.mark.django_db(transaction=True)

RAISE = override_settings(POOLING={"ORDER_LEARNING": "raise"})


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    learning.reset()
    yield
    learning.reset()


@pytest.fixture
def reports(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, logger="pooling.locks.order")

    def said() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "pooling.locks.order"]

    return said


@pytest.fixture
def other(second_alias: str) -> str:
    return second_alias


def database_first(name: str) -> None:
    with transaction.atomic():
        Account.objects.select_for_update().filter(name=name).first()
        with locked(writes=[group("accounts", name)], atomic=False):
            pass


@locked(writes=["accounts/{name}"])
def lock_first(name: str) -> None:
    Account.objects.filter(name=name).update(balance=1)


def in_thread(function: Callable[[], Any]) -> None:
    def work() -> None:
        try:
            function()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result(60)


def pairs() -> set[tuple[str, str]]:
    return {(str(one.held), str(one.asked)) for one in learning.learned()}


DEFAULT = "a transaction on 'default'"


def test_database_then_lock_against_lock_then_database(reports: Callable[[], list[str]]) -> None:
    database_first("ann")
    assert reports() == []
    lock_first("bob")  # another account: what counts is the template
    (text,) = reports()
    assert "1. tests.decorators.test_learning.lock_first asks for a transaction on 'default'" in text
    assert "2. with locked(…) in database_first() asks for 'accounts/{…}' while it has a transaction on" in text
    assert "in lock_first" in text
    assert "Account.objects.filter(name=name).update(balance=1)" in text  # where it asks
    assert "in database_first" in text
    assert "with locked(writes=[group" in text
    assert "site-packages" not in text
    assert "pooling/steps" not in text
    assert "with locked(…) in database_first(): take 'accounts/{…}' first and open the transaction inside" in text
    database_first("ann")
    lock_first("bob")
    assert len(reports()) == 1


def test_in_the_other_direction_and_in_other_threads(reports: Callable[[], list[str]]) -> None:
    in_thread(lambda: lock_first("ann"))
    assert reports() == []
    in_thread(lambda: database_first("bob"))
    assert "1. with locked(…) in database_first() asks for 'accounts/{…}'" in reports()[0]


@RAISE
def test_raised_before_anything_is_held_and_every_time() -> None:
    lock_first("ann")
    for _ in range(2):
        with pytest.raises(LockOrderError, match="lock_first asks for a transaction on 'default' while it has"):
            database_first("ann")
    lock_first("ann")  # that one was there first


@RAISE
def test_raised_at_the_statement() -> None:
    database_first("ann")
    Account.objects.create(name="ann")
    for _ in range(2):
        with pytest.raises(LockOrderError):
            lock_first("ann")
    assert Account.objects.get().balance == 0


def test_a_statement_without_a_transaction_is_one(reports: Callable[[], list[str]]) -> None:
    database_first("ann")
    with locked(writes=["accounts"], atomic=False):
        assert reports() == []
        Account.objects.update(balance=2)
    assert "asks for a transaction on 'default' while it has 'accounts'" in reports()[0]


def test_what_was_open_before_the_lock_is_not_asked_for_again(reports: Callable[[], list[str]]) -> None:
    with transaction.atomic():
        with locked(writes=["a"], atomic=False):
            Account.objects.update(balance=2)
            with transaction.atomic():
                Account.objects.update(balance=3)
    assert pairs() == {(DEFAULT, "'a'")}
    assert reports() == []


def test_what_is_opened_without_a_statement_between_is_known_as_well(reports: Callable[[], list[str]]) -> None:
    with locked(writes=["a"], atomic=False):
        with transaction.atomic():
            with locked(writes=["b"], atomic=False):
                Account.objects.update(balance=3)
    assert pairs() == {("'a'", "'b'"), (DEFAULT, "'b'")}


def test_groups_in_order_are_no_circle(reports: Callable[[], list[str]]) -> None:
    with locked(writes=["a/1"], atomic=False), locked(writes=["a/2"], atomic=False):
        pass
    with locked(writes=["a"], atomic=False), locked(writes=["b"], atomic=False):
        pass
    with locked(writes=["a", "b"]), locked(writes=["b"]):
        Account.objects.update(balance=3)
    assert reports() == []


def test_the_pool_runs_dry_over_a_nested_lock(reports: Callable[[], list[str]]) -> None:
    @locked(writes=["total"])
    def total() -> None:
        Account.objects.update(balance=3)

    @locked(writes=["accounts/{name}"])
    def nested(name: str) -> None:
        Account.objects.update(balance=4)
        total()

    total()
    assert reports() == []
    nested("ann")
    (text,) = reports()
    assert "total asks for 'total' while it has a transaction on 'default', which a `locked` further out" in text
    assert "declare 'total' on the outer lock" in text


def test_three_in_a_row(reports: Callable[[], list[str]]) -> None:
    with transaction.atomic(), locked(writes=["a"], atomic=False):
        Account.objects.update(balance=3)
    with locked(writes=["a"], atomic=False), locked(writes=["b"], atomic=False):
        pass
    assert reports() == []
    with locked(writes=["b"]):
        Account.objects.update(balance=3)
    assert [line[0] for line in reports()[0].split("\n") if line[0].isdigit()] == ["1", "2", "3"]


def test_what_a_nested_hold_left_is_held_to_the_commit(other: str) -> None:
    with locked(writes=["a"]):
        with locked(writes=["b"]):
            pass
        Note.objects.using(other).create(text="x")
    assert ("'b'", "a transaction on 'other'") in pairs()

    with locked(writes=["c"], atomic=False):
        Note.objects.using(other).create(text="x")
    with locked(writes=["c"], atomic=False):
        with locked(writes=["d"], atomic=False):
            pass
        Note.objects.using(other).create(text="x")
    assert ("'d'", "a transaction on 'other'") not in pairs()


def test_two_databases_in_opposite_orders(other: str, reports: Callable[[], list[str]]) -> None:
    def both(first: str, second: str) -> None:
        with locked(reads=["a"], atomic=False), transaction.atomic(using=first):
            Note.objects.using(first).exists()
            with transaction.atomic(using=second):
                Note.objects.using(second).exists()

    both("default", other)
    both("default", other)
    assert reports() == []
    both(other, "default")
    assert "in the order of DATABASES" in reports()[0]


def test_a_connection_that_is_kept_while_waiting(reports: Callable[[], list[str]]) -> None:
    if not hasattr(connection, "release_if_clean") or connection.pool is None:
        pytest.skip("needs the pooled backend")
    with connection.cursor() as cursor:
        cursor.execute("SET @mine = 1")
    with locked(writes=["a"]):
        Account.objects.update(balance=3)
    assert "a connection of 'default', kept while it waits" in reports()[0]
    connection.close()
    learning.reset()
    Account.objects.exists()
    with locked(writes=["a"]):
        Account.objects.update(balance=3)
    assert pairs() == {("'a'", DEFAULT)}


def test_what_depends_on_values_is_said_once(reports: Callable[[], list[str]]) -> None:
    @locked(writes=["accounts/{name}"], atomic=False)
    def one(name: str, then: Callable[[], Any] = lambda: None) -> None:
        then()

    one("a", lambda: one("b"))
    (text,) = reports()
    assert "'accounts/b' and 'accounts/a', in the right order; with other values it is a LockOrderError" in text
    one("a", lambda: one("c"))
    one("a", lambda: one("a"))
    assert len(reports()) == 1

    @locked(writes=["accounts/{name}/cards"], atomic=False)
    def below(name: str) -> None: ...

    @locked(reads=["accounts/{name}"], atomic=False)
    def reading(name: str) -> None:
        with locked(reads=["accounts/x/cards/7"], atomic=False):
            pass

    @locked(writes=["b/{name}"], atomic=False)
    def later(name: str) -> None: ...

    one("a", lambda: later("0"))
    reading("x")
    assert len(reports()) == 1


def test_literal_templates_and_callables() -> None:
    @locked(reads=["reports/daily", "reports/{kind}", lambda kind: [group("users", kind, "x")]], atomic=False)
    def view(kind: str) -> None:
        Account.objects.exists()

    view("weekly")
    assert {held for held, _ in pairs()} == {"'reports/daily'", "'reports/{kind}'", "'users/{…}/{…}'"}


def test_async(reports: Callable[[], list[str]]) -> None:
    @locked(writes=["a"])
    async def inner() -> None:
        await Account.objects.aupdate(balance=3)

    async def main() -> None:
        await inner()

        def open_first() -> None:
            with transaction.atomic():
                with locked(writes=["a"], atomic=False):
                    pass

        await sync_to_async(open_first)()

    asyncio.run(main())
    (text,) = reports()
    assert "in open_first" in text
    assert "in inner" in text


def test_tasks_of_one_hold_do_not_mix(reports: Callable[[], list[str]]) -> None:
    async def task(name: str) -> None:
        async with locked(writes=[f"things/{name}"], atomic=False):
            await Account.objects.acount()

    async def main() -> None:
        async with locked(writes=["a"], atomic=False):
            await asyncio.gather(task("x"), task("y"))

    asyncio.run(main())
    assert pairs() == {("'a'", "'things/{…}'"), ("'a'", DEFAULT), ("'things/{…}'", DEFAULT)}
    assert reports() == []


def test_an_execute_wrapper_around_it_all_is_left_alone() -> None:
    seen: list[str] = []

    def mine(execute: Any, sql: Any, *args: Any) -> Any:
        seen.append(sql)
        return execute(sql, *args)

    connections["default"].execute_wrappers.clear()
    with connection.execute_wrapper(mine):
        lock_first("ann")
    assert connection.execute_wrappers == [learning.watch]
    count = len(seen)
    assert count
    lock_first("ann")
    assert len(seen) == count


@pytest.mark.parametrize("choice", [{"ORDER_LEARNING": False}, {"ENABLED": False}])
def test_switched_off(choice: dict[str, Any], reports: Callable[[], list[str]]) -> None:
    with override_settings(POOLING=choice):
        database_first("ann")
        lock_first("ann")
    assert learning.learned() == []
    assert reports() == []


def test_no_more_than_so_many(monkeypatch: pytest.MonkeyPatch, reports: Callable[[], list[str]]) -> None:
    monkeypatch.setattr(learning._known, "_limit", 2)
    for name in ("a", "b", "c", "d"):
        with locked(writes=[name]):
            Account.objects.exists()
    assert len(learning.learned()) == 2
    assert len(reports()) == 1
    assert "no more are learned" in reports()[0]


class InATestCase(TestCase):
    """Its own transaction does not count, and what it surrounds does."""

    def test_the_transaction_of_the_test_is_none(self) -> None:
        learning.reset()
        with locked(writes=["a"], atomic=False):
            Account.objects.update(balance=3)
        lock_first("ann")
        assert pairs() == {("'a'", DEFAULT), ("'accounts/{name}'", DEFAULT)}
        with self.assertLogs("pooling.locks.order", "WARNING"):
            database_first("ann")
