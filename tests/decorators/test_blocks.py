"""`locked` on plain functions and in ``with``: nesting, transactions, several databases, what is refused."""

from __future__ import annotations

import contextvars
import functools
import gc
import inspect
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections, transaction
from django.test import RequestFactory, override_settings
from django.utils.decorators import method_decorator
from django.utils.functional import SimpleLazyObject
from django.views import View

from pooling import GroupError, LockLost, LockOrderError, LockTimeout, runtime
from pooling.decorators import locked
from pooling.groups import MAX_GROUPS, group
from tests.app.models import Account, Note

from .events import recorded

pytestmark = pytest.mark.django_db(transaction=True)


def others_can_have(group: str) -> bool:
    """Could another thread lock this group now?"""
    answer: list[bool] = []

    def attempt() -> None:
        try:
            with locked(writes=[group], wait=0, atomic=False):
                answer.append(True)
        except LockTimeout:
            answer.append(False)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join(30)
    return answer[0]


@pytest.fixture
def other(second_alias: str) -> str:
    return second_alias


def test_as_a_block_and_again_inside_itself() -> None:
    hold = locked(writes=["accounts/1"])
    with hold as outer:
        assert outer.writes == ("accounts/1",)
        with hold as inner:
            assert connection.in_atomic_block
            assert len(connection.savepoint_ids) == 1
            inner.check()
        assert not others_can_have("accounts/1")
    assert others_can_have("accounts/1")


