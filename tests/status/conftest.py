"""People who look at the status page, and fleets for them to see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from pooling import runtime
from pooling.locks import stats as lock_stats
from pooling.status import actions, fleet, views

from .. import stores

Show = Callable[..., None]


@pytest.fixture(autouse=True)
def nothing_counted() -> None:
    """Else the groups of other tests are in front of a test's own."""
    lock_stats.process.start_over()


@pytest.fixture
def site(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.status.site_urls"


def person(name: str, *, staff: bool = True, operator: bool = False) -> Client:
    user = User.objects.create_user(name, is_staff=staff)
    if operator:
        user.user_permissions.add(Permission.objects.get(content_type__app_label="pooling", codename="operate"))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def staff(site: None, transactional_db: None) -> Client:
    """May look, and no more."""
    return person("stan")


@pytest.fixture
def olga(site: None, transactional_db: None) -> Client:
    """An operator."""
    return person("olga", operator=True)


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Show:
    """``show(document, …, parties=[…])``: the page has this fleet in front of it."""

    def put(*documents: dict[str, Any], parties: Any = (), **options: Any) -> None:
        made = fleet.together(documents, list(parties), **options)
        for module in (views, actions):
            monkeypatch.setattr(module, "look", lambda: made)

    return put


@pytest.fixture
def redis_store(settings: Any, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Iterator[None]:
    """The site's store is an empty Redis."""
    stores.use("redis", settings, monkeypatch, redis_url)
    yield
    runtime.reset_runtime()
