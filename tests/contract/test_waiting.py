"""How every store lets threads and tasks wait."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from .asking import granted, queue, request, take

DEADLINE = 20.0  # seconds, for what must happen at once


def test_waiting_in_vain_returns_none_and_keeps_the_place(store):
    held = take(store, writes=["a"])
    waiting = queue(store, writes=["a"])
    assert store.wait(waiting, 0.01) is None
    assert store.wait("unknown", DEADLINE) is None
    store.release(held)
    assert store.wait(waiting, DEADLINE) is not None


def test_a_release_wakes_the_waiting_thread(store):
    held = take(store, writes=["a"])
    waiting = queue(store, writes=["a"])
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(store.wait, waiting, DEADLINE)
        store.release(held)
        assert future.result(DEADLINE).ticket == waiting


def test_all_readers_wake_at_once(store):
    held = take(store, writes=["a"])
    waiting = [queue(store, reads=["a"]) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(store.wait, ticket, DEADLINE) for ticket in waiting]
        store.release(held)
        assert {future.result(DEADLINE).ticket for future in futures} == set(waiting)


def test_a_withdrawn_ticket_wakes_its_waiter_with_nothing(store):
    take(store, writes=["a"])
    waiting = queue(store, writes=["a"])
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(store.wait, waiting, DEADLINE)
        store.release(waiting)
        assert future.result(DEADLINE) is None


def test_exclusion_holds_and_nobody_starves_under_load(harness, store):
    inside = 0
    seen = []

    def work() -> None:
        nonlocal inside
        for _ in range(40):
            asked = request(writes=["a", "b/c"])
            grant = store.acquire(asked) or store.wait(asked.ticket, DEADLINE)
            assert grant is not None
            inside += 1
            seen.append(inside)
            inside -= 1
            store.release(asked.ticket)

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work) for _ in range(8)]:
            future.result(60)
    assert seen == [1] * 320
    assert harness.at_rest() == 0


def test_tasks_wait_without_a_thread_each(store):
    async def main() -> None:
        held = take(store, writes=["a"])
        waiting = [queue(store, reads=["a"]) for _ in range(100)]
        threads = threading.active_count()
        tasks = [asyncio.create_task(store.wait_async(ticket, DEADLINE)) for ticket in waiting]
        await asyncio.sleep(0)  # one turn of the loop: all of them are parked
        assert threading.active_count() <= threads + 1
        assert not any(task.done() for task in tasks)
        await asyncio.to_thread(store.release, held)
        grants = await asyncio.wait_for(asyncio.gather(*tasks), DEADLINE)
        assert [grant.ticket for grant in grants] == waiting

    asyncio.run(main())


def test_a_task_waiting_in_vain_gets_none(store):
    take(store, writes=["a"])
    waiting = queue(store, writes=["a"])
    assert asyncio.run(store.wait_async(waiting, 0.01)) is None
    assert asyncio.run(store.wait_async("unknown", DEADLINE)) is None


def test_a_cancelled_task_leaves_its_ticket_for_release(harness, store):
    held = take(store, writes=["a"])
    waiting = queue(store, writes=["a"])
    late = queue(store, writes=["a"])

    async def main() -> None:
        task = asyncio.create_task(store.wait_async(waiting, DEADLINE))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert [party.ticket for party in store.parties()] == [held, waiting, late]
    store.release(waiting)
    store.release(held)
    assert granted(store, late) is not None
    store.release(late)
    assert harness.at_rest() == 0


def test_a_closed_loop_does_not_harm_the_releaser(store):
    held = take(store, writes=["a"])
    waiting = queue(store, writes=["a"])
    loop = asyncio.new_event_loop()
    coroutine = store.wait_async(waiting, DEADLINE)
    task = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.sleep(0, loop))  # parked
    loop.close()
    assert store.release(held) is True
    assert granted(store, waiting) is not None
    task._log_destroy_pending = False  # it was left behind on purpose
    coroutine.close()
