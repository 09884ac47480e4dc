"""Small documents that processes share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor


def test_a_document_is_replaced_only_by_who_has_seen_it(store):
    assert store.load("d")[0] == b""
    assert store.swap("d", b"", b"one", 60)
    assert store.load("d")[0] == b"one"
    assert not store.swap("d", b"", b"two", 60)
    assert not store.swap("d", b"on", b"two", 60)
    assert store.swap("d", b"one", b"\x00\r\nthree\xff", 60)
    assert store.load("d")[0] == b"\x00\r\nthree\xff"
    assert store.load("other")[0] == b""


def test_its_time_runs_out(harness, store):
    _, before = store.load("d")
    assert store.swap("d", b"", b"one", 0.05)
    harness.elapse(1)
    assert store.load("d")[0] == b""
    assert store.load("d")[1] >= before
    assert store.swap("d", b"", b"two", 60)


def test_many_who_count_lose_no_step(store):
    def count(_):
        done = 0
        while done < 25:
            old, _ = store.load("n")
            done += store.swap("n", old, b"%d" % (int(old or 0) + 1), 60)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert store.load("n")[0] == b"100"
