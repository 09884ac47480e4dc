"""Commits of writes under no lock: from before the COMMIT to the renewal after it, or until the writer was dead for so
long, nothing made from the state before is found or stored, whatever others do meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from pooling.groups import read_epochs, write_epochs
from pooling.store.protocol import is_being_written
from pooling.store.redis import RedisStore

from .conftest import request, until

READS = read_epochs(["shop/1"])
WRITES = write_epochs(["shop/1"])
LONG = 60.0
SHORT = 0.05


def stores_under(store: RedisStore, vector: tuple[bytes, ...]) -> bool:
    return store.put("page", b"x", 60, READS, vector)


def is_closed(store: RedisStore) -> bool:
    """Can a page whose versions are captured now not be stored?"""
    vector = store.epochs(READS)
    assert is_being_written(vector) == (not stores_under(store, vector))
    return is_being_written(vector)


def test_what_was_there_counts_no_more_and_nothing_is_stored(store: RedisStore) -> None:
    before = store.epochs(READS)
    store.committing(WRITES, "a1", LONG)
    during = store.epochs(READS)
    assert during != before
    assert not stores_under(store, before)
    assert not stores_under(store, during)
    store.invalidate(WRITES, "a1")
    assert not stores_under(store, before)
    assert not stores_under(store, during)
    assert stores_under(store, store.epochs(READS))


@pytest.mark.parametrize(("first", "second"), [("a1", "b2"), ("b2", "a1")])
def test_the_first_to_be_done_leaves_it_closed_for_the_second(store: RedisStore, first: str, second: str) -> None:
    store.committing(WRITES, "a1", LONG)
    store.committing(WRITES, "b2", LONG)
    during = store.epochs(READS)
    store.invalidate(WRITES, first)
    assert is_closed(store)
    store.invalidate(WRITES, second)
    assert not is_closed(store)
    assert not stores_under(store, during)


def test_other_writers_leave_it_closed(store: RedisStore) -> None:
    held = store.acquire(request("shop/1", renews=WRITES, watches=READS))
    assert held is not None
    store.committing(WRITES, "a1", LONG)
    store.release(held.ticket, WRITES)
    assert is_closed(store)
    store.invalidate(WRITES)
    assert is_closed(store)
    held = store.acquire(request("shop/1", renews=WRITES, watches=READS))
    assert held is not None
    assert is_being_written(held.vector)
    store.later(held.ticket, WRITES)
    assert is_closed(store)
    assert store.parties() == []
    store.invalidate(WRITES, "a1")
    assert not is_closed(store)


def test_who_dies_closes_it_for_a_time(store: RedisStore) -> None:
    store.committing(WRITES, "a1", SHORT)
    during = store.epochs(READS)
    until(lambda: not is_closed(store))
    assert not stores_under(store, during)


@pytest.mark.parametrize("lives", ["a1", "b2"])
def test_the_dead_do_not_close_it_for_longer_and_the_living_not_for_less(store: RedisStore, lives: str) -> None:
    for word in ("a1", "b2"):
        store.committing(WRITES, word, LONG if word == lives else SHORT)
    store.committing(["U:other"], "c3", SHORT)  # later than either
    until(lambda: not is_being_written(store.epochs(["U:other"])))
    assert is_closed(store)
    store.invalidate(WRITES, lives)
    assert not is_closed(store)


def test_a_word_that_is_sent_twice_is_one(store: RedisStore) -> None:
    for _ in range(2):
        store.committing(WRITES, "a1", LONG)
    for _ in range(2):
        store.invalidate(WRITES, "a1")
    assert not is_closed(store)


def test_only_what_is_written_is_closed(store: RedisStore) -> None:
    other = store.epochs(read_epochs(["shop/2"]))
    store.committing(WRITES, "a1", LONG)
    assert store.epochs(read_epochs(["shop/2"])) == other
    assert is_being_written(store.epochs(read_epochs(["shop"])))
    assert is_being_written(store.epochs(read_epochs(["shop/1/deep"])))


def test_who_is_told_of_changes_hears_of_it(store: RedisStore) -> None:
    def known() -> Any:
        store.epochs(READS)
        return store.known(READS)

    until(known)
    store.committing(WRITES, "a1", LONG)
    until(lambda: is_being_written(known() or ()))
    store.invalidate(WRITES, "a1")
    until(lambda: known() and not is_being_written(known() or (b"!",)))
