"""Locks and pages between processes."""

from __future__ import annotations

import os
import signal

import pytest

from .conftest import DEADLINE, at_rest, in_thread, request, until


def test_groups_are_handed_from_process_to_process_in_order(store, start, client):
    held = store.acquire(request("a", "b"))
    others = [start() for _ in range(3)]
    for number, process in enumerate(others):
        process.tell(["hold", f"p{number}", ["a", "c"], 30, 60])
        until(lambda number=number: len(store.parties(["a"])) == 2 + number)
    store.release(held.ticket)
    tokens = [held.token]
    for number, process in enumerate(others):
        tokens.append(process.answer())
        assert [party.ticket for party in store.parties(["c"])] == [f"p{n}" for n in range(number, 3)]
        assert process.ask(["release", f"p{number}"]) is True
    assert tokens == sorted(set(tokens))
    assert at_rest(client)


def test_a_killed_holder_is_replaced_after_its_lease(store, start, client):
    holder = start()
    assert holder.ask(["hold", "dead", ["a"], 0.5, 60])
    asked = request("a")
    assert store.acquire(asked) is None
    holder.kill()
    assert store.wait(asked.ticket, DEADLINE) is not None
    assert store.renew(["dead"], 1) == [False]
    store.release(asked.ticket)
    assert at_rest(client)


def test_a_killed_waiter_does_not_hold_up_those_behind_it(store, start, client):
    held = store.acquire(request("a"))
    waiter = start()
    waiter.tell(["hold", "dead", ["a"], 0.5, 0.5])
    until(lambda: len(store.parties()) == 2)
    waiter.kill()
    asked = request("a")
    assert store.acquire(asked) is None
    store.release(held.ticket)
    assert store.wait(asked.ticket, DEADLINE) is not None
    store.release(asked.ticket)
    # What was sent to the dead one stays for a minute, and then goes by itself.
    assert all(0 < client.ttl(key) <= 60 for key in client.scan_iter("{fleet}:box:*"))
    client.delete(*client.scan_iter("{fleet}:box:*"), "nothing")
    assert at_rest(client)


def _in_a_child(store) -> bytes:  # pragma: no cover
    try:
        held, asked = store.acquire(request("b")), request("b")
        if store.acquire(asked) is not None:
            return b"granted twice"
        releasing = in_thread(store.release, held.ticket)
        grant = store.wait(asked.ticket, DEADLINE)
        releasing()
        store.release(asked.ticket)
        return b"waited and got it" if grant is not None else b"waited in vain"
    except BaseException as error:  # noqa: BLE001 - the parent reads it and fails
        return repr(error).encode()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_has_connections_and_a_mailbox_of_its_own(store, client):
    held = store.acquire(request("a"))
    asked = request("a")
    assert store.acquire(asked) is None
    waiting = in_thread(store.wait, asked.ticket, DEADLINE)
    until(lambda: store._mail.find(asked.ticket).wakers)
    reading, writing = os.pipe()
    with store._mail._mutex:  # as another thread would hold it
        child = os.fork()
        if child == 0:  # pragma: no cover
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # should it hang, nobody else would end it
            signal.alarm(int(2 * DEADLINE))
            os.write(writing, _in_a_child(store))
            os._exit(0)
    os.close(writing)  # in the child it is open until that ends
    assert os.read(reading, 100) == b"waited and got it"
    os.close(reading)
    os.waitpid(child, 0)
    store.release(held.ticket)
    assert waiting() is not None
    store.release(asked.ticket)
    assert at_rest(client)


def test_a_page_computed_in_one_process_is_a_hit_in_the_other_until_one_of_them_writes(start, client):
    one, other = start("site"), start("site")
    client.rpush("go", "1", "2")
    assert one.ask("/page") == ["1", "pooling; fwd=uri-miss; stored"]
    assert other.ask("/page")[0] == "1"
    assert other.ask("/page")[1].startswith("pooling; hit")
    one.ask("/write")
    assert other.ask("/page") == ["2", "pooling; fwd=stale; stored"]
    assert one.ask("/page")[0] == "2"


def test_processes_that_miss_together_compute_once(start, store, client):
    sites = [start("site") for _ in range(3)]
    for site in sites:
        site.tell("/page")
    until(lambda: client.hlen("{pooling}:info") == 3)  # one computes, two wait
    client.rpush("go", "1")
    answers = [site.answer() for site in sites]
    assert [body for body, _ in answers] == ["1"] * 3
    assert sorted(status for _, status in answers) == [
        "pooling; fwd=uri-miss; collapsed",
        "pooling; fwd=uri-miss; collapsed",
        "pooling; fwd=uri-miss; stored",
    ]
    assert client.get("computed") == b"1"
