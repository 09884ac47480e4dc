"""What processes publish of themselves, seen from the store."""

from __future__ import annotations

import json
import os
import threading
import traceback

import pytest
from django.core import mail
from django.core.signals import request_started
from django.db.backends.signals import connection_created
from django.test import Client

from pooling import runtime
from pooling.status import fleet, here, orders, publisher, verdict
from tests.stores import caches

from .conftest import until


@pytest.fixture(autouse=True)
def site(settings, private_redis):
    settings.CACHES = caches(private_redis.url)
    settings.POOLING = {"PUBLISH_SECONDS": 0.1, "STORE_BUDGET": 10}
    runtime.reset_runtime()
    yield
    publisher.stop()
    runtime.reset_runtime()


def pids(found: fleet.Fleet) -> set[int]:
    return {one["process"]["pid"] for one in found.processes}


def test_processes_are_seen_from_their_first_request_until_they_end(start):
    one, other = start("site", "20"), start("site")
    assert pids(fleet.look()) == {os.getpid()}
    first, second = int(one.ask("/write")[0]), int(other.ask("/write")[0])
    found = until(lambda: (found := fleet.look()) and pids(found) == {os.getpid(), first, second} and found)
    assert found.shared
    one.end()  # withdraws what it has told, which would stand for a minute
    assert pids(fleet.look()) == {os.getpid(), second}
    other.kill()  # cannot: it is gone when that has run out
    until(lambda: pids(fleet.look()) == {os.getpid()})


def test_what_they_counted_is_together(start, client):
    sites = [start("site") for _ in range(2)]
    client.rpush("go", "1")
    for site in [*sites, *sites]:
        site.ask("/page")

    def theirs() -> fleet.Fleet:
        """Without this process, in which other tests have counted."""
        return fleet.together([one for one in fleet.look().processes if one["process"]["pid"] != os.getpid()], [])

    until(lambda: [(view.hits, view.misses) for view in theirs().views] == [(3, 1)])
    sites[0].ask("/write")
    until(lambda: [(one["group"], one["writes"]) for one in theirs().groups] == [("news", 1)])
    assert verdict.problems(fleet.look()) == []


def test_strangers_are_counted_and_do_no_harm():
    store = runtime.store()
    store.announce(publisher.PREFIX + "x", b'{"version": 99}', 60)
    store.announce(publisher.PREFIX + "y", b"\x80\xff", 60)
    store.announce("something else", b"{}", 60)
    found = fleet.look()
    assert (found.strangers, pids(found)) == (2, {os.getpid()})
    assert verdict.problems(found) == ["2 processes say what this one cannot read. Is it another version of pooling?"]


def test_a_store_that_is_down_is_said_and_published_to_again_when_it_is_back(private_redis):
    made = publisher.start()
    assert made is not None
    assert publisher.start() is made
    until(lambda: runtime.store().announced())
    private_redis.kill()
    found = fleet.look()
    assert found.store_error
    assert pids(found) == {os.getpid()}
    assert not made.turn()
    private_redis.start()
    until(lambda: fleet.look().store_error == "" and runtime.store().announced())


def test_no_thread_where_there_is_nobody_to_tell(settings):
    settings.POOLING = {"PUBLISH_SECONDS": 0}
    assert publisher.start() is None
    settings.POOLING = {"ENABLED": False}
    assert publisher.start() is None
    settings.POOLING = {}
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    assert publisher.start() is None


@pytest.fixture
def begun_anew(monkeypatch):
    """As before the first request of a process."""
    monkeypatch.setattr(publisher, "_begun", False)
    publisher.watch()


def test_nothing_is_started_by_requests_of_tests(begun_anew):
    Client().get("/nowhere")
    assert publisher._publisher is None


def test_wrong_settings_are_the_business_of_the_checks(begun_anew, settings, monkeypatch):
    monkeypatch.delattr("django.core.mail.outbox")
    settings.POOLING = {"NO_SUCH_KEY": 1}
    assert Client().get("/nowhere").status_code == 404
    assert publisher._publisher is None


