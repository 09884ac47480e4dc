"""What every store does with epochs and entries, and when locking touches them."""

from __future__ import annotations

import threading

from .asking import granted, queue, request, take


def test_a_missing_epoch_is_random_and_stays(store):
    first = store.epochs(["U:a", "U:b", "U:a"])
    assert first[0] == first[2] != first[1]
    assert all(len(value) >= 8 for value in first)
    assert store.epochs(["U:b"]) == (first[1],)


def test_invalidate_renews_only_what_is_named(store):
    a, b = store.epochs(["U:a", "U:b"])
    store.invalidate(["U:a", "U:new"])
    assert store.epochs(["U:a"]) != (a,)
    assert store.epochs(["U:b"]) == (b,)


def test_a_commit_without_a_lock(store):
    names = ["U:a", "D:b"]
    before = store.epochs(names)
    store.put("k", b"before", 60, names, before)
    store.committing(["U:a"], "a1", 60)
    during = store.epochs(names)
    store.invalidate(["U:a"], "a1")
    after = store.fetch("k", names)
    assert after.vector[0] not in (before[0], during[0])
    assert after.vector[1] == before[1]
    assert not store.put("k", b"during", 60, names, during)
    assert store.put("k", b"after", 60, names, after.vector)


def test_no_epoch_value_comes_twice(store):
    seen = set()
    for _ in range(2000):
        store.invalidate(["U:a"])
        seen.update(store.epochs(["U:a"]))
    assert len(seen) == 2000


def test_a_grant_renews_and_then_captures(store):
    old = store.epochs(["U:a"])
    grant = store.acquire(request(writes=["a"], renews=("U:a",), watches=("U:a", "U:b")))
    assert grant.vector == store.epochs(["U:a", "U:b"])
    assert grant.vector[:1] != old


def test_a_handed_over_grant_captures_what_the_last_holder_left(store):
    writer = take(store, writes=["a"])
    waiting = queue(store, reads=["a"], watches=("U:a",))
    before = store.epochs(["U:a"])
    store.release(writer, ("U:a",))
    grant = granted(store, waiting)
    assert grant.vector == store.epochs(["U:a"])
    assert grant.vector != before


def test_a_queued_request_renews_nothing_yet(store):
    take(store, writes=["a"])
    before = store.epochs(["U:a"])
    queue(store, writes=["a"], renews=("U:a",))
    assert store.epochs(["U:a"]) == before


def test_a_late_release_of_a_lost_ticket_still_renews(harness, store):
    lost = take(store, writes=["a"], lease=10)
    harness.elapse(11)
    take(store, writes=["a"])
    before = store.epochs(["U:a"])
    assert store.release(lost, ("U:a",)) is False
    assert store.epochs(["U:a"]) != before


def test_an_entry_is_stored_only_if_the_vector_is_unchanged(store):
    names = ["U:a", "D:b"]
    vector = store.epochs(names)
    assert store.put("k", b"body\0\xff", 60, names, vector) is True
    assert store.fetch("k", names) == type(store.fetch("k", names))(b"body\0\xff", vector)
    store.invalidate(["D:b"])
    assert store.put("k", b"late", 60, names, vector) is False
    found = store.fetch("k", names)
    assert found.entry == b"body\0\xff"
    assert found.vector != vector


def test_entries_expire_and_are_deleted(harness, store):
    assert store.fetch("k", []).entry is None
    assert store.put("k", b"x", 10, [], ())
    harness.elapse(9)
    assert store.fetch("k", []).entry == b"x"
    harness.elapse(2)
    assert store.fetch("k", []).entry is None
    assert store.delete("k") is False
    assert store.put("k", b"", 10, [], ())
    assert store.fetch("k", []).entry == b""
    assert store.delete("k") is True
    assert store.fetch("k", []).entry is None


def test_clear_removes_entries_and_epochs_but_not_locks(store):
    held = take(store, writes=["a"])
    before = store.epochs(["U:a"])
    store.put("k", b"x", 10, [], ())
    store.clear()
    assert store.fetch("k", []).entry is None
    assert store.epochs(["U:a"]) != before
    assert store.acquire(request(writes=["a"], nowait=True)) is None
    assert store.release(held) is True


def test_put_and_invalidate_race_to_one_outcome(store):
    """Whichever comes first, what is found under the current vector was stored under it."""
    for _ in range(50):
        vector = store.epochs(["U:a"])
        start = threading.Barrier(2)

        def write(start=start):
            start.wait()
            store.invalidate(["U:a"])

        thread = threading.Thread(target=write)
        thread.start()
        start.wait()
        stored = store.put("k", vector[0], 60, ["U:a"], vector)
        thread.join()
        found = store.fetch("k", ["U:a"])
        assert found.vector != vector
        if stored:
            assert found.entry == vector[0]  # stale, and seen to be so
        store.delete("k")
