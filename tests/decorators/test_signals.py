"""The signals of locks: what receivers are told, where they run, and that they can spoil nothing."""

from __future__ import annotations

import asyncio
import io
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.dispatch import Signal

from pooling import frames, locked, runtime, signals, spec, steps, telling
from pooling.errors import LockLost, LockTimeout, StoreUnavailable
from pooling.locks import Held
from tests.app.models import Account

pytestmark = pytest.mark.django_db(transaction=True)

ALL = {name: getattr(signals, name) for name in ("lock_granted", "lock_waited", "lock_lost", "lock_broken")}


class Heard:
    """What the signals said. ``also`` is called by each."""

    def __init__(self) -> None:
        self.said: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self.also: Callable[[], object] = lambda: None

    def next(self, name: str) -> dict[str, Any]:
        """The arguments of the next one, which must be this."""
        found, arguments = self.said.get(timeout=30)
        assert found == name
        return arguments

    def nothing_more(self) -> None:
        for thread in threading.enumerate():
            if thread.name == "pooling-signals":
                thread.join(30)
        assert self.said.empty(), self.said.get()


@pytest.fixture
def heard() -> Iterator[Heard]:
    found = Heard()

    def receiver(name: str) -> Callable[..., None]:
        def receive(sender: type, signal: Signal, **arguments: Any) -> None:
            assert sender is Held
            found.said.put((name, arguments))
            found.also()

        return receive

    receivers = {name: receiver(name) for name in ALL}
    for name, one in receivers.items():
        ALL[name].connect(one)
    yield found
    for name, one in receivers.items():
        ALL[name].disconnect(one)


class Elsewhere:
    """Another thread that holds ``groups`` until it is told."""

    def __init__(self, *groups: str) -> None:
        self.go, inside = threading.Event(), threading.Event()

        def hold() -> None:
            with locked(writes=groups, atomic=False):
                inside.set()
                self.go.wait(30)

        self.thread = threading.Thread(target=hold)
        self.thread.start()
        assert inside.wait(30)

    def end(self) -> None:
        self.go.set()
        self.thread.join(30)


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    other = Elsewhere("elsewhere")
    yield other
    other.end()


@locked(reads=["rates"], writes=["accounts/{number}"])
def pay(number: int) -> str:
    return "paid"


def test_a_grant_is_told_before_the_transaction_begins(heard: Heard) -> None:
    found: list[Any] = []
    heard.also = lambda: found.append((connection.in_atomic_block, len(runtime.store().parties(["accounts/7"]))))
    assert pay(7) == "paid"
    said = heard.next("lock_granted")
    assert said.pop("token") > 0
    assert said == {
        "view": f"{__name__}.pay",
        "reads": ("rates",),
        "writes": ("accounts/7",),
        "waited": 0.0,
    }
    assert found == [(False, 1)]
    heard.nothing_more()


def test_what_is_held_already_is_not_told_again(heard: Heard) -> None:
    with locked(writes=["accounts"], reads=["rates"]):
        heard.next("lock_granted")
        pay(7)
    heard.nothing_more()


def test_a_wait_is_told_with_its_end(heard: Heard, elsewhere: Elsewhere) -> None:
    heard.next("lock_granted")
    with pytest.raises(LockTimeout) as raised, locked(reads=["elsewhere"], wait=0.01):
        pass
    said = heard.next("lock_waited")
    assert said["seconds"] == raised.value.waited >= 0.01
    assert (said["granted"], said["reads"], said["writes"]) == (False, ("elsewhere",), ())
    with pytest.raises(LockTimeout) as raised, locked(reads=["elsewhere"], wait=0):
        pass
    assert raised.value.waited == 0.0
    heard.nothing_more()

    second = threading.Thread(target=locked(reads=["elsewhere"], atomic=False)(lambda: None))
    second.start()
    while not [party for party in runtime.store().parties() if not party.holding]:
        assert second.is_alive()
    elsewhere.end()
    second.join(30)
    said = heard.next("lock_waited")
    assert said["granted"] is True
    assert heard.next("lock_granted")["waited"] == said["seconds"] > 0
    heard.nothing_more()


