"""Fences as `locked` uses them: when they are claimed, by whom, and that without them updates are lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection, connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext

from pooling import runtime
from pooling.checks import check_fences
from pooling.decorators import locked
from pooling.errors import FenceRejected, LockLost
from pooling.store.memory import MemoryStore
from tests.app.models import Account

from .conftest import meet_a_deadlock, tokens

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE = 20.0


@pytest.fixture
def account() -> Account:
    return Account.objects.create(name="ann")


def add_one(pause: Any = None) -> int:
    with locked(writes=["accounts/ann"]) as held:
        found = Account.objects.get(name="ann")
        if pause is not None:
            pause()
        found.balance += 1
        found.save()
        return int(held.fence)


def lose_all_locks() -> None:
    """What the store does when the leases have run out."""
    store = runtime.store()
    for party in store.parties():
        store.release(party.ticket)


def test_the_claim_is_the_first_statement_and_bears_the_grants_token(account: Account) -> None:
    add_one()
    with CaptureQueriesContext(connection) as captured:
        token = add_one()
    assert [query["sql"][:19] for query in captured][:2] == ["BEGIN", "UPDATE pooling_fenc"]
    assert sum("pooling_fence" in query["sql"] for query in captured) == 1
    assert tokens() == {"accounts": 0, "accounts/ann": token}


@pytest.mark.parametrize("fenced", [True, False], ids=["fenced", "not fenced"])
def test_a_holder_that_stands_still_before_its_commit(account: Account, fenced: bool) -> None:
    """Without fences the newer holder reads what the older one is about to change: the negative control."""
    at_commit, go_on, read = threading.Event(), threading.Event(), threading.Event()

    def older() -> None:
        wrapper: Any = connections["default"]
        commit = wrapper._commit

        def late() -> None:
            at_commit.set()
            assert go_on.wait(PATIENCE)
            commit()

        wrapper._commit = late
        try:
            add_one()
        finally:
            del wrapper._commit
            connections.close_all()

    def newer() -> None:
        try:
            add_one(read.set)
        finally:
            connections.close_all()

    with override_settings(POOLING={"FENCE": fenced}), ThreadPoolExecutor(2) as pool:
        add_one()
        one = pool.submit(older)
        assert at_commit.wait(PATIENCE)
        lose_all_locks()
        other = pool.submit(newer)
        if not fenced:
            assert read.wait(PATIENCE)  # it has read although the older one's change is not committed
        go_on.set()
        one.result(PATIENCE)
        other.result(PATIENCE)
    account.refresh_from_db()
    assert account.balance == (3 if fenced else 2)


def test_a_holder_that_stands_still_before_its_claim(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    granted, go_on = threading.Event(), threading.Event()
    store = runtime.store()
    acquire = store.acquire

    def late(request: Any) -> Any:
        grant = acquire(request)
        if threading.current_thread().name.startswith("older"):
            granted.set()
            assert go_on.wait(PATIENCE)
        return grant

    monkeypatch.setattr(store, "acquire", late)

    def older() -> None:
        try:
            add_one()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1, thread_name_prefix="older") as pool:
        one = pool.submit(older)
        assert granted.wait(PATIENCE)
        lose_all_locks()
        add_one()
        go_on.set()
        with pytest.raises(FenceRejected, match="accounts/ann"):
            one.result(PATIENCE)
    account.refresh_from_db()
    assert account.balance == 1


@pytest.mark.parametrize("nested", [False, True])
def test_a_claim_that_went_with_a_swallowed_deadlock(account: Account, notes: None, nested: bool) -> None:
    """What follows the deadlock is a transaction without a fence; it is claimed again before the COMMIT."""
    elsewhere = ThreadPoolExecutor(1)

    def hold() -> None:
        with locked(writes=["a"] if nested else ["accounts/ann"]):
            if nested:
                with locked(writes=["accounts/ann"]):
                    found = Account.objects.get(name="ann")
            else:
                found = Account.objects.get(name="ann")
            meet_a_deadlock()
            lose_all_locks()
            elsewhere.submit(in_its_own_thread).result(PATIENCE)
            found.balance += 10
            found.save()

    def in_its_own_thread() -> None:
        try:
            add_one()
        finally:
            connections.close_all()

    with elsewhere, pytest.raises(FenceRejected, match=r"may not commit.*'accounts/ann'.*deadlock"):
        hold()
    account.refresh_from_db()
    assert account.balance == 1


def test_after_a_swallowed_deadlock_who_has_the_lock_may_commit(account: Account, notes: None) -> None:
    with locked(writes=["accounts/ann"]) as held:
        meet_a_deadlock()
        Account.objects.update(balance=5)
    account.refresh_from_db()
    assert account.balance == 5
    assert tokens()["accounts/ann"] == held.fence


def test_a_swallowed_error_that_django_rolls_back_for_stays_one(account: Account, notes: None) -> None:
    with locked(writes=["accounts/ann"]):
        Account.objects.update(balance=5)
        with pytest.raises(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SELECT nothing FROM tests_nowhere WHERE nothing")
        transaction.set_rollback(True)
    account.refresh_from_db()
    assert account.balance == 0


@override_settings(POOLING={"FENCE": False})
def test_without_fences_a_nested_hold_that_is_lost_refuses_the_outer_commit(account: Account) -> None:
    def hold() -> None:
        with locked(writes=["a"]):
            with locked(writes=["accounts/ann"]) as inner:
                Account.objects.update(balance=5)
            runtime.store().release(inner._ticket)

    with pytest.raises(LockLost, match="'accounts/ann'"):
        hold()
    account.refresh_from_db()
    assert account.balance == 0


@pytest.mark.parametrize("ahead", [60, 365 * 86400], ids=["a minute", "a year"])
def test_a_store_that_is_behind_the_fences_refuses_once(
    account: Account, ahead: int, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a failover to a machine whose clock is behind and that has not got the last tokens."""
    newer = add_one() + ahead * 1_000_000
    with connection.cursor() as cursor:
        cursor.execute("UPDATE pooling_fence SET token = %s WHERE grp = 'accounts/ann'", [newer])
    with pytest.raises(FenceRejected):
        add_one()
    assert f"It goes on from {newer}" in caplog.text
    assert add_one() == newer + 1
    assert add_one() == newer + 2
    account.refresh_from_db()
    assert account.balance == 3


