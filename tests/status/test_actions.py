"""What an operator does from the page."""

from __future__ import annotations

import contextlib
import html
import logging
import re
import threading
from typing import Any, cast

import pytest
from django.contrib.auth.models import User
from django.core import signing
from django.db import connection
from django.test import Client

from pooling import breaking, locked, locked_cache, runtime
from pooling.errors import LockLost, StoreUnavailable
from pooling.status import orders
from pooling.status import said as said_

from .conftest import Show, person
from .documents import document, pool

BREAK, INVALIDATE, DRAIN = (f"/ops/pooling/{name}/" for name in ("break", "invalidate", "drain"))
PATHS = (BREAK, INVALIDATE, DRAIN)
SAID = r'<p class="said (\w+)" role="status">(.*?)</p>'


def said(answer: Any) -> tuple[str, str]:
    """What the status page says after an action."""
    assert (answer.status_code, answer.headers["Location"]) == (302, "/ops/pooling/"), answer.content[:500]
    found = re.search(SAID, answer.client.get("/ops/pooling/").content.decode())
    assert found
    return found[1], html.unescape(found[2])


@pytest.mark.parametrize("path", PATHS)
def test_only_operators_may(path: str, staff: Client) -> None:
    assert Client().post(path).status_code == 302  # to the login
    assert person("vera", staff=False).post(path).status_code == 403
    for method in (staff.get, staff.post):
        assert method(path, {"group": "a"}).status_code == 403
    page = staff.get("/ops/pooling/").content.decode()
    assert path not in page
    # The permission alone makes nobody a member of the staff.
    assert person("otto", staff=False, operator=True).post(path).status_code == 403


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_done(path: str, olga: Client, settings: Any) -> None:
    for middleware in (settings.MIDDLEWARE, [one for one in settings.MIDDLEWARE if "csrf" not in one]):
        settings.MIDDLEWARE = middleware
        strict = Client(enforce_csrf_checks=True)
        strict.cookies = olga.cookies
        assert strict.post(path, {"group": "a"}).status_code == 403
    assert olga.put(path).status_code == 405


# -- breaking a lock