def test_one_instance_in_many_threads() -> None:
    hold = locked(reads=["accounts"], atomic=False)
    inside = threading.Barrier(4)
    helds: list[Any] = []

    def worker() -> None:
        with hold as held:
            inside.wait(30)  # all of them are in at the same moment
            helds.append(held)

    threads = [threading.Thread(target=worker) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len({id(held) for held in helds}) == 4


def test_a_plain_function_keeps_name_and_signature() -> None:
    @locked(writes=["accounts/{src}", "accounts/{dst}"])
    def transfer(src: str, dst: str = "bob") -> tuple[str, ...]:
        """Moves."""
        return runtime.manager().current()[0].writes

    assert transfer("ann") == ("accounts/ann", "accounts/bob")
    assert transfer.__name__ == "transfer"
    assert list(inspect.signature(transfer).parameters) == ["src", "dst"]
    assert inspect.unwrap(transfer) is not transfer
    with pytest.raises(TypeError, match="src"):
        transfer()  # type: ignore[call-arg]


def test_a_nested_later_group_is_kept_until_the_outer_commit() -> None:
    with recorded() as events:
        with locked(writes=["a"]):
            with locked(writes=["b"]):
                Account.objects.create(name="ann")
            assert not others_can_have("b")
            events.clear()
        assert others_can_have("b")
    assert [e for e in events if e in ("COMMIT", "unlock")][:3] == ["COMMIT", "unlock", "unlock"]


def test_a_nested_group_without_transactions_is_free_at_once() -> None:
    with locked(writes=["a"], atomic=False):
        with locked(writes=["b"], atomic=False):
            assert not others_can_have("b")
        assert others_can_have("b")


def test_a_nested_earlier_group_is_refused() -> None:
    with locked(writes=["b"]):
        with pytest.raises(LockOrderError), locked(writes=["a"]):
            raise AssertionError("must not be entered")


def test_nesting_at_repeatable_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for level in ("repeatable read", "serializable", None):
        with locked(writes=["a"]):
            monkeypatch.setattr(connections["default"], "isolation_level", level)
            with pytest.raises(LockOrderError, match="Declare all groups together"), locked(writes=["b"]):
                raise AssertionError("must not be entered")
            with locked(reads=["a/1"]):
                pass  # covered
            assert others_can_have("b")


def test_nested_in_on_commit() -> None:
    seen: list[bool] = []

    def later() -> None:
        with locked(writes=["b"]):
            seen.append(others_can_have("b"))
        seen.append(others_can_have("b"))

    with locked(writes=["a"]):
        transaction.on_commit(later)
    assert seen == [False, True]


@pytest.mark.parametrize("robust", [False, True])
def test_on_commit_an_earlier_group_is_refused_and_the_commit_stands(
    robust: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def later() -> None:
        with locked(writes=["a"]):
            raise AssertionError("must not be entered")

    refused: list[LockOrderError] = []
    try:
        with locked(writes=["b"]):
            Account.objects.create(name="ann")
            transaction.on_commit(later, robust=robust)
    except LockOrderError as error:
        refused.append(error)
    assert Account.objects.get().name == "ann"
    assert others_can_have("b")
    assert len(refused) == (0 if robust else 1)
    assert ("LockOrderError" in caplog.text) == robust  # Django logs what a robust callback raises


def test_inside_a_transaction_it_is_refused() -> None:
    with transaction.atomic(), pytest.raises(LockOrderError, match=r"transaction\.atomic"), locked(writes=["a"]):
        raise AssertionError("must not be entered")
    with transaction.atomic(), locked(writes=["a"], atomic=False):
        assert not others_can_have("a")


def test_with_autocommit_off_it_is_refused() -> None:
    transaction.set_autocommit(False)
    try:
        with pytest.raises(LockOrderError, match="autocommit is off"), locked(writes=["a"]):
            raise AssertionError("must not be entered")
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


def test_a_lost_lease_refuses_the_commit() -> None:
    def losing() -> None:
        with locked(writes=["a"], fence=False):  # with fences only a newer holder would matter
            Account.objects.create(name="ann")
            (party,) = runtime.store().parties()
            runtime.store().release(party.ticket)

    with pytest.raises(LockLost):
        losing()
    assert not Account.objects.exists()


def test_a_failing_release_hides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    store = runtime.store()
    release = store.release

    def broken(ticket: str, renews: tuple[str, ...] = ()) -> bool:
        release(ticket, renews)
        raise OSError("the store went away")

    store.release = broken  # type: ignore[method-assign]
    try:
        with pytest.raises(ValueError, match="of the block"), locked(writes=["a"]):
            raise ValueError("of the block")
    finally:
        del store.release
    assert "could not be released" in caplog.text
    assert {record.name for record in caplog.records} == {"pooling.locks"}


def test_stop_iteration_passes_through() -> None:
    @locked(writes=["a"])
    def exhausted() -> Any:
        return next(iter(()))

    with pytest.raises(StopIteration):
        exhausted()
    with pytest.raises(StopIteration), locked(writes=["a"]):
        raise StopIteration


def test_several_aliases_all_commit_or_none(other: str) -> None:
    # Without fences: the second session would wait for the first one's claim of the same rows.
    @locked(writes=["a"], using=["other", "default"], fence=False)
    def both(fail: bool) -> None:
        assert connections["other"].in_atomic_block
        assert connections["default"].in_atomic_block
        # Two tables: the aliases are two sessions on one database, and in a unique index the rows that an earlier test
        # deleted can make the second session wait for the first one's gap lock, which this thread would never release.
        Note.objects.using("other").create(text="ann")
        Account.objects.using("default").create(name="bob")
        if fail:
            raise ValueError("after both")

    with pytest.raises(ValueError, match="after both"):
        both(True)
    assert not Account.objects.exists()
    assert not Note.objects.exists()
    both(False)
    assert Account.objects.count() == Note.objects.count() == 1


def test_views_open_every_alias_with_atomic_requests(other: str, rf: RequestFactory) -> None:
    connections.settings["other"]["ATOMIC_REQUESTS"] = True

    @locked(reads=["a"])
    def view(request: Any) -> tuple[bool, bool]:
        return connections["default"].in_atomic_block, connections["other"].in_atomic_block

    assert view(rf.get("/")) == (False, True)
    assert "other" in view._non_atomic_requests
    assert "default" not in view._non_atomic_requests


def test_while_it_waits_it_holds_no_pooled_connection() -> None:
    if not hasattr(connection, "release_if_clean") or connection.pool is None:
        pytest.skip("needs the pooled backend")
    Account.objects.count()
    entered, go = threading.Event(), threading.Event()

    def holder() -> None:
        with locked(writes=["a"], atomic=False):
            entered.set()
            go.wait(30)

    thread = threading.Thread(target=holder)
    thread.start()
    entered.wait(30)
    try:
        with pytest.raises(LockTimeout), locked(writes=["a"], wait=0.01):
            raise AssertionError("must not be entered")
        assert connection.connection is None
    finally:
        go.set()
        thread.join(30)


class Sized(View):
    @method_decorator(locked(reads=["things/{pk}"], atomic=False))
    def get(self, request: Any, pk: int) -> tuple[str, ...]:
        return runtime.manager().current()[0].reads


def test_method_decorator_binds_positional_arguments_and_leaks_nothing(rf: RequestFactory) -> None:
    from pooling.spec import declared

    before = len(declared())
    for pk in range(5):
        assert Sized.as_view()(rf.get("/"), pk) == (f"things/{pk}",)
    assert len(declared()) == before


async def _groups_of(*args: Any) -> list[str]:
    return ["a"]


class _Groups:
    async def __call__(self, *args: Any) -> list[str]:
        return ["a"]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"writes": "accounts"}, TypeError, r"writes=\['accounts'\]"),
        ({"reads": lambda request: []}, TypeError, "list"),
        ({"reads": 7}, TypeError, "list"),
        ({"writes": {"a": 1}}, TypeError, "list"),
        ({}, TypeError, "names no groups"),
        ({"writes": ["a//b"]}, GroupError, "empty level"),
        ({"writes": ["a/{b"]}, GroupError, "is not the name of an argument: write"),
        ({"writes": [7]}, GroupError, "string"),
        ({"writes": ["a"], "wait": float("nan")}, ImproperlyConfigured, "wait"),
        ({"writes": ["a"], "wait": "5"}, ImproperlyConfigured, "wait"),
        ({"writes": ["a"], "lease": 0}, ImproperlyConfigured, "lease"),
        ({"writes": ["a"], "lease": float("inf")}, ImproperlyConfigured, "lease"),
        ({"writes": ["a"], "lease": 0.01}, ImproperlyConfigured, r"locked\(lease=….*at least 1 second, not 0.01"),
        ({"writes": ["a"], "atomic": 1}, TypeError, "atomic"),
        ({"writes": ["a"], "fence": "yes"}, TypeError, "fence"),
        ({"writes": ["a"], "using": 7}, TypeError, "using"),
        ({"writes": ["a"], "using": 1}, TypeError, "alias"),
        ({"writes": ["a"], "using": []}, TypeError, "using"),
        ({"writes": ["a"], "using": "default", "atomic": False}, TypeError, "atomic=False"),
        ({"writes": ["a"], "fence": True, "atomic": False}, TypeError, "a fence is claimed in the transaction"),
        ({"reads": ["a"], "fence": True}, TypeError, "this one only reads"),
        ({"writes": ["a"], "unknown": 1}, TypeError, "no argument 'unknown'. It knows atomic"),
        ({"write": ["a"]}, TypeError, "Did you mean 'writes'"),
        ({"reads": ["a", _groups_of]}, TypeError, r"reads=….*_groups_of is an `async def`"),
        ({"reads": [functools.partial(_groups_of, 1)]}, TypeError, r"_groups_of is an `async def`"),
        ({"writes": [_Groups()]}, TypeError, r"_Groups is an `async def`"),
    ],
)
def test_bad_options_are_refused_at_once(arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        locked(**arguments)


def test_what_cannot_be_decorated() -> None:
    def generator() -> Iterator[int]:
        yield 1

    hold = locked(writes=["a"])
    with pytest.raises(TypeError, match="generator"):
        hold(generator)
    with pytest.raises(TypeError, match="dispatch"):
        hold(Sized)

    async def coroutine() -> None:
        raise AssertionError("must not run")

    with pytest.raises(TypeError, match="coroutine"):
        hold(lambda: coroutine())()


def test_at_the_first_call() -> None:
    @locked(writes=["a/{nothing}"])
    def view(request: Any, name: str) -> None:
        raise AssertionError("must not run")

    with pytest.raises(GroupError, match=r"nothing.*\.view"):
        view(object(), "ann")
    with pytest.raises(GroupError, match="no view arguments"), locked(writes=["a/{name}"]):
        raise AssertionError("must not be entered")
    with pytest.raises(GroupError, match="no view arguments"), locked(writes=[lambda: ["a"]]):
        raise AssertionError("must not be entered")
    with pytest.raises(ImproperlyConfigured, match="'nowhere'"), locked(writes=["a"], using="nowhere"):
        raise AssertionError("must not be entered")

    @locked(writes=[lambda: "abc"])
    def text() -> None:
        raise AssertionError("must not run")

    with pytest.raises(GroupError, match="list of groups"):
        text()

    def make_groups(event_id: int) -> list[str]:
        return ["fine", f"events//{event_id}"]

    @locked(reads=[make_groups])
    def malformed(event_id: int) -> None:
        raise AssertionError("must not run")

    with pytest.raises(GroupError, match=r"make_groups, called for .*\.malformed, returned: .*'events//7'.*'events/7'"):
        malformed(event_id=7)

    @locked(writes=["events/{pk}"])
    def event(request: Any, event_id: int) -> None:
        raise AssertionError("must not run")

    with pytest.raises(GroupError, match="it has 'request', 'event_id'\\. "):
        event(object(), event_id=7)


def test_a_timeout_of_a_block_and_of_a_function_calls_neither_a_view() -> None:
    answers: list[str] = []

    @locked(writes=["a"], wait=0, atomic=False)
    def job() -> None:
        raise AssertionError("must not run")

    def attempt() -> None:
        for take in (job, locked(writes=["a"], wait=0, atomic=False).__enter__):
            with pytest.raises(LockTimeout) as caught:
                take()
            answers.append(str(caught.value))

    with locked(writes=["a"], atomic=False):
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join(30)
    assert [answer.partition(" did not wait")[0].rpartition(".")[2] for answer in answers] == [
        "job'",
        "'with locked(…)'",
    ]
    assert not any("view '" in answer.lower() or " view " in answer for answer in answers), answers


def test_a_thread_that_ends_inside_a_block_says_so_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ignored: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)

    def forgetful() -> None:
        locked(writes=["a"]).__enter__()
        connection.close()

    thread = threading.Thread(target=forgetful)
    thread.start()
    thread.join(30)
    gc.collect()
    assert ignored == []
    assert "never left" in caplog.text
    for party in runtime.store().parties():
        runtime.store().release(party.ticket)  # instead of the lease


