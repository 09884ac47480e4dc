"""The header Server-Timing: who gets it, and what is in it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import connection
from django.test import AsyncClient, Client

from pooling import moments
from pooling.moments import Answered, Checkout, LockHeld, LockWaited, PageAwaited, PageMade
from pooling.server_timing import ServerTimingMiddleware, metrics
from tests.app.models import Account, Note

from .site import SECRET

pytestmark = pytest.mark.django_db(transaction=True)
# Of the specification: metrics of tokens, their parameters quoted or tokens.
ENTRY = re.compile(r'[\w-]+(;dur=\d+\.\d+|;desc="[a-z]+")+')


class Insiders(ServerTimingMiddleware):
    def may_be_seen(self, request: Any) -> bool:
        return True

    def may_see(self, request: Any) -> bool:
        return str(request.META["REMOTE_ADDR"]).startswith("10.")


@pytest.fixture(autouse=True)
def site(settings: Any) -> None:
    settings.DEBUG = True
    settings.MIDDLEWARE = ["pooling.server_timing.ServerTimingMiddleware", *settings.MIDDLEWARE]


def names(response: Any) -> list[str]:
    entries = response["Server-Timing"].split(", ")
    for entry in entries:
        assert ENTRY.fullmatch(entry), entry
    return [entry.split(";")[0] for entry in entries]


def staff(**more: Any) -> Client:
    client = Client()
    client.force_login(User.objects.create(username="ada", is_staff=True, **more))
    return client


def test_a_page_that_is_made_and_its_hit() -> None:
    note = Note.objects.create(text=SECRET)
    response = Client().get(f"/note/{note.pk}/")
    assert names(response) == ["pool", "cache", "compute"]
    assert 'cache;desc="miss"' in response["Server-Timing"]
    hit = Client().get(f"/note/{note.pk}/")
    assert hit["Server-Timing"] == 'cache;desc="hit"'


def test_it_goes_behind_a_header_that_is_there_and_says_nothing_of_nothing() -> None:
    assert Client().get("/quiet/")["Server-Timing"] == 'app;dur=1.0;desc="ours"'
    account = Account.objects.create()
    response = Client().get(f"/pay/{account.pk}/")
    assert names(response) == ["pool"]


def test_what_was_merged_is_both(monkeypatch: pytest.MonkeyPatch) -> None:
    from . import site

    def both(request: Any) -> Any:
        moments.tell(Answered("v", ("hit",)))
        return site.quiet(request)

    monkeypatch.setattr(site.urlpatterns[4], "callback", both)
    assert Client().get("/quiet/")["Server-Timing"] == 'app;dur=1.0;desc="ours", cache;desc="hit"'


def test_async() -> None:
    async def visit() -> Any:
        return await AsyncClient().get("/anote/")

    assert names(async_to_sync(visit)()) == ["pool", "cache", "compute"]


@pytest.mark.parametrize("who", ["nobody", "visitor", "staff", "inactive staff"])
def test_without_debug_only_staff_sees_it(who: str, settings: Any) -> None:
    settings.DEBUG = False
    client = Client()
    if who != "nobody":
        user = User.objects.create(username="ada", is_staff="staff" in who, is_active="inactive" not in who)
        client.force_login(user)
    connection.close()
    assert ("Server-Timing" in client.get("/whoami/")) is (who == "staff")


def test_it_asks_for_no_user_itself(settings: Any, django_assert_num_queries: Any) -> None:
    settings.DEBUG = False
    note = Note.objects.create(text="a")
    client = staff()
    client.get(f"/note/{note.pk}/")
    with django_assert_num_queries(0):
        response = client.get(f"/note/{note.pk}/")
    assert "Server-Timing" not in response
    assert "Vary" not in response


def test_a_rule_of_ones_own(settings: Any) -> None:
    settings.DEBUG = False
    settings.MIDDLEWARE = [f"{__name__}.Insiders", *settings.MIDDLEWARE[1:]]
    assert "Server-Timing" in Client().get("/whoami/", REMOTE_ADDR="10.0.0.7")
    assert "Server-Timing" not in Client().get("/whoami/", REMOTE_ADDR="192.0.2.1")


def test_visitors_that_cannot_be_of_staff_are_not_measured(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DEBUG = False

    def unexpected(*args: Any) -> None:
        raise AssertionError("told")

    monkeypatch.setattr(moments, "tell", unexpected)
    monkeypatch.setattr(moments, "checkout", unexpected)
    note = Note.objects.create(text="a")
    assert Client().get(f"/note/{note.pk}/").status_code == 200


def test_an_error_of_the_view_ends_the_recording() -> None:
    response = Client(raise_request_exception=False).get("/fails/")
    assert response.status_code == 500
    assert moments._write not in moments.listeners
    assert SECRET not in response["Server-Timing"]


def test_times_add_up_by_what_was_waited_for() -> None:
    found = metrics(
        [
            Checkout("default", 0.0015),
            Checkout("other", 0.0005, waited=True),
            LockWaited("v", (), ("a",), 0.25),
            PageAwaited("v", 0.125),
            LockHeld("v", (), ("a",), 0.25, 9.0),
            PageMade("v", 0.5, True),
            Answered("v", ("fwd=stale", "stored")),
            Answered("w", ("hit", "ttl=3")),
        ]
    )
    assert found == ["pool;dur=2.0", "lock;dur=375.0", 'cache;desc="miss"', 'cache;desc="hit"', "compute;dur=500.0"]