def test_a_fork_does_not_wait_for_a_thread_that_was_inside_of_the_signal():
    with connection_created.lock:
        child = os.fork()
        if child == 0:  # pragma: no cover
            os._exit(0)  # its hooks have run
    until(lambda: os.waitpid(child, os.WNOHANG)[0] == child)


def test_a_forked_child_publishes_for_itself(client):
    made = publisher.start()
    assert made is not None
    until(lambda: runtime.store().announced())
    parent = here.process_id()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            del mail.outbox  # type: ignore[attr-defined]  # it is no test any more
            request_started.send(None)
            own = publisher.PREFIX + here.process_id()
            until(lambda: len(pids(fleet.look())) == 2 and own in runtime.store().announced())
            os.write(write, here.process_id().encode())
        except BaseException:
            os.write(write, traceback.format_exc().encode())
            raise
        finally:
            os._exit(0)  # whatever happened: it must not go on with the tests
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read().decode()
    os.waitpid(child, 0)
    assert told.split(":")[1:2] == [str(child)], told
    assert told != parent == here.process_id()


def test_two_threads_that_ask_first_get_one_name(monkeypatch):
    monkeypatch.setattr(here, "_id", {})
    inside, said = threading.Event(), threading.Event()

    def token(size: int) -> str:
        if threading.current_thread() is late:
            inside.set()
            assert said.wait(30)
            return "late"
        return "early"

    monkeypatch.setattr(here.secrets, "token_hex", token)
    names: list[str] = []
    late = threading.Thread(target=lambda: names.append(here.process_id()))
    late.start()
    assert inside.wait(30)
    names.append(here.process_id())
    said.set()
    late.join()
    assert names == [here.process_id()] * 2


class FakePool:
    def __init__(self, name: str) -> None:
        self.name = name
        self.drained = 0

    def drain(self) -> None:
        self.drained += 1


def test_orders_are_carried_out_once_by_those_whom_they_are_for(monkeypatch):
    one, other = FakePool("default"), FakePool("replica")
    monkeypatch.setattr(here, "pools", lambda: [one, other])
    store = runtime.store()
    orders.obey(store, begin=True)

    def elsewhere(pool, process=None):
        """As if another process had said it."""
        orders._give(store, {"id": os.urandom(4).hex(), "do": "drain", "pool": pool, "process": process})

    elsewhere("default")
    elsewhere("default", here.process_id())
    elsewhere("default", "web:1:other")
    elsewhere("nothing")
    orders.obey(store)
    orders.obey(store)
    assert (one.drained, other.drained) == (2, 0)
    assert orders.drain("replica") == 1
    orders.obey(store)
    assert (one.drained, other.drained) == (2, 1)
    assert orders.drain("replica", "web:1:other") == 0
    for _ in range(2 * orders._REMEMBERED):
        assert orders._note(os.urandom(8).hex())
    assert len(orders._done) == orders._REMEMBERED
    # Who begins now has nothing to do with what was ordered before.
    orders._done.clear()
    orders.obey(store, begin=True)
    orders.obey(store)
    assert (one.drained, other.drained) == (2, 1)


def test_a_broken_document_of_orders_orders_nothing(monkeypatch):
    monkeypatch.setattr(here, "pools", lambda: [FakePool("default")])
    store = runtime.store()
    orders_of_others = {"id": "1", "do": "drain", "pool": "default", "process": None, "until": "soon"}
    for text in (b"{", b"[1]", b'[{"id": 1}]', b"\xff", b"[" * 100_000, json.dumps([orders_of_others]).encode()):
        assert store.swap(orders.KEY, store.load(orders.KEY)[0], text, 60)
        orders.obey(store)
        assert json.loads(json.dumps(orders._read(text))) == []