def test_a_fence_that_no_store_can_go_on_from_is_said(account: Account, caplog: pytest.LogCaptureFixture) -> None:
    add_one()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE pooling_fence SET token = %s WHERE grp = 'accounts/ann'", [2**60])
    with pytest.raises(FenceRejected):
        add_one()
    assert "may be older than the fences" in caplog.text


def test_a_loss_that_is_known_refuses_the_commit(account: Account) -> None:
    def lose_it() -> None:
        with locked(writes=["accounts/ann"]) as held:
            Account.objects.update(balance=5)
            lose_all_locks()
            with pytest.raises(LockLost):
                held.check()

    with pytest.raises(LockLost):
        lose_it()
    account.refresh_from_db()
    assert account.balance == 0


def test_a_fenced_commit_does_not_ask_the_store(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    store = runtime.store()
    renew = store.renew
    monkeypatch.setattr(store, "renew", lambda *args: asked.append(args) or renew(*args))  # type: ignore[func-returns-value]
    add_one()
    assert asked == []
    with locked(writes=["accounts/ann"], fence=False):
        pass
    assert len(asked) == 1


class TestWhatIsNotFenced:
    @pytest.fixture(autouse=True)
    def nothing_claimed(self) -> Iterator[None]:
        yield
        assert tokens() == {}

    def test_by_the_call(self) -> None:
        with locked(writes=["a"], fence=False):
            pass

    @override_settings(POOLING={"FENCE": False})
    def test_by_the_setting(self) -> None:
        with locked(writes=["a"]):
            pass

    def test_readers(self, atomic_requests: None) -> None:
        view = locked(reads=["a"])(lambda request: HttpResponse(str(Account.objects.count())))
        assert view(RequestFactory().get("/")).content == b"0"

    def test_what_is_not_the_database(self) -> None:
        with locked(writes=["a"], atomic=False):
            pass

    def test_the_store_of_one_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(MemoryStore, "shared", False)
        with locked(writes=["a"]):
            pass

    def test_a_fence_that_is_demanded_without_a_shared_store(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(MemoryStore, "shared", False)
        with pytest.raises(ImproperlyConfigured, match="fence"), locked(writes=["a"], fence=True):
            pass


def test_a_fence_that_is_demanded_where_no_transaction_can_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    @transaction.non_atomic_requests
    def view(request: HttpRequest) -> HttpResponse:
        raise AssertionError("must not be called")

    with pytest.raises(ImproperlyConfigured, match=r"fence=True.*this call opens none.*using="):
        locked(writes=["a"], fence=True)(view)(RequestFactory().get("/"))
    monkeypatch.setattr(connections["default"], "vendor", "sqlite")
    with (
        pytest.raises(ImproperlyConfigured, match=r"fence=True.*those on 'default' have none.*leave fence out"),
        locked(writes=["a"], fence=True),
    ):
        raise AssertionError("must not be entered")


@pytest.fixture
def atomic_requests() -> Iterator[None]:
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    yield
    connection.settings_dict["ATOMIC_REQUESTS"] = False


@override_settings(POOLING={"FENCE": False})
def test_fenced_by_the_call_alone() -> None:
    with locked(writes=["a"], fence=True):
        pass
    assert list(tokens()) == ["a"]


@pytest.mark.urls("tests.decorators.urls")
@pytest.mark.parametrize("kind", ["function", "dispatch", "async", "async-dispatch"])
def test_views_under_atomic_requests(kind: str, client: Client, atomic_requests: None) -> None:
    assert client.get(f"/{kind}/ann").content == b"done"
    assert tokens()["accounts/ann"] > 0


def test_an_async_block(account: Account) -> None:
    async def main() -> int:
        async with locked(writes=["accounts/ann"]) as held:
            await Account.objects.aupdate(balance=9)
            return int(held.fence)

    token = asyncio.run(main())
    assert tokens()["accounts/ann"] == token


def test_a_nested_hold_claims_what_is_new(account: Account) -> None:
    wrapper = connections["default"]
    level, wrapper.isolation_level = wrapper.isolation_level, "read committed"
    wrapper.close()
    try:
        with locked(writes=["a"]) as outer:
            with locked(writes=["a"]):
                pass
            with locked(writes=["b"]) as inner:
                pass
    finally:
        wrapper.close()
        wrapper.isolation_level = level
    assert tokens() == {"a": outer.fence, "b": inner.fence}


def test_inside_a_testcase_transaction(db: None) -> None:
    with locked(writes=["accounts/ann"]):
        pass


def test_the_check_before_a_deployment_finds_a_missing_table() -> None:
    @locked(writes=["a"])
    def view(request: Any) -> None: ...

    assert check_fences(None) == []
    with connection.cursor() as cursor:
        cursor.execute("RENAME TABLE pooling_fence TO pooling_fence_gone")
    try:
        (message,) = check_fences(None)
        with override_settings(POOLING={"FENCE": False}):
            assert check_fences(None) == []
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RENAME TABLE pooling_fence_gone TO pooling_fence")
    assert message.id == "pooling.W006"
    assert "migrate pooling --database default" in message.hint
    del view


@pytest.fixture
def other_alias(second_alias: str) -> str:
    return second_alias


def test_two_aliases_of_one_database_are_refused_at_once(account: Account, other_alias: str) -> None:
    with (
        pytest.raises(ImproperlyConfigured, match=r"the same database.*using='default'"),
        locked(writes=["accounts/ann"], using=["default", other_alias]),
    ):
        pass
    assert runtime.store().parties() == []
    assert add_one()
    with (
        locked(writes=["accounts"], using="default"),
        pytest.raises(ImproperlyConfigured, match="the same database"),
        locked(writes=["accounts/ann"], using=other_alias),
    ):
        pass


def test_what_two_aliases_do_not_share_is_not_refused(account: Account, other_alias: str) -> None:
    connections["default"].settings_dict["OPTIONS"]["isolation_level"] = "read committed"
    connection.close()
    try:
        with locked(writes=["accounts/ann"], using="default"), locked(writes=["stock/7"], using=other_alias):
            pass
    finally:
        del connections["default"].settings_dict["OPTIONS"]["isolation_level"]
        connection.close()
    with locked(writes=["accounts/ann"], using=["default", other_alias], fence=False):
        pass
