"""Whoever writes in whatever way: the page that was made from it is fresh as soon as the writer is done."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.apps import apps
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, connections, migrations, transaction
from django.db.migrations.state import ProjectState
from django.test import AsyncClient, Client

from pooling import locked
from tests.app.models import Account, Note

from .conftest import renews, vector

pytestmark = pytest.mark.django_db(transaction=True)


def page(path: str = "/notes") -> str:
    return str(Client().get(path).content.decode())


def cached(path: str = "/notes") -> str:
    """The page, which is in the cache from now on."""
    page(path)
    response = Client().get(path)
    assert "hit" in response["Cache-Status"]
    return str(response.content.decode())


def execute(sql: str, *args: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, *args)


def past_django() -> None:
    connection.ensure_connection()
    cursor = connection.connection.cursor()
    cursor.execute("UPDATE app_note SET text = 'new'")
    cursor.close()


def by_the_driver() -> None:
    connection.ensure_connection()
    connection.connection.query("UPDATE app_note SET text = 'new'")
    connection.connection.store_result()


def asked_and_fetched_later() -> None:
    connection.ensure_connection()
    connection.connection.send_query(b"UPDATE app_note SET text = 'new'")
    connection.connection.read_query_result()
    connection.connection.store_result()


def many() -> None:
    with connection.cursor() as cursor:
        cursor.executemany("UPDATE app_note SET text = %s WHERE id > %s", [("old", 0), ("new", 0)])


def several() -> None:
    execute("SELECT 1; UPDATE app_account SET balance = 1; UPDATE app_note SET text = 'new'")


def by_hand() -> None:
    execute("START TRANSACTION")
    execute("UPDATE app_note SET text = 'new'")
    execute("COMMIT")


def without_autocommit() -> None:
    connection.set_autocommit(False)
    execute("UPDATE app_note SET text = 'new'")
    connection.set_autocommit(True)


def autocommit_by_statement() -> None:
    execute("SET autocommit = 0")
    execute("UPDATE app_note SET text = 'new'")
    execute("SET autocommit = 1")


def committed_by_a_definition() -> None:
    with transaction.atomic():
        execute("UPDATE app_note SET text = 'new'")
        execute("CREATE TABLE IF NOT EXISTS sources_scratch (id int)")
        execute("DROP TABLE sources_scratch")


def by_a_procedure() -> None:
    execute("DROP PROCEDURE IF EXISTS renote")
    execute("CREATE PROCEDURE renote() BEGIN SELECT 1; UPDATE app_note SET text = 'new'; END")
    with connection.cursor() as cursor:
        cursor.callproc("renote")
    execute("DROP PROCEDURE renote")


def prepared() -> None:
    execute("PREPARE p FROM 'UPDATE app_note SET text = ''new'''")
    execute("EXECUTE p")
    execute("DEALLOCATE PREPARE p")


def atomic() -> None:
    with transaction.atomic():
        with transaction.atomic():
            Note.objects.update(text="new")


def saved() -> None:
    note = Note.objects.get()
    note.text = "new"
    note.save()


def from_another_thread() -> None:
    def work() -> None:
        Note.objects.update(text="new")
        connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def in_a_loop(work: Callable[[], Awaitable[Any]]) -> None:
    async def run() -> None:
        await work()
        await sync_to_async(connections.close_all)()  # those of the thread that did it

    asyncio.run(run())


def asynchronously() -> None:
    in_a_loop(lambda: Note.objects.aupdate(text="new"))


def migrated() -> None:
    operation = migrations.RunPython(lambda apps, editor: apps.get_model("app", "Note").objects.update(text="new"))
    state = ProjectState.from_apps(apps)
    with connection.schema_editor() as editor:
        operation.database_forwards("app", editor, state, state)


WRITERS: list[Callable[[], Any]] = [
    lambda: Note.objects.update(text="new"),
    lambda: execute("UPDATE app_note SET text = %s", ["new"]),
    lambda: execute("UPDATE app_note JOIN (SELECT 1) AS one SET text = 'new'"),
    lambda: execute(
        "INSERT INTO app_note (id, text) SELECT id, 'new' FROM app_note AS n ON DUPLICATE KEY UPDATE text = 'new'"
    ),
    saved,
    past_django,
    by_the_driver,
    asked_and_fetched_later,
    many,
    several,
    by_hand,
    without_autocommit,
    autocommit_by_statement,
    committed_by_a_definition,
    by_a_procedure,
    prepared,
    atomic,
    from_another_thread,
    asynchronously,
    migrated,
]


@pytest.mark.parametrize("write", WRITERS)
def test_a_write_that_nobody_declared(write: Callable[[], Any]) -> None:
    Note.objects.create(text="old")
    assert cached() == "old"
    write()
    assert page() == "new"


@pytest.mark.parametrize(
    ("write", "then"),
    [
        (lambda: Note.objects.bulk_create([Note(text="a"), Note(text="b")]), "old|a|b"),
        (lambda: Note.objects.bulk_update([Note(pk=Note.objects.get().pk, text="x")], ["text"]), "x"),
        (lambda: Note.objects.all().delete(), ""),
        (lambda: Note.objects.get_or_create(text="a"), "old|a"),
        (lambda: execute("DELETE FROM app_note"), ""),
        (lambda: execute("TRUNCATE app_note"), ""),
    ],
)
def test_rows_that_come_and_go(write: Callable[[], Any], then: str) -> None:
    Note.objects.create(text="old")
    assert cached() == "old"
    write()
    assert page() == then


def test_the_admin_saves_and_acts_on_many() -> None:
    User.objects.create_superuser("root", password="x")
    client = Client()
    assert client.login(username="root", password="x")
    note = Note.objects.create(text="old")
    assert cached() == "old"
    client.post(f"/admin/app/note/{note.pk}/change/", {"text": "saved"})
    assert cached() == "saved"
    client.post("/admin/app/note/", {"action": "shout", "_selected_action": [note.pk]})
    assert page() == "SHOUTED"


@pytest.mark.parametrize("path", ["/write", "/write_async"])
@pytest.mark.parametrize("atomic_requests", [False, True])
def test_a_view(path: str, atomic_requests: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if atomic_requests and "async" in path:
        return  # Django refuses it
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", atomic_requests)
    Note.objects.create(text="old")
    assert cached() == "old"
    Client().get(path)
    assert page().startswith("by a")
    if atomic_requests:
        before = vector()
        with pytest.raises(RuntimeError):
            Client().get("/write?fail=1")
        assert vector() == before


def test_a_view_under_asgi() -> None:
    Note.objects.create(text="old")
    assert cached() == "old"
    in_a_loop(lambda: AsyncClient().get("/write_async"))
    assert page() == "by an async view"


def test_what_the_group_does_not_depend_on_renews_nothing() -> None:
    before = vector("notes"), vector("bank/accounts")
    User.objects.create(username="somebody")
    execute("UPDATE auth_user SET first_name = 'app_note; app_account'")
    assert (vector("notes"), vector("bank/accounts")) == before
    assert not renews(lambda: Account.objects.create(name="a"))


def test_a_page_of_a_group_further_up() -> None:
    assert cached("/bank") == "0"
    Account.objects.create(name="a", balance=3)
    assert page("/bank") == "3"


def test_what_was_rolled_back_renews_nothing() -> None:
    def undone() -> None:
        with transaction.atomic():
            Note.objects.create(text="x")
            transaction.set_rollback(True)

    def by_hand() -> None:
        execute("START TRANSACTION")
        execute("UPDATE app_note SET text = 'x'")
        execute("ROLLBACK")

    def failed() -> None:
        Account.objects.create(name="a")
        before = vector("bank/accounts")
        with pytest.raises(IntegrityError):
            with transaction.atomic():
                Account.objects.create(name="a")
        assert vector("bank/accounts") == before

    assert not renews(undone)
    failed()
    # What is begun by hand may have been committed by the way, so it renews at each statement.
    renews(by_hand)
    before = vector()
    execute("UPDATE auth_user SET first_name = 'x'")
    assert vector() == before


def test_on_commit_sees_what_is_fresh() -> None:
    Note.objects.create(text="old")
    assert cached() == "old"
    seen = []
    with transaction.atomic():
        transaction.on_commit(lambda: seen.append(page()))
        Note.objects.update(text="new")
    assert seen == ["new"]


def test_a_hold_that_declares_it_does_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from pooling import runtime

    told: list[Any] = []
    monkeypatch.setattr(type(runtime.store()), "invalidate", lambda self, names, word: told.append(names))
    Note.objects.create(text="old")
    assert len(told) == 1
    Client().get("/declared")
    with locked(writes=["notes"], atomic=False):
        Note.objects.update(text="x")
    with locked(writes=["bank"]):
        Account.objects.create(name="a")
        assert len(told) == 1
        Note.objects.update(text="y")  # this one nobody declared
    assert len(told) == 2
    assert all("notes" in name for name in told[1])


def test_what_is_begun_by_hand_is_renewed_by_its_commit_whatever_was_before() -> None:
    Note.objects.create(text="old")
    execute("START TRANSACTION")
    execute("UPDATE app_note SET text = 'new'")
    reader = threading.Thread(target=lambda: (cached(), connections.close_all()))
    reader.start()
    reader.join()
    execute("COMMIT")
    assert page() == "new"


def test_a_statement_that_goes_on_after_the_first_result() -> None:
    Note.objects.create(text="old")
    lock = connections.create_connection("default")
    lock.inc_thread_sharing()
    lock.set_autocommit(False)
    with lock.cursor() as cursor:
        cursor.execute("SELECT * FROM app_note FOR UPDATE")
    connection.ensure_connection()
    raw = connection.connection
    raw.query("SELECT 1; UPDATE app_note SET text = 'new'")
    raw.store_result()
    before = vector()  # the server waits for the row
    lock.rollback()
    lock.close()
    raw.next_result()
    raw.store_result()
    assert raw.next_result() == -1
    assert vector() != before
