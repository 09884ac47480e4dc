"""Pages in memory: bounded, thread-safe, gone after a fork; and the levels are the same over both stores."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st

from pooling import invalidate, locked, locked_cache, runtime
from pooling.cache.frame import Page, VaryMark
from pooling.cache.near import Bodies

pytestmark = pytest.mark.django_db(transaction=True)
MARKS = st.builds(VaryMark, st.lists(st.text(max_size=20), max_size=5).map(tuple))


def made(size: int) -> Page:
    return Page(200, "OK", (("Content-Type", "text/html"),), b"x" * size, (b"12345678",), 0.0, 1.0)


STEPS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 9000).map(made) | MARKS | st.none()), max_size=60
)


@given(STEPS, st.integers(0, 20_000))
def test_pages_never_take_more_than_the_limit(steps: list[tuple[str, Any]], limit: int) -> None:
    """None: it is used. What was used or put last is the last to go."""
    bodies = Bodies(limit)
    order: list[str] = []
    for key, value in steps:
        if value is None:
            if bodies.get(key) is not None:
                order.remove(key)
                order.append(key)
        else:
            bodies.put(key, value)
            order = [other for other in order if other != key]
            if bodies.get(key) is value:
                order.append(key)
            order = order[len(order) - len(bodies) :]
        assert bodies.size <= limit
        assert bodies.size == sum(bodies._cost(key, kept) for key, kept in bodies._kept.items())
        assert list(bodies._kept) == order


def test_what_does_not_fit_makes_room_for_nothing_and_replaces_what_was_there() -> None:
    bodies = Bodies(5000)
    bodies.put("a", made(100))
    bodies.put("b", made(100))
    bodies.put("a", made(6000))
    assert bodies.get("a") is None
    assert bodies.get("b") is not None


def test_only_the_page_that_was_seen_to_be_old_is_dropped() -> None:
    bodies = Bodies(50_000)
    old, new = made(1), made(2)
    bodies.put("a", old)
    bodies.put("a", new)
    bodies.drop("a", old)
    assert bodies.get("a") is new
    bodies.drop("a", new)
    assert (bodies.get("a"), bodies.size) == (None, 0)


def test_threads_that_use_and_replace_pages_keep_the_count() -> None:
    bodies = Bodies(20_000)
    barrier = threading.Barrier(4)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        barrier.wait()
        try:
            for step in range(3000):
                key = str((step * 7 + number) % 11)
                if bodies.get(key) is None or step % 5 == number:
                    bodies.put(key, made(step % 4000))
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert bodies.size == sum(bodies._cost(key, kept) for key, kept in bodies._kept.items()) <= 20_000


@pytest.mark.parametrize("level", ["remote", "validated", "near"])
def test_a_write_is_seen_at_once_at_every_level_and_over_both_stores(level: str) -> None:
    calls: list[int] = []

    @locked_cache(300, reads=["shop/{slug}"], level=level)
    def view(request: Any, slug: str) -> HttpResponse:
        calls.append(1)
        return HttpResponse(f"{len(calls)}")

    def get() -> str:
        return str(view(RequestFactory().get("/x"), slug="books").content.decode())

    for number, write in enumerate(("shop", "shop/books", None, "shop/books"), 1):
        for _ in range(4):
            assert get() == str(number)
        if write is None:
            with locked(writes=["shop/books"]):
                pass
        else:
            invalidate(write)
    invalidate("shop/toys", "shops")
    assert [get(), get()] == ["5", "5"]


def test_after_a_fork_there_are_no_pages() -> None:
    runtime.bodies().put("a", made(1))
    runtime._after_fork_in_child()
    assert len(runtime.bodies()) == 0
