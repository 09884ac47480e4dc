"""With the store down and ``ON_STORE_DOWN`` on "fence": the fences' rows are the locks, and nothing is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections
from django.test import override_settings

from pooling import runtime
from pooling.alone import Alone
from pooling.decorators import locked
from pooling.errors import FenceRejected, LockTimeout, StoreUnavailable
from pooling.groups import plan
from tests.app.models import Account

from .conftest import meet_a_deadlock, tokens

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE = 20.0
FENCE = override_settings(POOLING={"ON_STORE_DOWN": "fence"})


class Switch:
    """A store that can be out of reach."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._down = False
        self._owed: list[tuple[str | None, Any]] = []
        self.renewed: list[str] = []
        kind: Any = type(runtime.store())
        for name in ("acquire", "release", "renew", "invalidate", "epochs"):
            monkeypatch.setattr(kind, name, self._switched(getattr(kind, name)))
        self._settle = kind.later
        monkeypatch.setattr(kind, "later", lambda store, *args: self._owed.append(args))

    @property
    def down(self) -> bool:
        return self._down

    @down.setter
    def down(self, down: bool) -> None:
        self._down = down
        while not down and self._owed:
            ticket, *renews = self._owed.pop()
            self._settle(runtime.store(), ticket, *renews)  # type: ignore[arg-type]
            self.renewed += [name for names in renews for name in names]

    def _switched(self, method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._down:
                raise StoreUnavailable("The store is down.")
            return method(*args, **kwargs)

        return call


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Switch]:
    switch = Switch(monkeypatch)
    yield switch
    switch.down = False


@pytest.fixture
def account() -> Account:
    return Account.objects.create(name="ann")


def add_one(pause: Any = None, **given: Any) -> Any:
    with locked(writes=["accounts/ann"], **given) as held:
        found = Account.objects.get(name="ann")
        if pause is not None:
            pause()
        found.balance += 1
        found.save()
        return held


def in_thread(pool: ThreadPoolExecutor, function: Any, *args: Any) -> Any:
    def run() -> Any:
        try:
            return function(*args)
        finally:
            connections.close_all()

    return pool.submit(run)


def test_by_default_writers_are_refused(store: Switch, account: Account) -> None:
    store.down = True
    with pytest.raises(StoreUnavailable):
        add_one()
    assert tokens() == {}


@FENCE
def test_writers_go_on_and_what_they_wrote_is_renewed_later(store: Switch, account: Account) -> None:
    first = add_one()
    store.down = True
    held = add_one()
    assert isinstance(held, Alone)
    assert tokens()["accounts/ann"] == held.fence > first.fence
    rows = "accounts:IX, accounts/ann:X (held by its rows in the database"
    assert repr(held) == f"<Alone {rows}, fence {held.fence})>"
    assert store.renewed == []
    store.down = False
    assert store.renewed == ["D:accounts/ann", "U:accounts", "U:accounts/ann"]
    assert add_one().fence > held.fence
    account.refresh_from_db()
    assert account.balance == 3


@FENCE
def test_a_writer_that_rolls_back_renews_nothing(store: Switch, account: Account) -> None:
    store.down = True
    with pytest.raises(ZeroDivisionError):
        add_one(lambda: 1 / 0)
    store.down = False
    assert store.renewed == []


@FENCE
def test_many_writers_lose_nothing_while_the_store_comes_and_goes(store: Switch) -> None:
    """Transfers in every direction by six threads; the store is switched under them."""
    names = ["ann", "bob", "cid"]
    for name in names:
        Account.objects.create(name=name, balance=100)
    stop = threading.Event()

    def flicker() -> None:
        while not stop.wait(0.02):
            store.down = not store.down

    def move(number: int) -> int:
        done = 0
        for step in range(25):
            source, target = names[(number + step) % 3], names[(number + 2 * step + 1) % 3]
            if source == target:
                continue
            try:
                with locked(writes=[f"accounts/{source}", f"accounts/{target}"]):
                    one, other = Account.objects.get(name=source), Account.objects.get(name=target)
                    one.balance -= 1
                    other.balance += 1
                    one.save()
                    other.save()
                    done += 1
            except (FenceRejected, StoreUnavailable, LockTimeout):
                continue  # refused, so nothing was written
        return done

    with ThreadPoolExecutor(7) as pool:
        flickering = pool.submit(flicker)
        moved = sum(future.result(60) for future in [in_thread(pool, move, number) for number in range(6)])
        stop.set()
        flickering.result(PATIENCE)
    assert moved > 0
    assert sum(Account.objects.values_list("balance", flat=True)) == 300


