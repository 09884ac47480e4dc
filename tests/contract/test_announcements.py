"""What processes say of themselves."""

from __future__ import annotations


def test_each_name_has_what_was_said_last(store):
    assert store.announced() == {}
    store.announce("one", b"1", 60)
    store.announce("two <b>\xfc", b"\x00\r\n\xff", 60)
    store.announce("one", b"11", 60)
    assert store.announced() == {"one": b"11", "two <b>\xfc": b"\x00\r\n\xff"}


def test_who_stops_saying_it_is_gone(harness, store):
    store.announce("dead", b"d", 5)
    store.announce("alive", b"a", 5)
    harness.elapse(3)
    store.announce("alive", b"b", 5)
    harness.elapse(3)
    assert store.announced() == {"alive": b"b"}
    harness.elapse(6)
    assert store.announced() == {}
    store.announce("dead", b"again", 5)
    assert store.announced() == {"dead": b"again"}


def test_more_than_are_fetched_at_once(store):
    for number in range(120):
        store.announce(str(number), b"%d" % number, 60)
    assert store.announced() == {str(number): b"%d" % number for number in range(120)}


def test_they_are_no_documents_and_no_entries(store):
    store.announce("n", b"x", 60)
    store.clear()
    assert store.load("n")[0] == b""
    assert store.fetch("n", ()).entry is None
    assert store.announced() == {"n": b"x"}
