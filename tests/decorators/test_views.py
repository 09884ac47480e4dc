"""`locked` on views of every kind, through the test client, against a real MariaDB."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from django.db import connection
from django.http import HttpResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncClient, Client, RequestFactory, TestCase, TransactionTestCase, override_settings

from pooling import LockOrderError, PoolingError, runtime
from pooling.decorators import allow_unlocked_stream, locked
from tests.app.models import Account

from . import urls
from .events import recorded

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.decorators.urls")]
LOCKED = "accounts:IX,accounts/ann:X"
SYNC = ["function", "around", "dispatch"]
ASYNC = ["async", "async-around", "async-dispatch"]


@pytest.fixture(autouse=True)
def fresh() -> None:
    urls.events.clear()


@pytest.mark.parametrize("kind", SYNC + ASYNC)
def test_the_view_runs_locked_and_atomic_and_commits_before_the_unlock(kind: str, client: Client) -> None:
    assert client.get(f"/{kind}/ann").content == b"done"
    assert urls.events == [f"view {LOCKED} atomic", f"on_commit {LOCKED} autocommit"]
    assert Account.objects.get().balance == 7


@pytest.mark.parametrize("kind", SYNC + ASYNC)
def test_the_same_under_atomic_requests(kind: str, client: Client, atomic_requests: None) -> None:
    assert client.get(f"/{kind}/ann").content == b"done"
    assert urls.events == [f"view {LOCKED} atomic", f"on_commit {LOCKED} autocommit"]


@pytest.mark.parametrize("kind", ASYNC)
def test_through_the_async_client(kind: str, atomic_requests: None) -> None:
    async def main() -> bytes:
        return (await AsyncClient().get(f"/{kind}/ann")).content

    assert asyncio.run(main()) == b"done"
    assert urls.events == [f"view {LOCKED} atomic", f"on_commit {LOCKED} autocommit"]


@pytest.mark.parametrize("atomic", [False, True])
def test_order_of_events(atomic: bool, client: Client, request: pytest.FixtureRequest) -> None:
    if atomic:
        request.getfixturevalue("atomic_requests")
    with recorded() as events:
        urls.events = events
        try:
            client.get("/function/ann")
        finally:
            urls.events = []
    assert events[0] == "lock"
    wanted = ["BEGIN", f"view {LOCKED} atomic", "COMMIT", f"on_commit {LOCKED} autocommit", "unlock"]
    assert [event for event in events if event in wanted] == wanted


def test_an_exception_rolls_back_before_the_unlock(client: Client, atomic_requests: None) -> None:
    with recorded() as events, pytest.raises(ValueError, match="from the view"):
        client.get("/failing/ann")
    assert [e for e in events if e in ("lock", "ROLLBACK", "COMMIT", "unlock")] == ["lock", "ROLLBACK", "unlock"]
    assert not Account.objects.exists()
    assert len(urls.events) == 1  # no on_commit


def test_a_template_response_is_rendered_inside(client: Client) -> None:
    assert client.get("/template/ann").content == b"rendered"
    assert urls.events == [f"render {LOCKED} atomic", f"rendered {LOCKED} atomic"]


def test_an_exception_while_rendering_rolls_back(rf: RequestFactory) -> None:
    class Broken:
        def __str__(self) -> str:
            raise ValueError("while rendering")

    @locked(writes=["accounts"])
    def view(request: Any) -> TemplateResponse:
        Account.objects.create(name="ann")
        return TemplateResponse(request, engines["django"].from_string("{{ it }}"), {"it": Broken()})

    with pytest.raises(ValueError, match="while rendering"):
        view(rf.get("/"))
    assert not Account.objects.exists()


def test_readers_open_a_transaction_only_under_atomic_requests(client: Client) -> None:
    assert client.get("/reading/ann").content == b"accounts:IS,accounts/ann:S autocommit"
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        assert client.get("/reading/ann").content == b"accounts:IS,accounts/ann:S atomic"
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False


@pytest.mark.parametrize("kind", ["declined-outside", "declined-inside"])
def test_non_atomic_requests_is_respected(kind: str, client: Client, atomic_requests: None) -> None:
    assert client.get(f"/{kind}/ann").content.decode() == f"{LOCKED} autocommit"


def test_on_get_under_atomic_requests_is_refused_before_any_lock(client: Client, atomic_requests: None) -> None:
    with recorded() as events, pytest.raises(LockOrderError, match="name='dispatch'"):
        client.get("/get/ann")
    assert "lock" not in events


def test_on_get_without_atomic_requests(client: Client) -> None:
    assert client.get("/get/ann").content == b"done"
    assert urls.events[0] == f"view {LOCKED} atomic"


def test_streaming_under_writes(rf: RequestFactory) -> None:
    @locked(writes=["accounts"])
    def refused(request: Any) -> StreamingHttpResponse:
        Account.objects.create(name="ann")
        return StreamingHttpResponse(["body"])

    @locked(writes=["accounts"])
    def allowed(request: Any) -> StreamingHttpResponse:
        return allow_unlocked_stream(StreamingHttpResponse(["body"]))

    with pytest.raises(PoolingError, match="allow_unlocked_stream"):
        refused(rf.get("/"))
    assert not Account.objects.exists()
    assert b"".join(allowed(rf.get("/"))) == b"body"  # type: ignore[arg-type]


@override_settings(POOLING={"ENABLED": False})
def test_switched_off_the_transaction_stays(client: Client, atomic_requests: None) -> None:
    assert client.get("/function/ann").content == b"done"
    assert urls.events == ["view unlocked atomic", "on_commit unlocked autocommit"]


def test_arguments_by_position_default_and_callable(rf: RequestFactory) -> None:
    seen: list[Any] = []

    @locked(reads=["pages/{page}"], writes=[lambda request, src, dst, page=1: [f"a/{src}", f"a/{dst}"]])
    def view(request: Any, src: str, dst: str, page: int = 1) -> HttpResponse:
        (held,) = runtime.manager().current()
        seen.append((held.reads, held.writes))
        return HttpResponse()

    view(rf.get("/"), "x", dst="y")
    assert seen == [(("pages/1",), ("a/x", "a/y"))]


class InTestCase(TestCase):
    def test_its_own_transaction_is_fine(self) -> None:
        with override_settings(ROOT_URLCONF="tests.decorators.urls"):
            assert self.client.get("/function/ann").content == b"done"
        assert urls.events == [f"view {LOCKED} atomic"]

    def test_async_view(self) -> None:
        with override_settings(ROOT_URLCONF="tests.decorators.urls"):
            assert self.client.get("/async/ann").content == b"done"
        assert Account.objects.get().balance == 7

    def test_an_atomic_of_the_test_is_refused(self) -> None:
        from django.db import transaction

        with transaction.atomic(), pytest.raises(LockOrderError):
            with locked(writes=["accounts"]):
                raise AssertionError("must not be entered")


class InTransactionTestCase(TransactionTestCase):
    def test_commits(self) -> None:
        with override_settings(ROOT_URLCONF="tests.decorators.urls"):
            assert self.client.get("/function/ann").content == b"done"
        assert len(urls.events) == 2


def test_transfers_in_opposite_order_by_many_threads_conserve_the_sum(rf: RequestFactory) -> None:
    names = ["ann", "bob", "cem"]
    for name in names:
        Account.objects.create(name=name, balance=1000)

    @locked(writes=["accounts/{src}", "accounts/{dst}"], wait=60)
    def transfer(request: Any, src: str, dst: str) -> HttpResponse:
        # On purpose without F(): only the lock protects it.
        source, target = Account.objects.get(name=src), Account.objects.get(name=dst)
        source.balance -= 3
        target.balance += 3
        source.save()
        target.save()
        return HttpResponse()

    failures: list[BaseException] = []
    start = threading.Barrier(8)

    def worker(number: int) -> None:
        try:
            start.wait(30)
            for turn in range(12):
                src, dst = names[(number + turn) % 3], names[(number * 2 + turn + 1) % 3]
                if src != dst:
                    transfer(rf.get("/"), src=src, dst=dst)
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            connection.close()

    threads = [threading.Thread(target=worker, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert not failures
    assert sum(Account.objects.values_list("balance", flat=True)) == 3000