def test_a_generator_that_is_closed_inside_a_block_leaves_it() -> None:
    def items() -> Iterator[int]:
        with locked(writes=["a"]):
            Account.objects.create(name="ann")
            yield 1

    work = items()
    assert next(work) == 1
    work.close()
    assert not connection.in_atomic_block
    assert not Account.objects.exists()
    assert others_can_have("a")


def test_as_many_groups_as_are_allowed_and_one_more() -> None:
    """More are refused before anything is asked: Redis would take so long that it is believed to be down."""
    most = [f"rows/{number}" for number in range(MAX_GROUPS - 1)]
    with locked(writes=most) as held:
        held.check()
        assert len(held.writes) == MAX_GROUPS - 1
    with pytest.raises(GroupError, match=rf"at most {MAX_GROUPS} are allowed"), locked(writes=[*most, "rows/x"]):
        raise AssertionError("must not be entered")
    assert runtime.store().trouble() == ""
    assert others_can_have("rows")


@pytest.mark.parametrize("lazy", [False, True])
def test_a_model_is_no_value_of_a_group(lazy: bool) -> None:
    """Its str() may be that of another one, and another one tomorrow."""
    account: Any = Account(name="ann")
    value = SimpleLazyObject(lambda: account) if lazy else account

    @locked(writes=["accounts/{account}"])
    def pay(account: Any) -> None:
        raise AssertionError("must not be called")

    with pytest.raises(GroupError, match=r"cannot be made from a Account: .* Pass its pk\."):
        pay(value)
    with pytest.raises(GroupError, match=r"Pass its pk\."):
        group("accounts", value)


