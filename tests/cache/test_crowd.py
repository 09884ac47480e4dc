"""Many who want one page at once: how often it is made, by real processes on a real Redis, and how they wait."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import redis
from django.http import HttpResponse

from pooling import LockTimeout, locked_cache, runtime
from pooling.flights import Flights, flights
from pooling.groups import Mode, plan

from .crowd import LIMIT as PATIENCE
from .test_races import LIMIT, get, in_threads, queued, until

ROOT = Path(__file__).parents[2]
PROCESSES, THREADS = 2, 16
ALL = PROCESSES * THREADS


@pytest.fixture
def crowd(settings: Any, redis_url: str) -> Any:
    """A function that lets a crowd ask for a page of this kind. Returns how often it was made, and the answers."""

    def ask(kind: str) -> tuple[int, list[tuple[str, str]]]:
        with redis.Redis.from_url(redis_url) as client:
            client.flushdb()
            command = [sys.executable, "-m", "tests.cache.crowd", redis_url, str(THREADS), str(ALL), kind]
            started = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
            try:
                said = [process.communicate(timeout=2 * PATIENCE)[0] for process in started]
            finally:
                for process in started:
                    process.kill()
                    process.wait()
            assert [process.returncode for process in started] == [0] * PROCESSES
            found = [(status, body) for output in said for _, status, body in json.loads(output)]
            assert len(found) == ALL
            assert client.exists("{pooling}:held", "{pooling}:wait", "{pooling}:info") == 0
            return int(client.get("crowd:ran") or 0), found

    return ask


def test_a_cold_page_is_made_once(crowd: Any) -> None:
    ran, found = crowd("page")
    assert ran == 1
    assert {body for _, body in found} == {"new 1"}
    assert [status for status, _ in found].count("pooling; fwd=uri-miss; stored") == 1


def test_an_old_page_is_made_once_and_nobody_waits(crowd: Any) -> None:
    ran, found = crowd("stale")  # the view goes on when all others have their answer
    assert ran == 1
    assert sorted(body for _, body in found) == ["new 1"] + ["old"] * (ALL - 1)


def test_an_answer_that_cannot_be_stored_is_made_for_each(crowd: Any) -> None:
    ran, found = crowd("cookie")
    assert ran == ALL
    assert all(status.endswith('detail="Set-Cookie"') for status, _ in found)


# --- those of one process


def test_threads_and_tasks_of_a_process_stand_in_the_queue_once() -> None:
    """Somebody elsewhere makes the page: this process waits for him with one place, whoever wants it here."""
    inside, go_on = threading.Event(), threading.Event()
    ran: list[int] = []

    @locked_cache(300, reads=["x"])
    def page(request: Any) -> HttpResponse:
        ran.append(1)
        return HttpResponse("page")

    @locked_cache(300, reads=["x"])
    async def apage(request: Any) -> HttpResponse:
        ran.append(1)
        return HttpResponse("page")

    def elsewhere(key: str) -> None:
        manager = runtime.manager()
        held = manager.acquire(plan([], [], {}), follow=key)
        inside.set()
        assert go_on.wait(LIMIT)
        manager.release(held)

    async def many() -> list[Any]:
        return list(await asyncio.gather(*[apage(get()) for _ in range(3)]))

    for view, ask, number in ((page, lambda: [page(get())], 4), (apage, lambda: asyncio.run(many()), 3)):
        inside.clear()
        go_on.clear()
        ran.clear()
        with in_threads(5) as start:
            key = "//" + view.key(get())
            other = start(functools.partial(elsewhere, key))
            assert inside.wait(LIMIT)
            askers = [start(ask) for _ in range(4 if view is page else 1)]
            until(lambda n=number: queued(Mode.S) == n)
            waiting = [party for party in runtime.store().parties() if not party.holding]
            assert (len(waiting), flights.waiting()) == (1, number - 1)
            go_on.set()
            other.result(LIMIT)
            assert {response.content for asker in askers for response in asker.result(LIMIT)} == {b"page"}
        assert len(ran) == 1
        assert flights._flights == {}


def test_who_waits_for_one_of_his_process_is_told_who_is_in_the_way() -> None:
    inside, go_on = threading.Event(), threading.Event()

    @locked_cache(300, reads=["x"], wait=0.05)
    async def page(request: Any) -> HttpResponse:
        inside.set()
        assert await asyncio.to_thread(go_on.wait, LIMIT)
        return HttpResponse("page")

    with in_threads(1) as start:
        first = start(lambda: asyncio.run(page(get())))
        assert inside.wait(LIMIT)
        with pytest.raises(LockTimeout, match=r"the page itself: .*test_who_waits_for_one_of_his_process"):
            asyncio.run(page(get()))
        go_on.set()
        assert first.result(LIMIT).content == b"page"


def test_a_task_that_is_cancelled_wakes_who_waits_for_it() -> None:
    ran: list[int] = []

    @locked_cache(300, reads=["x"])
    async def page(request: Any) -> HttpResponse:
        ran.append(1)
        if len(ran) == 1:
            await asyncio.Event().wait()
        return HttpResponse("page")

    async def main() -> bytes:
        first = asyncio.ensure_future(page(get()))
        while not ran:
            await asyncio.sleep(0)
        second = asyncio.ensure_future(page(get()))
        third = asyncio.ensure_future(page(get()))
        while flights.waiting() < 2:
            await asyncio.sleep(0)
        third.cancel()
        first.cancel()
        content: bytes = (await asyncio.wait_for(second, LIMIT)).content
        assert isinstance((await asyncio.gather(first, third, return_exceptions=True))[0], asyncio.CancelledError)
        return content

    assert asyncio.run(main()) == b"page"
    assert len(ran) == 2
    assert flights.waiting() == 0


def test_a_forked_child_waits_for_nobody_of_its_parent() -> None:
    flight, mine = flights.join("//forked")
    assert mine
    try:
        child = os.fork()
        if child == 0:
            os._exit(0 if flights.join("//forked")[1] else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert not flights.join("//forked")[1]
    finally:
        flights.land("//forked", flight)


def test_a_flight_lands_once_and_never_anothers() -> None:
    own = Flights()
    first, _ = own.join("a")
    own.land("a", first)
    second, mine = own.join("a")
    assert mine
    assert second is not first
    own.land("a", first)
    assert own.join("a") == (second, False)
    assert own.wait(first, 0)
    assert not own.wait(second, 0)
    own.land("a", second)
    assert own.wait(second, 0)
