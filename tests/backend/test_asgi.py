"""Asynchronous code: the threads that asgiref lends to it, and tasks that are cancelled in the middle of a checkout."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext, sync_to_async

from .conftest import ask, until

pytestmark = pytest.mark.django_db
PATIENCE = 20.0


def query(wrapper: Any) -> int:
    try:
        return int(ask(wrapper, "SELECT 1")[0][0])
    finally:
        wrapper.close()


def sound(pool: Any, size: int) -> None:
    """Nothing is lent, lost or waited for."""
    until(lambda: pool.get_stats()["pool_available"] == pool.get_stats()["pool_size"])
    assert pool.get_stats()["pool_size"] <= size
    assert not pool._busy
    assert not pool._waiters


@pytest.mark.parametrize("sensitive", [False, True])
def test_many_tasks_on_few_connections(make: Any, sensitive: bool) -> None:
    wrappers = [make({"max_size": 3, "timeout": PATIENCE}) for _ in range(30)]
    pool = wrappers[0].pool

    async def one(wrapper: Any) -> int:
        async with ThreadSensitiveContext():  # a thread of its own, as each request of an ASGI server has one
            return await sync_to_async(query, thread_sensitive=sensitive)(wrapper)

    async def main() -> list[int]:
        return await asyncio.gather(*map(one, wrappers))

    assert asyncio.run(main()) == [1] * len(wrappers)
    sound(pool, 3)


def test_a_task_that_is_cancelled_while_its_thread_waits_for_a_connection(make: Any) -> None:
    """The thread goes on, and gives back what it gets."""
    holder, other = (make({"max_size": 1, "timeout": PATIENCE}) for _ in range(2))
    pool = holder.pool
    holder.ensure_connection()

    async def main() -> None:
        task = asyncio.create_task(sync_to_async(query, thread_sensitive=False)(other))
        while not pool._waiters:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(pool._waiters) == 1
        await sync_to_async(holder.close, thread_sensitive=False)()

    asyncio.run(main())
    sound(pool, 1)
    assert query(holder) == 1


def test_a_task_that_is_cancelled_in_mid_query(make: Any) -> None:
    wrapper, other = (make({"max_size": 1, "timeout": PATIENCE}) for _ in range(2))
    pool = wrapper.pool

    def slow() -> None:
        try:
            ask(wrapper, "SELECT SLEEP(0.3)")
        finally:
            wrapper.close()

    async def main() -> int:
        task = asyncio.create_task(sync_to_async(slow, thread_sensitive=False)())
        while not pool._busy:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await sync_to_async(query, thread_sensitive=False)(other)  # gets the one connection when it is back

    assert asyncio.run(main()) == 1
    sound(pool, 1)