def test_left_in_another_context_it_says_where_it_belongs() -> None:
    lock, context = locked(writes=["a"], atomic=False), contextvars.Context()
    context.run(lock.__enter__)
    with pytest.raises(RuntimeError, match="Leave it in the thread or task that entered it"):
        lock.__exit__(None, None, None)
    context.run(lock.__exit__, None, None, None)


def test_a_fence_needs_a_shared_store(settings: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="fence"), locked(writes=["a"], fence=True):
        raise AssertionError("must not be entered")


@pytest.mark.parametrize(
    ("backend", "says"),
    [
        ("django.core.cache.backends.redis.RedisCache", "'django_redis.cache.RedisCache'"),
        ("django.core.cache.backends.dummy.DummyCache", "Supported are"),
        ("no.such.Cache", "cannot be imported"),
    ],
)
def test_unsupported_stores(backend: str, says: str) -> None:
    with override_settings(CACHES={"default": {"BACKEND": backend}}):
        with pytest.raises(ImproperlyConfigured, match=says), locked(writes=["a"]):
            raise AssertionError("must not be entered")
    with override_settings(POOLING={"CACHE_ALIAS": "nowhere"}):
        with pytest.raises(ImproperlyConfigured, match="'nowhere'"), locked(writes=["a"]):
            raise AssertionError("must not be entered")


@override_settings(POOLING={"ENABLED": False})
def test_switched_off() -> None:
    with locked(writes=["a"]) as held:
        held.check()
        assert held.groups == ()
        assert connection.in_atomic_block
        assert runtime.store().parties() == []
    with transaction.atomic(), locked(writes=["b"]), locked(writes=["a"]):
        assert len(connection.savepoint_ids) == 2
