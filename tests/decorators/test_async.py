"""`locked` on async functions: tasks side by side, cancellation, blocks."""

from __future__ import annotations

import asyncio
import inspect
import threading
import uuid
from typing import Any

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connection, connections

from pooling import runtime
from pooling.decorators import locked
from pooling.errors import LockOrderError
from tests.app.models import Account

from .events import recorded

pytestmark = pytest.mark.django_db(transaction=True)


def in_transaction() -> bool:
    return connection.in_atomic_block


def test_it_stays_a_coroutine_function() -> None:
    @locked(writes=["a"])
    async def function(name: str) -> None: ...

    assert iscoroutinefunction(function)
    assert inspect.iscoroutinefunction(function)


def test_concurrent_tasks_have_transactions_of_their_own() -> None:
    # Names that no other test uses: InnoDB locks the gap around a unique key that was deleted just now.
    ann, bob = (f"{name} {uuid.uuid4()}" for name in ("ann", "bob"))
    inside = {name: asyncio.Event() for name in (ann, bob)}

    @locked(writes=["accounts/{name}"])
    async def create(name: str, other: str, fail: bool) -> None:
        await Account.objects.acreate(name=name)
        inside[name].set()
        await asyncio.wait_for(inside[other].wait(), 30)  # both have written, neither has committed
        if fail:
            raise ValueError(name)

    async def main() -> list[Any]:
        tasks = (create(ann, bob, False), create(bob, ann, True))
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(main())
    assert results[0] is None
    assert isinstance(results[1], ValueError)
    assert list(Account.objects.values_list("name", flat=True)) == [ann]


def test_lost_updates_cannot_happen() -> None:
    Account.objects.create(name="ann", balance=0)

    @locked(writes=["accounts/{name}"], wait=60)
    async def add(name: str) -> None:
        account = await Account.objects.aget(name=name)
        account.balance += 1
        await account.asave()

    async def main() -> None:
        await asyncio.gather(*(add("ann") for _ in range(12)))

    asyncio.run(main())
    assert Account.objects.get().balance == 12


@pytest.mark.parametrize("where", ["in the view", "in a thread of the view"])
def test_cancelled_it_rolls_back_and_unlocks_before_it_goes_on(where: str) -> None:
    reached, started, go = asyncio.Event(), threading.Event(), threading.Event()
    finished: list[str] = []

    def slow() -> None:
        started.set()
        go.wait(30)
        finished.append("thread")

    @locked(writes=["accounts"])
    async def view() -> None:
        await Account.objects.acreate(name="ann")
        reached.set()
        if where == "in the view":
            await asyncio.Event().wait()
        else:
            await sync_to_async(slow)()

    async def main() -> None:
        task = asyncio.create_task(view())
        await asyncio.wait_for(reached.wait(), 30)
        if where != "in the view":
            await asyncio.to_thread(started.wait, 30)
        task.cancel()
        await asyncio.sleep(0)
        if where != "in the view":
            assert runtime.store().parties() != []  # its thread is still at work, so the lock is held
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert runtime.store().parties() == []
        assert not await Account.objects.aexists()

    asyncio.run(main())
    assert finished == ([] if where == "in the view" else ["thread"])


def test_cancelled_twice_while_it_rolls_back() -> None:
    reached = asyncio.Event()

    @locked(writes=["accounts"])
    async def view() -> None:
        await Account.objects.acreate(name="ann")
        reached.set()
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(view())
        await asyncio.wait_for(reached.wait(), 30)
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        assert task.cancelled()
        assert runtime.store().parties() == []
        assert not await Account.objects.aexists()

    asyncio.run(main())


def test_as_a_block() -> None:
    async def main() -> None:
        hold = locked(writes=["accounts/1"])
        async with hold as outer:
            assert outer.writes == ("accounts/1",)
            assert await sync_to_async(in_transaction)()
            async with hold:
                await Account.objects.acreate(name="ann")

        async def failing() -> None:
            async with hold:
                await Account.objects.acreate(name="bob")
                raise ValueError("inside")

        with pytest.raises(ValueError, match="inside"):
            await failing()

    asyncio.run(main())
    assert list(Account.objects.values_list("name", flat=True)) == ["ann"]


