"""What the manual's examples are for: each page's are used as a reader would use them. Runs in `tests.docs.site`."""

from __future__ import annotations

import asyncio
import threading
import unittest
from collections.abc import Callable
from types import ModuleType
from typing import Any

from django.contrib.auth.models import User
from django.db import connections
from django.http import HttpResponse
from django.test import RequestFactory
from shop.models import Account, Event  # type: ignore[import-not-found]

USES: dict[str, Callable[[Any], None]] = {}


def uses(page: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    def remember(function: Callable[[Any], None]) -> Callable[[Any], None]:
        def clean(module: ModuleType) -> None:
            for model in (Event, Account, User):
                model.objects.all().delete()
            function(module)

        USES[page] = clean
        return function

    return remember


def request(method: str = "get", user: Any = None, **data: Any) -> Any:
    made = getattr(RequestFactory(), method)("/", data)
    made.user = user
    return made


def text(response: Any) -> str:
    assert isinstance(response, HttpResponse)
    assert response.status_code == 200, response.content
    return response.content.decode()


def status(response: Any) -> str:
    return str(response["Cache-Status"])


def visitor(name: str, balance: int) -> tuple[User, Account]:
    user = User.objects.create(username=name)
    return user, Account.objects.create(owner=user, balance=balance)


@uses("README.md")
def readme(page: Any) -> None:
    assert page.event.key(request(), event_id=7)
    assert page.own_account(request(user=User(pk=3))) == ["accounts/3"]


@uses("docs/quickstart.md")
def quickstart(page: Any) -> None:
    user, account = visitor("ada", 15)
    event = Event.objects.create(title="Concert")
    assert text(page.event(request(), event_id=event.pk)) == "Concert: 5 seats left"
    again = page.event(request(), event_id=event.pk)
    assert "; hit" in status(again)
    assert text(page.book(request("post", user), event_id=event.pk)) == "Booked"
    assert text(page.event(request(), event_id=event.pk)) == "Concert: 4 seats left"
    account.refresh_from_db()
    assert account.balance == 5
    assert page.book(request("post", user), event_id=event.pk).status_code == 409


@uses("docs/howto/groups.md")
def groups(page: Any) -> None:
    (ada, adas), (bob, bobs) = visitor("ada", 15), visitor("bob", 0)
    event = Event.objects.create(title="Concert", slug="concert")

    def listed() -> str:
        return text(page.events(request()))

    assert listed() == "Concert"
    page.rename(request("post", title="Ballet"), event_id=event.pk)
    assert listed() == "Ballet"
    page.rate(request("post"), event.pk)
    page.close(request("post"), "concert")
    event.refresh_from_db()
    assert (event.rating, event.seats_left) == (5, 0)
    assert text(page.balance(request(user=ada))) == "15"
    assert text(page.balance(request(user=bob))) == "0"
    assert text(page.pay(request("post", ada, amount="10"), target=bob.pk)) == "Paid"
    assert text(page.balance(request(user=bob))) == "10"
    page.move(bob.pk, ada.pk, 3)
    page.settle(ada.pk)
    text(page.Close.as_view()(request("post"), pk=bob.pk))
    for account in (adas, bobs):
        account.refresh_from_db()
        assert account.balance == 0
    # Through the admin, which declares nothing.
    from django.contrib.admin import site

    event.title = "Opera"
    assert listed() == "Ballet"
    page.EventAdmin(Event, site).save_model(request("post"), event, None, True)
    assert listed() == "Opera"
    # Somebody is kept waiting.
    asked = request("post")
    asked.resolver_match = type("Match", (), {"view_name": "rename"})
    page.busy.send(sender=page.LockTimeout, request=asked, error=page.LockTimeout("…"))
    assert page.waited_in_vain == {"rename": 1}


@uses("docs/howto/pool.md")
def pool(page: Any) -> None:
    Event.objects.count()
    assert page.report().startswith("1 of 8 busy")
    assert page.database() == "secret"
    moved: list[str] = []
    page.switch(lambda: moved.append("moved"))
    assert moved
    assert Event.objects.count() == 0


@uses("docs/howto/servers.md")
def servers(page: Any) -> None:
    event = Event.objects.create(title="Concert")

    async def visit() -> None:
        assert text(await page.events(request())) == "Concert"
        assert "; hit" in status(await page.events(request()))
        assert text(await page.sell_one(request("post"), event_id=event.pk)) == "4"
        assert "; hit" not in status(await page.events(request()))

    asyncio.run(visit())
    assert page.refund.apply(args=[event.pk]).get() == 5


@uses("docs/howto/migrating.md")
def migrating(page: Any) -> None:
    from django_redis import get_redis_connection

    event = Event.objects.create(title="Concert")
    for view in (page.event_before, page.event):
        assert text(view(request(), event_id=event.pk)) == "Concert"
    client = get_redis_connection()
    for left, sell in (
        (3, lambda: page.sell_with_redis_py(client, event.pk)),
        (2, lambda: page.sell_with_python_redis_lock(client, event.pk)),
        (1, lambda: page.sell_with_django_redis(event.pk)),
        (0, lambda: page.sell(event.pk)),
    ):
        sell()
        event.refresh_from_db()
        assert event.seats_left == left


@uses("docs/howto/status.md")
def status_page(page: Any) -> None:
    from django.test import Client, override_settings
    from django.urls import resolve

    user = User.objects.create(username="olga", is_staff=True)
    user.groups.add(page.make_operators())
    assert user.has_perm("pooling.operate")

    class Signed:
        """The site of the manual has no sessions to sign in with."""

        def get(self, path: str) -> Any:
            return resolve(path).func(request(user=user))

    with override_settings(ROOT_URLCONF="shop.urls"):
        assert page.longest_wait(Signed()) == 0.0
        assert Client().get("/pooling/health/ready/").json() == {"status": "ok"}
        assert Client().get("/pooling/status.json").status_code == 403


@uses("docs/howto/testing.md")
def testing(page: Any) -> None:
    from django.test import override_settings
    from django.test.utils import setup_test_environment

    connections.close_all()
    setup_test_environment()
    with override_settings(ROOT_URLCONF=page.__name__):
        page.check_events()
    suite = unittest.defaultTestLoader.loadTestsFromModule(page)
    result = unittest.TextTestRunner().run(suite)
    assert result.wasSuccessful()
    assert result.testsRun == 6


@uses("docs/howto/monitoring.md")
def monitoring(page: Any) -> None:
    import shop  # type: ignore[import-not-found]
    from prometheus_client import REGISTRY

    from pooling.contrib.opentelemetry import uninstrument

    uninstrument()
    page.ShopConfig("shop", shop).ready()
    Event.objects.count()
    view = page.urlpatterns[0].callback
    sent = RequestFactory().get("/metrics", headers={"Authorization": "Bearer for the tests only"})
    assert 'pooling_pool_connections{pool="default",state="busy"} 1.0' in text(view(sent))
    assert view(RequestFactory().get("/metrics")).status_code == 401
    assert REGISTRY.get_sample_value("pooling_store_up", {"kind": "redis"}) == 1


@uses("docs/operations.md")
def operations(page: Any) -> None:
    from pooling import locked

    assert page.oldest_holder() == 0.0
    with locked(writes=["accounts/7"], atomic=False):
        held = threading.Event()
        assert not held.wait(0.01)
        assert page.oldest_holder() > 0.0


@uses("docs/replicas.md")
def replicas(page: Any) -> None:
    """The rest, on a writer and a replica that replicate: tests/backend/test_replicas.py."""
    assert page.ReplicaRouter().db_for_write(Event) == "default"
