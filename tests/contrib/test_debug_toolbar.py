"""The panel, in the real toolbar on the test site."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.template.loader import render_to_string
from django.test import AsyncClient, Client, override_settings

from pooling import moments
from pooling.moments import LockHeld, LockWaited, Recording
from tests.app.models import Account, Note

from . import site
from .site import SECRET

pytestmark = pytest.mark.django_db(transaction=True)
PANEL = "pooling.contrib.debug_toolbar.PoolingPanel"


@pytest.fixture(autouse=True)
def toolbar(fresh: None, settings: Any) -> Iterator[None]:
    with override_settings(
        INSTALLED_APPS=[*settings.INSTALLED_APPS, "debug_toolbar"],
        DEBUG_TOOLBAR_PANELS=[PANEL],
        DEBUG_TOOLBAR_CONFIG={"SHOW_TOOLBAR_CALLBACK": f"{__name__}.always"},
        MIDDLEWARE=["debug_toolbar.middleware.DebugToolbarMiddleware", *settings.MIDDLEWARE],
        ROOT_URLCONF="tests.contrib.toolbar_urls",
    ):
        yield


def always(request: Any) -> bool:
    return True


def shown(response: Any) -> tuple[str, str]:
    """The panel's line in the side bar, and its content, both as text."""
    page = response.content.decode()
    (number,) = re.findall(r'data-request-id="(\w+)"', page)
    side = re.search(r'id="djdt-PoolingPanel".*?</li>', page, re.DOTALL)
    assert side, page
    content = Client().get("/__debug__/render_panel/", {"request_id": number, "panel_id": "PoolingPanel"})
    return text(side[0]), text(content.json()["content"])


def text(markup: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", markup)).split())


def test_a_page_that_is_made_and_its_hit() -> None:
    note = Note.objects.create(text=SECRET)
    side, content = shown(Client().get(f"/note/{note.pk}/"))
    assert "Pooling" in side
    assert "cache miss" in side
    assert re.search(r"miss tests\.contrib\.site\.note fwd=uri-miss; stored — — [\d.]+ ms", content), content
    assert re.search(rf"0\.00 ms [\d.]+ ms tests\.contrib\.site\.note notes/{note.pk} —", content), content
    assert re.search(r"default [\d.]+ ms at once", content), content
    side, content = shown(Client().get(f"/note/{note.pk}/"))
    assert "0.0 ms waited, cache hit" in side
    assert "Connections" not in content
    assert "hit; ttl=" in content


def test_an_error_of_the_view_ends_the_recording() -> None:
    assert Client(raise_request_exception=False).get("/fails/").status_code == 500
    assert moments._write not in moments.listeners


def test_groups_with_markup_in_them_are_text() -> None:
    from pooling.contrib.debug_toolbar import stats_of  # the toolbar can be imported only where it is installed

    with Recording() as recording:
        moments.tell(LockHeld("v", ("<script>/1",), (), 0.5, 0.25))
        moments.tell(LockWaited("w", (), ("a",), 2.0, granted=False))
        moments.tell(LockWaited("w", (), ("a",), 2.0, granted=True))  # it will be told when it ends
    stats = stats_of(recording)
    assert [lock["held"] for lock in stats["locks"]] == [250.0, None]
    assert stats["waited"] == 2500.0
    content = render_to_string("pooling/debug_toolbar.html", stats)
    assert "&lt;script&gt;/1" in content
    assert "in vain" in content


def test_a_request_that_asks_for_nothing(settings: Any) -> None:
    settings.MIDDLEWARE = settings.MIDDLEWARE[:1]
    site.urlpatterns[4].callback = lambda request: site.html("nothing")
    try:
        _, content = shown(Client().get("/quiet/"))
    finally:
        site.urlpatterns[4].callback = site.quiet
    assert "asked for no connection, no group and no cached page" in content


def test_under_asgi() -> None:
    async def visit() -> Any:
        return await AsyncClient().get("/anote/")

    _, content = shown(async_to_sync(visit)())
    assert "tests.contrib.site.anote" in content
    assert "fwd=uri-miss" in content


def test_nothing_secret_is_shown() -> None:
    account = Account.objects.create(name=SECRET)
    client = Client()
    client.cookies["theme"] = SECRET
    side, content = shown(client.get(f"/pay/{account.pk}/?token={SECRET}"))
    assert f"rates accounts/{account.pk}" in content
    assert SECRET not in side + content
    assert "SELECT" not in content
    assert "/pay/" not in content
