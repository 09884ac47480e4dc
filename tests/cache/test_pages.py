"""Pages through Django's whole request path: hits, misses, writes, who sees whose page."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.test.utils import CaptureQueriesContext

from pooling import GroupError, LockOrderError, PoolingError, invalidate, locked, locked_cache, runtime
from pooling.caching import vary_by
from pooling.groups import read_epochs
from tests.app.models import Note

from . import views

pytestmark = pytest.mark.django_db(transaction=True)
STORED = "pooling; fwd=uri-miss; stored"


def state(response: Any) -> str:
    return str(response["Cache-Status"])


@pytest.fixture
def text() -> Note:
    return Note.objects.create(text="one")


@pytest.fixture
def atomic_requests() -> Any:
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    yield
    connection.settings_dict["ATOMIC_REQUESTS"] = False


def test_a_hit_asks_the_database_nothing_even_under_atomic_requests(text: Note, atomic_requests: Any) -> None:
    client = Client()
    url = f"/note/{text.pk}"
    with CaptureQueriesContext(connection) as miss:
        first = client.get(url)
    assert (first.content, state(first)) == (b"one", STORED)
    assert any("SELECT" in query["sql"] for query in miss.captured_queries)
    with connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
        before = int(cursor.fetchone()[1])
        with CaptureQueriesContext(connection) as hit:
            second = client.get(url)
        cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
        assert int(cursor.fetchone()[1]) - before == 1  # this question itself
    assert len(hit) == 0
    assert second.content == b"one"
    assert state(second).startswith("pooling; hit; ttl=")
    assert second["Content-Type"] == first["Content-Type"]
    assert views.calls["note"] == 1


def test_a_write_makes_it_a_miss(text: Note) -> None:
    client, url = Client(), f"/note/{text.pk}"
    client.get(url)
    saved = client.post(url, {"text": "two"})
    assert state(saved) == "pooling; fwd=method"
    after = client.get(url)
    assert (after.content, state(after)) == (b"two", "pooling; fwd=stale; stored")
    assert client.get(url).content == b"two"
    assert views.calls["note"] == 3


def test_a_write_that_is_rolled_back_leaves_nothing_stale(text: Note, atomic_requests: Any) -> None:
    client, url = Client(raise_request_exception=False), f"/note/{text.pk}"
    client.get(url)
    assert client.post(url, {"text": "two", "fail": "1"}).status_code == 500
    assert client.get(url).content == b"one"


def test_writes_above_and_below_count_and_beside_do_not() -> None:
    one, two = Note.objects.create(text="a"), Note.objects.create(text="b")
    client = Client()
    assert client.get("/notes").content == b"a;b;"
    client.get(f"/note/{one.pk}"), client.get(f"/note/{two.pk}")
    client.post(f"/note/{one.pk}", {"text": "c"})
    assert "hit" in state(client.get(f"/note/{two.pk}"))
    assert client.get("/notes").content == b"c;b;"
    assert client.get(f"/note/{one.pk}").content == b"c"
    client.post("/wipe")
    assert client.get(f"/note/{two.pk}").content == b"wiped"
    assert client.get("/notes").content == b"wiped;wiped;"


def test_a_template_response_is_stored_rendered() -> None:
    Note.objects.create(text="a")
    client = Client()
    assert client.get("/notes").content == b"a;"
    hit = client.get("/notes")
    assert (hit.content, views.calls["notes"]) == (b"a;", 1)


@pytest.mark.parametrize("kind", views.FORBIDDEN)
def test_never_stored(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    client = Client(raise_request_exception=False)
    for _ in range(2):
        response = client.get(f"/answer/{kind}")
        assert "stored" not in state(response).split("detail")[0]
        assert "detail=" in state(response)
    assert views.calls[kind] == 2
    personal = kind.split("_")[0] in ("session", "user", "cookie", "cookies", "csrf", "message", "messages")
    warnings = [record for record in caplog.records if record.name == "pooling.cache"]
    assert len(warnings) == (1 if personal else 0)
    if personal:
        assert "tests.cache.views.answer touched" in warnings[0].getMessage()


@pytest.mark.parametrize("kind", ["fine", "max-age=60"])
def test_the_rules_do_not_forbid_everything(kind: str) -> None:
    client = Client()
    assert state(client.get(f"/answer/{kind}")) == STORED
    assert "hit" in state(client.get(f"/answer/{kind}"))


@pytest.mark.parametrize("url", ["/mine", "/answer/user"])
def test_two_users_side_by_side_see_their_own_pages(url: str) -> None:
    clients = []
    for name in ("ann", "bob"):
        client = Client()
        client.force_login(User.objects.create_user(name))
        clients.append(client)
    stranger = Client()
    for _ in range(3):
        assert clients[0].get(url).content == b"for ann"
        assert clients[1].get(url).content == b"for bob"
        assert stranger.get(url).content == b"for AnonymousUser"
    assert views.calls["mine" if url == "/mine" else "user"] == (3 if url == "/mine" else 9)
    clients[0].logout()
    assert clients[0].get(url).content == b"for AnonymousUser"


def test_what_is_declared_is_stored_for_each_value() -> None:
    client = Client()
    client.cookies["csrftoken"] = "a" * 32
    for theme in ("dark", "light", ""):
        client.cookies["theme"] = theme
        for kind in ("x", ""):
            for _ in range(2):
                response = client.get("/declared", headers={"X-Kind": kind})
                assert response.content == f"None|{theme}|{kind}|True".encode()
    assert views.calls["declared"] == 6
    session = client.session
    session["name"] = "ann"
    session.save()
    client.cookies["sessionid"] = session.session_key
    assert client.get("/declared").content == b"ann||None|True"
    session["name"] = "eve"
    session.save()
    assert client.get("/declared").content == b"eve||None|True"


def test_a_csrf_token_for_a_visitor_without_a_cookie_is_nobody_elses() -> None:
    first, second = Client().get("/declared"), Client().get("/declared")
    assert "touched csrf" in state(first)
    assert "touched csrf" in state(second)
    assert first.cookies["csrftoken"].value != second.cookies["csrftoken"].value


def test_a_callable_covers_what_it_is_said_to() -> None:
    staff = Client()
    staff.force_login(User.objects.create_user("ann", is_staff=True))
    for _ in range(2):
        assert staff.get("/by_callable").content == b"staff: True"
        assert Client().get("/by_callable").content == b"staff: False"
    assert views.calls["by_callable"] == 2


def test_a_callable_covers_nothing_by_reading_it(caplog: pytest.LogCaptureFixture) -> None:
    def is_staff(request: Any) -> str:
        return str(request.user.is_staff)

    @locked_cache(60, reads=["x"], vary_on=[is_staff])
    def hello(request: Any) -> HttpResponse:
        return HttpResponse(f"Hello {request.user.username}")

    with caplog.at_level(logging.WARNING, "pooling.cache"):
        for name in ("alice", "bob"):
            request = RequestFactory().get("/hello")
            request.user = User(username=name, is_staff=True)
            response = hello(request)
            assert response.content == f"Hello {name}".encode()
            assert "touched user" in state(response)
    assert "is_staff, covers=['user'])" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("user", ["user"]), TypeError),
        ((str, "user"), TypeError),
        ((str, [3]), TypeError),
        ((str, ["usr"]), ValueError),
        ((str, ["cookie:*"]), ValueError),
    ],
)
def test_vary_by_refuses(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        vary_by(arguments[0], covers=arguments[1])


def test_vary_of_the_answer_is_honoured_and_absent_is_not_empty() -> None:
    client = Client()
    for _ in range(2):
        assert client.get("/varying", headers={"X-Kind": "a"}).content == b"kind 'a'"
        assert client.get("/varying", headers={"X-Kind": ""}).content == b"kind ''"
        assert client.get("/varying").content == b"kind None"
    assert views.calls["varying"] == 3


def test_head_takes_the_entry_of_get() -> None:
    client = Client()
    head = client.head("/plain")
    assert "stored" not in state(head)
    body = client.get("/plain").content
    assert body == b"plain 2"
    hit = client.head("/plain")
    assert (hit.content, hit["Content-Length"]) == (b"", str(len(body)))
    assert "hit" in state(hit)


@pytest.mark.parametrize("seconds", [0.0001, 0.00099])
def test_less_than_a_store_can_keep_is_like_zero(seconds: float) -> None:
    view = locked_cache(seconds, reads=["x"])(lambda request: HttpResponse("x"))
    for _ in range(2):
        assert state(view(RequestFactory().get("/"))) == f'pooling; fwd=bypass; detail="timeout {seconds:g}"'


def test_a_millisecond_is_a_time() -> None:
    view = locked_cache(0.001, reads=["x"])(lambda request: HttpResponse("x"))
    assert state(view(RequestFactory().get("/"))) == STORED


def test_zero_and_authorization_bypass() -> None:
    client = Client()
    assert [client.get("/zero").content for _ in range(2)] == [b"zero 1", b"zero 2"]
    assert "fwd=bypass" in state(client.get("/zero"))
    client.get("/plain")
    response = client.get("/plain", headers={"Authorization": "Basic x"})
    assert response.content == b"plain 2"
    assert 'fwd=bypass; detail="request has Authorization"' in state(response)


def test_queries_and_hosts_have_their_own_pages() -> None:
    client = Client()
    bodies = [client.get(url).content for url in ("/plain", "/plain?", "/plain?a=1", "/plain?a=2")]
    bodies += [
        client.get("/plain", headers={"host": "other.example"}).content,
        client.get("/plain", secure=True).content,
    ]
    assert len(set(bodies)) >= 5
    assert bodies[0] != bodies[2] != bodies[3]


@pytest.mark.parametrize("url", ["class", "bare"])
def test_class_based_views(url: str, text: Note, atomic_requests: Any) -> None:
    client = Client()
    first = client.get(f"/{url}/{text.pk}")
    with CaptureQueriesContext(connection) as hit:
        second = client.get(f"/{url}/{text.pk}")
    assert (first.content, len(hit)) == (second.content, 0)
    assert "hit" in state(second)
    client.post(f"/note/{text.pk}", {"text": "two"})
    assert b"two" in client.get(f"/{url}/{text.pk}").content


@pytest.mark.parametrize("url", ["async_note", "async_class"])
async def _async_views(url: str) -> None:
    note = await Note.objects.acreate(text="one")
    client = AsyncClient()
    assert (await client.get(f"/{url}/{note.pk}")).content == b"one"
    assert "hit" in state(await client.get(f"/{url}/{note.pk}"))


@pytest.mark.parametrize("url", ["async_note", "async_class"])
def test_async_views(url: str) -> None:
    from asgiref.sync import async_to_sync

    async_to_sync(_async_views)(url)
    assert sum(views.calls.values()) == 1


def test_async_views_under_the_sync_handler_and_users(text: Note) -> None:
    client = Client()
    client.force_login(User.objects.create_user("ann"))
    for _ in range(2):
        assert client.get("/async_mine").content == b"for ann"
        assert Client().get("/async_mine").content == b"for AnonymousUser"
    assert views.calls["async_mine"] == 2


def test_invalidate_waits_for_the_commit_and_a_rollback_forgets_it(text: Note) -> None:
    client, url = Client(), f"/note/{text.pk}"
    client.get(url)
    with transaction.atomic():
        before = runtime.store().epochs(["D:notes"])
        invalidate("notes")
        assert runtime.store().epochs(["D:notes"]) == before
    assert "fwd=stale" in state(client.get(url))
    with transaction.atomic():
        invalidate("notes")
        transaction.set_rollback(True)
    assert "hit" in state(client.get(url))
    invalidate("notes")
    assert "fwd=stale" in state(client.get(url))
    with locked(writes=["other"]):
        invalidate("notes", using="default")
    assert "fwd=stale" in state(client.get(url))


def test_invalidate_of_a_view_and_bad_groups(text: Note) -> None:
    client, url = Client(), f"/note/{text.pk}"
    client.get(url)
    views.note.invalidate(pk=text.pk + 1)
    assert "hit" in state(client.get(url))
    views.note.invalidate(pk=text.pk)
    assert "fwd=stale" in state(client.get(url))
    for bad in ("", "a//b", "a/", "{x}", 3):
        with pytest.raises(GroupError):
            invalidate(bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        invalidate()


def test_invalidate_of_a_view_takes_its_arguments_without_the_request() -> None:
    asked: list[tuple[Any, ...]] = []

    def shelf(*args: Any, **kwargs: Any) -> list[str]:
        asked.append((*args, *kwargs.values()))
        return ["shelf"]

    @locked_cache(60, reads=["book/{pk}", shelf])
    def view(request: Any, pk: int = 1, lang: str = "en") -> HttpResponse:
        return HttpResponse("")

    def renewed(*args: Any, **kwargs: Any) -> list[str]:
        names = ["D:book/1", "D:book/7", "D:shelf"]
        before = runtime.store().epochs(names)
        view.invalidate(*args, **kwargs)
        after = runtime.store().epochs(names)
        return [name for name, old, new in zip(names, before, after, strict=True) if old != new]

    assert renewed(7) == renewed(pk=7) == renewed(7, "de") == ["D:book/7", "D:shelf"]
    assert renewed() == ["D:book/1", "D:shelf"]
    assert asked == [(None, 7), (None, 7), (None, 7, "de"), (None,)]


def test_not_stored_inside_a_hold_that_may_still_roll_back() -> None:
    request = RequestFactory().get("/plain")
    with locked(writes=["x"]):
        response = views.plain(request)
        assert "inside a lock" in state(response)
        transaction.set_rollback(True)
    assert "fwd=uri-miss; stored" in state(views.plain(request))


@pytest.fixture
def repeatable_read() -> Any:
    settings = connections.settings["default"]
    before = connection.settings_dict["OPTIONS"]
    connection.close()
    options = {**before, "isolation_level": "repeatable read"}
    settings["OPTIONS"] = connection.settings_dict["OPTIONS"] = options
    yield
    connection.close()
    settings["OPTIONS"] = connection.settings_dict["OPTIONS"] = before


def test_in_a_transaction_hits_are_refused_as_misses_are(repeatable_read: None) -> None:
    request = RequestFactory().get("/plain")
    for _ in "miss", "hit":
        with pytest.raises(LockOrderError), transaction.atomic():
            views.plain(request)
        with pytest.raises(LockOrderError), locked(writes=["another"]):
            views.plain(request)
        first = views.plain(request)
    assert "hit" in state(first)
    with locked(reads=["x"]):
        assert "hit" in state(views.plain(request))


@pytest.mark.parametrize("stored", [False, True])
def test_in_a_transaction_async_views_are_refused_too(stored: bool, repeatable_read: None) -> None:
    @locked_cache(60, reads=["x"])
    async def view(request: Any) -> HttpResponse:
        return HttpResponse("page")

    request = RequestFactory().get("/page")
    if stored:
        async_to_sync(view)(request)
        assert "hit" in state(async_to_sync(view)(request))

    async def inside() -> None:
        async with locked(writes=["other"]):
            await view(request)

    with pytest.raises(LockOrderError), transaction.atomic():
        async_to_sync(view)(request)
    with pytest.raises(LockOrderError):
        asyncio.run(inside())


def test_disabled_the_view_just_runs(settings: Any) -> None:
    settings.POOLING = {"ENABLED": False}
    client = Client()
    assert [client.get("/plain").content for _ in range(2)] == [b"plain 1", b"plain 2"]
    assert "Cache-Status" not in client.get("/plain")


def test_key_wrapped_and_no_request() -> None:
    request = RequestFactory().get("/plain")
    assert views.plain.key(request) == views.plain.key(RequestFactory().get("/plain"))
    assert views.plain.key(request) != views.plain.key(RequestFactory().get("/plain?x"))
    assert views.plain.__wrapped__(request).content == b"plain 1"
    with pytest.raises(TypeError, match="method_decorator"):
        views.plain(object())


def test_what_the_middleware_finds_afterwards_is_what_it_left() -> None:
    client = Client()
    response = client.get("/answer/session_set")
    assert response.cookies["sessionid"].value
    assert response["Vary"] == "Cookie"
    assert "Vary" not in client.get("/answer/fine")
    assert Client().get("/answer/csrf").cookies["csrftoken"].value
    assert client.get("/answer/message").status_code == 200
    assert client.get("/answer/messages_template").content == b"hello"
    assert client.get("/answer/messages_template").content == b""


def test_an_exception_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    @locked_cache(300, reads=["x"])
    def broken(request: Any) -> Any:
        raise PoolingError("mine")

    caplog.set_level(logging.INFO)
    for _ in range(2):
        with pytest.raises(PoolingError, match="mine"):
            broken(RequestFactory().get("/"))


def test_invalidate_in_async_code_waits_for_the_commit_and_a_rollback_forgets_it() -> None:
    store = runtime.store()
    epochs = read_epochs(["note"])

    async def changed(*, inner: bool, fail: bool) -> tuple[bool, bool]:
        """Were the epochs renewed before the end of the outer hold, and after it?"""
        before = store.epochs(epochs)
        during = before
        try:
            async with locked(writes=["other"]):
                if inner:
                    async with locked(reads=["other"], using="default"):
                        invalidate("note")
                else:
                    invalidate("note", using="default")
                during = store.epochs(epochs)
                if fail:
                    raise ArithmeticError
        except ArithmeticError:
            pass
        return during != before, store.epochs(epochs) != before

    for inner in (False, True):
        assert asyncio.run(changed(inner=inner, fail=False)) == (False, True)
        assert asyncio.run(changed(inner=inner, fail=True)) == (False, False)


def test_invalidate_in_a_task_that_outlives_the_hold_happens_at_once() -> None:
    store = runtime.store()
    epochs = read_epochs(["note"])

    async def main() -> bool:
        over = asyncio.Event()

        async def later() -> None:
            await over.wait()
            invalidate("note")

        async with locked(writes=["other"]):
            task = asyncio.create_task(later())
        before = store.epochs(epochs)
        over.set()
        await task
        return store.epochs(epochs) != before

    assert asyncio.run(main())