def test_receivers_that_fail_cost_nothing(heard: Heard, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("a receiver's own error")

    others: list[str] = []

    def another(sender: type, view: str, **arguments: Any) -> None:
        others.append(view)

    heard.also = fail
    signals.lock_granted.connect(another)
    try:
        assert pay(7) == "paid"
    finally:
        signals.lock_granted.disconnect(another)
    assert "a receiver's own error" in caplog.text
    assert others == [f"{__name__}.pay"]


def test_a_receiver_that_interrupts_leaves_nothing_held(heard: Heard) -> None:
    def leave() -> None:
        raise SystemExit

    heard.also = leave
    with pytest.raises(SystemExit):
        pay(7)
    assert runtime.store().parties() == []


def test_receivers_of_async_functions_may_use_the_database(heard: Heard) -> None:
    names: list[str] = []

    async def awaited(sender: type, view: str, **arguments: Any) -> None:
        names.append(view)

    @locked(writes=["a"])
    async def function() -> int:
        return await Account.objects.acount()

    heard.also = lambda: names.append(str(Account.objects.count()))
    signals.lock_granted.connect(awaited)
    try:
        count = asyncio.run(function())
    finally:
        signals.lock_granted.disconnect(awaited)
    assert sorted(names) == sorted([str(count), heard.next("lock_granted")["view"]])


def test_an_async_receiver_that_cannot_run_here_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def awaited(sender: type, **arguments: Any) -> None: ...

    plain = locked(writes=["a"], atomic=False)(lambda: "done")

    async def run() -> str:
        return plain()  # in the thread of a running loop, which no async_to_sync may stop

    signals.lock_granted.connect(awaited)
    try:
        assert asyncio.run(run()) == "done"
    finally:
        signals.lock_granted.disconnect(awaited)
    assert [record.levelno for record in caplog.records if record.name == "pooling.locks"] == [logging.ERROR]


def test_a_loss_is_told_once_whoever_finds_it_out(heard: Heard) -> None:
    with locked(writes=["a"], atomic=False) as held:
        token = heard.next("lock_granted")["token"]
        runtime.store().release(held._ticket)
        with pytest.raises(LockLost):
            held.check()
        runtime.manager()._renewer._renew([held._ticket], {held._ticket: held}, 30.0)
    said = heard.next("lock_lost")
    assert said["seconds"] >= 0
    assert (said["token"], said["writes"], said["view"]) == (token, ("a",), "with locked(…)")
    heard.nothing_more()


def test_a_loss_that_the_release_finds_out_is_told(heard: Heard) -> None:
    with locked(writes=["a"], atomic=False) as held:
        heard.next("lock_granted")
        runtime.store().release(held._ticket)
    heard.next("lock_lost")
    heard.nothing_more()


def test_the_thread_that_renews_does_not_wait_for_receivers(heard: Heard) -> None:
    told, go, threads = threading.Event(), threading.Event(), []

    def linger() -> None:
        threads.append(threading.current_thread().name)
        told.set()
        with locked(writes=["z"], atomic=False):  # no lock of the manager's is held meanwhile
            go.wait(30)

    with locked(writes=["a"], atomic=False, lease=1) as held:
        heard.next("lock_granted")
        heard.also = lambda: None if told.is_set() else linger()
        runtime.store().release(held._ticket)  # nobody asks: the renewal after a third of the lease finds it out
        assert told.wait(30)
        go.set()
    assert threads == ["pooling-signals"]
    heard.next("lock_lost")
    heard.next("lock_granted")  # the receiver's own
    heard.nothing_more()


def test_what_was_broken_by_hand_is_not_lost(heard: Heard) -> None:
    with locked(writes=["a"], atomic=False) as held:
        token = heard.next("lock_granted")["token"]
        call_command("pooling", "break", held._ticket, stdout=io.StringIO(), stderr=io.StringIO())
        with pytest.raises(LockLost):
            held.check()
    said = heard.next("lock_broken")
    assert "@" in said["by"]
    assert said["token"] == token
    heard.nothing_more()


def test_a_waiter_is_not_taken_out_and_leaves_no_document(heard: Heard, elsewhere: Elsewhere) -> None:
    second = threading.Thread(target=locked(reads=["elsewhere"], atomic=False)(lambda: None))
    second.start()
    store = runtime.store()
    while not (waiting := [party.ticket for party in store.parties() if not party.holding]):
        assert second.is_alive()
    with pytest.raises(CommandError, match="only waits, for elsewhere:S"):
        call_command("pooling", "break", waiting[0], stdout=io.StringIO(), stderr=io.StringIO())
    assert telling.broken_by(store, waiting[0]) == ""
    assert waiting[0] in [party.ticket for party in store.parties()]
    elsewhere.end()
    second.join(30)


def test_a_store_that_cannot_say_who_broke_it(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(store: Any, ticket: str) -> str:
        raise StoreUnavailable("down")

    monkeypatch.setattr(telling, "broken_by", down)
    with locked(writes=["a"], atomic=False) as held:
        heard.next("lock_granted")
        runtime.store().release(held._ticket)
    heard.next("lock_lost")


def kinds_of_a_call() -> list[steps.Kind]:
    """What a driver of the steps is asked for."""
    made = spec.Spec.make([], ["a"], wait=None, lease=None, atomic=False, using=None, fence=None)
    work = steps.steps(steps.Call(made, None))
    kind, value = next(work)
    found = [kind]
    while kind is not steps.Kind.DONE:
        answer = runtime.manager().acquire(**value) if kind is steps.Kind.LOCK else None
        if kind is steps.Kind.DATABASE:
            answer = value()
        kind, value = work.send(answer)
        found.append(kind)
    assert not frames.in_hold()
    return found


def test_nobody_who_listens_costs_nothing() -> None:
    quiet = kinds_of_a_call()
    assert quiet == [steps.Kind.DATABASE, steps.Kind.LOCK, steps.Kind.BODY, steps.Kind.DONE]
    with locked(writes=["a"], atomic=False) as held:
        runtime.store().release(held._ticket)
    assert "pooling-signals" not in {thread.name for thread in threading.enumerate()}


def test_who_listens_is_a_step_in_the_thread_of_the_database(heard: Heard) -> None:
    assert kinds_of_a_call()[2] is steps.Kind.DATABASE