def test_under_async_to_sync_the_parents_connection_is_used() -> None:
    @locked(writes=["accounts"])
    async def view() -> None:
        await Account.objects.acreate(name="ann")

    with recorded() as events:
        async_to_sync(view)()
    assert [e for e in events if e in ("lock", "BEGIN", "COMMIT", "unlock")] == ["lock", "BEGIN", "COMMIT", "unlock"]


def test_a_sync_block_in_a_coroutine_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(SynchronousOnlyOperation, match="async with"), locked(writes=["a"], atomic=False):
            raise AssertionError("must not be entered")

    asyncio.run(main())


def test_cancelled_during_the_rollback_it_unlocks_only_after_it() -> None:
    reached, rolling_back, go = asyncio.Event(), threading.Event(), threading.Event()

    def hold_the_rollback_up() -> None:
        wrapper: Any = connections["default"]
        original = wrapper._rollback

        def rollback() -> None:
            rolling_back.set()
            go.wait(30)
            original()

        wrapper._rollback = rollback

    @locked(writes=["accounts"])
    async def view() -> None:
        await Account.objects.acreate(name="ann")
        await sync_to_async(hold_the_rollback_up)()
        reached.set()
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(view())
        await asyncio.wait_for(reached.wait(), 30)
        task.cancel()
        assert await asyncio.to_thread(rolling_back.wait, 30)
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(runtime.store().parties()) == 1
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert runtime.store().parties() == []

    asyncio.run(main())


def test_tasks_beside_one_another_take_the_same_group_one_after_another() -> None:
    """What the first leaves until the outer COMMIT must not stop the next: the outer hold waits for both."""

    async def nested() -> None:
        async with locked(writes=["b"], wait=5):
            pass

    async def main() -> None:
        async with locked(writes=["a"]):
            await asyncio.create_task(nested())
            await asyncio.create_task(nested())

    asyncio.run(main())


def test_tasks_side_by_side_still_exclude_each_other_in_a_nested_hold() -> None:
    Account.objects.create(name="ann", balance=0)
    inside: list[int] = []
    most: list[int] = []

    async def nested(number: int) -> None:
        async with locked(writes=["b"], wait=20):
            inside.append(number)
            most.append(len(inside))
            account = await Account.objects.aget(name="ann")
            account.balance += 1
            await account.asave()
            inside.remove(number)

    async def main() -> None:
        async with locked(writes=["a"]):
            await asyncio.gather(*(nested(number) for number in range(4)))

    asyncio.run(main())
    assert Account.objects.get().balance == 4
    assert max(most) == 1


def test_what_a_task_left_counts_in_the_order_of_the_next() -> None:
    async def nested(group: str) -> None:
        async with locked(writes=[group], wait=5):
            pass

    async def main() -> None:
        async with locked(writes=["a"]):
            await asyncio.create_task(nested("c"))
            with pytest.raises(LockOrderError, match="'c'"):
                await asyncio.create_task(nested("b"))
            await asyncio.create_task(nested("d"))

    asyncio.run(main())


def test_a_task_cancelled_while_it_waits_beside_another_leaves_nothing() -> None:
    holding, waiting = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with locked(writes=["b"]):
            holding.set()
            await waiting.wait()

    async def second() -> None:
        async with locked(writes=["b"], wait=30):
            raise AssertionError("must not be entered")

    async def main() -> None:
        async with locked(writes=["a"]):
            ahead = asyncio.create_task(first())
            await holding.wait()
            task = asyncio.create_task(second())
            while all(party.holding for party in runtime.store().parties(["b"])):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert [party.holding for party in runtime.store().parties(["b"])] == [True]
            waiting.set()
            await ahead

    asyncio.run(main())