def test_a_lock_is_broken_after_it_was_asked_about(olga: Client, caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.suppress(LockLost), locked(writes=["accounts/7"], atomic=False) as held:
        ticket = held._ticket
        page = olga.get("/ops/pooling/").content.decode()
        assert f'href="{BREAK}?ticket={ticket}"' in page
        asked = olga.get(BREAK, {"ticket": ticket}).content.decode()
        assert "has held accounts/7 (writes) for" in asked
        held.check()  # to ask does nothing
        kind, text = said(olga.post(BREAK, {"ticket": ticket}))
        assert (kind, text.split(".")[0]) == ("good", "The lock was taken from with locked(…)")
        assert breaking.broken_by(runtime.store(), ticket) == "olga (status page)"
        # A second operator, who had been asked as well.
        for ask in (olga.get, olga.post):
            kind, text = said(ask(BREAK, {"ticket": ticket}))
            assert (kind, text.split(":")[0]) == ("note", "Nobody has that lock any more")
        with pytest.raises(LockLost):
            held.check()
    (record,) = (one for one in caplog.records if one.name == "pooling.operate")
    assert record.levelno == logging.WARNING
    for word in ("'olga (status page)' broke the lock of 'with locked(…)'", repr(ticket), "accounts/7"):
        assert word in record.getMessage()


def test_of_two_at_the_same_moment_one_is_told_that_it_is_gone(redis_store: None) -> None:
    """Both have found the holder before either releases it."""
    store = runtime.store()
    both = threading.Barrier(2)

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def parties(self) -> Any:
            found = store.parties()
            both.wait(30)
            return found

    results: list[Any] = []
    with contextlib.suppress(LockLost), locked(writes=["a"], atomic=False) as held:

        def break_it() -> None:
            results.append(breaking.break_lock(cast(Any, Slow()), held._ticket, "olga"))

        threads = [threading.Thread(target=break_it) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        with pytest.raises(LockLost):
            held.check()
    assert sorted(result is None for result in results) == [False, True]


def test_who_waits_has_no_lock_to_break(olga: Client) -> None:
    def wait() -> None:
        with locked(writes=["a"], atomic=False, wait=30):
            pass

    with locked(writes=["a"], atomic=False):
        waiter = threading.Thread(target=wait)
        waiter.start()
        while not (waiting := [one for one in runtime.store().parties() if not one.holding]):
            assert waiter.is_alive()
        assert f"?ticket={waiting[0].ticket}" not in olga.get("/ops/pooling/").content.decode()
        assert said(olga.post(BREAK, {"ticket": waiting[0].ticket}))[0] == "note"
        assert [one.ticket for one in runtime.store().parties() if not one.holding] == [waiting[0].ticket]
    waiter.join(30)


# -- invalidating


def test_a_group_is_invalidated_after_it_was_asked_about(olga: Client, caplog: pytest.LogCaptureFixture) -> None:
    from django.http import HttpResponse
    from django.test import RequestFactory

    made: list[int] = []

    @locked_cache(60, reads=["events/7"])
    def view(request: Any) -> HttpResponse:
        made.append(1)
        return HttpResponse("event")

    def visit() -> int:
        view(RequestFactory().get("/event/"))
        return len(made)

    assert (visit(), visit()) == (1, 1)
    asked = olga.get(INVALIDATE, {"group": " events/7 "}).content.decode()
    assert '<input type="hidden" name="group" value="events/7">' in asked
    assert visit() == 1
    assert said(olga.post(INVALIDATE, {"group": "events/7"}))[0] == "good"
    assert visit() == 2
    assert "'olga (status page)' invalidated events/7" in caplog.text


@pytest.mark.parametrize(
    ("group", "error"),
    [
        ("", "A group is empty."),
        ("/events", "starts or ends with '/'. Write 'events'."),
        ("a//b", "has an empty level"),
        ("accounts/{*}", "has braces in it"),
        ("a\0b", "has a control character"),
        ("x" * 500, "bytes long; at most"),
    ],
)
def test_a_name_that_is_none_is_answered_with_what_to_change(group: str, error: str, olga: Client) -> None:
    for answer in (olga.get(INVALIDATE, {"group": group}), olga.post(INVALIDATE, {"group": group})):
        assert answer.status_code == 400
        page = html.unescape(answer.content.decode())
        assert error in page
        assert 'aria-invalid="true"' in page
        assert 'type="hidden" name="group"' not in page


def test_where_pooling_is_switched_off(olga: Client, settings: Any) -> None:
    settings.POOLING = {"ENABLED": False}
    assert said(olga.post(INVALIDATE, {"group": "a"})) == (
        "note",
        "POOLING['ENABLED'] is False: nothing is cached, so nothing was done.",
    )


# -- draining


@pytest.mark.parametrize("own", [True, False])
def test_a_pool_is_drained(own: bool, olga: Client, caplog: pytest.LogCaptureFixture) -> None:
    from pooling.status import here

    process = here.process_id() if own else ""
    asked = olga.get(DRAIN, {"pool": "default", "process": process}).content.decode()
    assert f'<input type="hidden" name="process" value="{process}">' in asked
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        before = cursor.fetchone()
    connection.close()
    kind, text = said(olga.post(DRAIN, {"pool": "default", "process": process}))
    assert (kind, "replaces its connections." in text) == ("good", True)
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        assert cursor.fetchone() != before
    assert "'olga (status page)' drained the pool 'default' in " in caplog.text


def test_another_process_is_told_to_drain(olga: Client, show: Show, redis_store: None) -> None:
    show(document(1, pools=[pool(size=3, busy=1)]), document(2, pools=[pool(size=4, busy=4)]))
    page = html.unescape(olga.get(DRAIN, {"pool": "default"}).content.decode())
    assert "The pool default in all processes: 7 open, 5 of them in use." in page
    kind, text = said(olga.post(DRAIN, {"pool": "default", "process": "web:2:abc"}))
    assert kind == "good"
    assert text.endswith("Other processes do it within 5 s.")
    (order,) = orders._read(runtime.store().load(orders.KEY)[0])
    assert (order["do"], order["pool"], order["process"]) == ("drain", "default", "web:2:abc")
    for query in ({"pool": "default", "process": "web:3:abc"}, {"pool": "other"}, {}):
        assert said(olga.post(DRAIN, query)) == ("note", "That pool is gone: its process has ended. Nothing was done.")


# -- when it cannot be done, and what is said


@pytest.mark.parametrize("path", PATHS)
def test_a_store_that_is_down_is_said(path: str, olga: Client, show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    show(document(1))

    def down(*args: Any) -> Any:
        raise StoreUnavailable("Redis is away.")

    for name in ("parties", "invalidate"):
        monkeypatch.setattr(type(runtime.store()), name, down)
    monkeypatch.setattr(orders, "drain", down)
    answer = olga.post(path, {"ticket": "t", "group": "a", "pool": "default"})
    assert said(answer) == ("bad", "Not done, as far as can be told. Redis is away.")


def test_what_is_said_is_said_once(olga: Client) -> None:
    olga.post(INVALIDATE, {"group": "a"})
    cookie = olga.cookies[said_.COOKIE]
    assert (cookie["path"], cookie["httponly"], cookie["samesite"]) == ("/ops/pooling/", True, "Strict")
    olga.get("/ops/pooling/part/")  # another tab, which looks again and again
    assert re.search(SAID, olga.get("/ops/pooling/").content.decode())
    assert re.search(SAID, olga.get("/ops/pooling/").content.decode()) is None  # a reload


def test_what_is_said_cannot_be_made_up(olga: Client) -> None:
    kind = {"kind": "good", "text": "Send <b>me</b> your word"}
    for value in (signing.dumps(kind, salt="another"), signing.dumps(kind, salt="pooling.status:0"), "x", "", "é:1:x"):
        olga.cookies[said_.COOKIE] = value
        assert re.search(SAID, olga.get("/ops/pooling/", {"said": value}).content.decode()) is None
    olga.cookies[said_.COOKIE] = signing.dumps(kind, salt=f"pooling.status:{User.objects.get(username='olga').pk}")
    assert "Send &lt;b&gt;me&lt;/b&gt; your word" in olga.get("/ops/pooling/").content.decode()


def test_what_is_said_to_one_operator_is_not_said_to_another(olga: Client) -> None:
    olga.post(INVALIDATE, {"group": "a"})
    oscar = person("oscar", operator=True)
    oscar.cookies[said_.COOKIE] = olga.cookies[said_.COOKIE].value
    assert re.search(SAID, oscar.get("/ops/pooling/").content.decode()) is None