@FENCE
@pytest.mark.parametrize("first_alone", [True, False], ids=["back", "gone"])
def test_the_change_over(store: Switch, account: Account, first_alone: bool) -> None:
    """Who comes after the store is back waits for who is alone still; and the other way round."""
    inside, go_on = threading.Event(), threading.Event()

    def pause() -> None:
        inside.set()
        assert go_on.wait(PATIENCE)

    add_one()
    with ThreadPoolExecutor(2) as pool:
        store.down = first_alone
        first = in_thread(pool, add_one, pause)
        assert inside.wait(PATIENCE)
        store.down = not first_alone
        second = in_thread(pool, add_one)
        assert not second.done()
        go_on.set()
        first.result(PATIENCE)
        second.result(PATIENCE)
    account.refresh_from_db()
    assert account.balance == 3


@FENCE
def test_a_holder_from_before_that_comes_too_late(store: Switch, account: Account, monkeypatch: Any) -> None:
    granted, go_on = threading.Event(), threading.Event()
    kind: Any = type(runtime.store())
    acquire = kind.acquire

    def late(*args: Any) -> Any:
        grant = acquire(*args)
        granted.set()
        assert go_on.wait(PATIENCE)
        return grant

    with ThreadPoolExecutor(1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(kind, "acquire", late)
            older = in_thread(pool, add_one)
            assert granted.wait(PATIENCE)
        store.down = True
        add_one()
        go_on.set()
        with pytest.raises(FenceRejected):
            older.result(PATIENCE)
        store.down = False
    account.refresh_from_db()
    assert account.balance == 1


@FENCE
def test_readers_are_kept_out_while_somebody_writes(store: Switch, account: Account) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def pause() -> None:
        inside.set()
        assert go_on.wait(PATIENCE)

    def read() -> int:
        with locked(reads=["accounts"]):
            return Account.objects.get(name="ann").balance

    add_one()
    store.down = True
    with ThreadPoolExecutor(2) as pool:
        writer = in_thread(pool, add_one, pause)
        assert inside.wait(PATIENCE)
        reader = in_thread(pool, read)
        assert not reader.done()
        go_on.set()
        writer.result(PATIENCE)
        assert reader.result(PATIENCE) == 2


@FENCE
def test_what_is_covered_is_free_inside(store: Switch, account: Account) -> None:
    store.down = True
    with locked(writes=["accounts"]) as outer, locked(reads=["accounts/ann"], writes=["accounts/bob"]) as inner:
        assert inner.borrowed
        assert outer.covers(plan(["accounts/ann"], [], {}))
        assert not outer.covers(plan(["events"], [], {}))


@FENCE
def test_async(store: Switch, account: Account) -> None:
    store.down = True

    async def main() -> Any:
        async with locked(writes=["accounts/ann"]) as held:
            await Account.objects.aupdate(balance=4)
            return held

    held = asyncio.run(main())
    assert tokens()["accounts/ann"] == held.fence


@FENCE
def test_rows_that_went_with_a_swallowed_deadlock(store: Switch, account: Account, notes: None) -> None:
    """They are the lock: another may have had it since."""

    def hold() -> None:
        with locked(writes=["accounts/ann"]):
            found = Account.objects.get(name="ann")
            meet_a_deadlock()
            in_thread(pool, add_one).result(PATIENCE)
            found.balance += 10
            found.save()

    store.down = True
    with ThreadPoolExecutor(1) as pool, pytest.raises(FenceRejected, match="may not commit"):
        hold()
    account.refresh_from_db()
    assert account.balance == 1


@FENCE
@pytest.mark.parametrize("given", [{"fence": False}, {"atomic": False}])
def test_without_fences_there_is_nothing_to_go_on_with(store: Switch, account: Account, given: Any) -> None:
    store.down = True
    with pytest.raises(StoreUnavailable):
        add_one(**given)


@FENCE
def test_a_wait_that_is_too_long(store: Switch, account: Account) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def pause() -> None:
        inside.set()
        assert go_on.wait(PATIENCE)

    store.down = True
    with ThreadPoolExecutor(1) as pool:
        writer = in_thread(pool, add_one, pause)
        assert inside.wait(PATIENCE)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
            with pytest.raises(LockTimeout, match=r"accounts/ann.*store of locks is down"):
                add_one()
        finally:
            go_on.set()
            connection.close()
        writer.result(PATIENCE)
