"""The status page: who may see it, what stands there, and what must never stand there."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from pooling import locked
from pooling.cache.stats import CacheStats
from pooling.groups import Mode
from pooling.status import here, threads
from pooling.status.recent import recent
from pooling.store.protocol import Party

from .conftest import Show, person
from .documents import document, group, histogram, pool

PAGES = ("/ops/pooling/", "/ops/pooling/part/")
EVIL = "<img src=x onerror=alert(1)>\"'&"


def text(client: Client, path: str = "/ops/pooling/", **query: str) -> str:
    answer = client.get(path, query)
    assert answer.status_code == 200, answer.content[:500]
    return answer.content.decode()


def words(page: str) -> str:
    """What people read of it."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))


def holds(group: str, ticket: str = "t1", seconds: float = 94.2, holding: bool = True, **owner: str) -> Party:
    about = {"view": "shop.views.book", "host": "web", "pid": "7", "thread": "worker 3", **owner}
    return Party(ticket, ((group, Mode.X),), about, seconds, holding)


# -- who may see it


@pytest.mark.parametrize("path", PAGES)
def test_strangers_are_led_to_the_login_and_others_are_refused(path: str, site: None, transactional_db: None) -> None:
    answer = Client().get(path + "?q=a")
    assert (answer.status_code, answer.headers["Location"]) == (
        302,
        f"/admin/login/?next={path.replace('/', '%2F')}%3Fq%3Da",
    )
    assert person("vera", staff=False).get(path).status_code == 403


def test_a_member_of_the_staff_who_was_locked_out_is_no_member(staff: Client) -> None:
    User.objects.filter(username="stan").update(is_active=False)
    assert staff.get("/ops/pooling/").status_code == 302


def test_programs_get_no_page_to_sign_in(site: None, transactional_db: None) -> None:
    for client in (Client(), person("vera", staff=False)):
        answer = client.get("/ops/pooling/status.json")
        assert (answer.status_code, list(answer.json())) == (403, ["error"])


def test_nobody_keeps_it_and_nothing_is_posted_to_it(staff: Client) -> None:
    for path in (*PAGES, "/ops/pooling/status.json"):
        assert "no-store" in staff.get(path).headers["Cache-Control"]
        assert staff.post(path).status_code == 405
        assert staff.head(path).status_code == 200


def test_under_atomic_requests_it_opens_no_transaction(staff: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    found: list[bool] = []
    monkeypatch.setattr("pooling.status.views.shown", lambda *a: found.append(connection.in_atomic_block) or {})
    monkeypatch.setattr("pooling.status.views._fences", lambda *a: None)
    staff.get("/ops/pooling/part/")
    assert found == [False]


# -- where it is


def test_the_index_of_the_admin_leads_there(staff: Client) -> None:
    assert 'href="/admin/pooling/status/"' in text(staff, "/admin/")
    assert staff.get("/admin/pooling/status/").headers["Location"] == "/ops/pooling/"
    assert 'href="/admin/pooling/status/"' in text(staff, "/admin/pooling/")
    page = text(staff)
    assert 'id="site-name"' in page
    assert "admin/css/base.css" in page


def test_without_its_path_the_index_does_not_speak_of_it(settings: Any, staff: Client) -> None:
    settings.ROOT_URLCONF = "tests.status.admin_urls"
    assert "pooling/status" not in text(staff, "/admin/")


@pytest.mark.parametrize("installed", [False, True])
def test_without_an_admin_it_stands_alone(installed: bool, settings: Any, transactional_db: None) -> None:
    settings.ROOT_URLCONF = "tests.status.bare_urls"
    settings.LOGIN_URL = "/sign-in/"
    if not installed:
        settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django.contrib.admin"]
    assert Client().get("/pooling/").headers["Location"] == "/sign-in/?next=%2Fpooling%2F"
    client = person("olga", operator=True)
    page = text(client, "/pooling/")
    assert "admin" not in page
    assert "<h1>Pooling</h1>" in page
    # Nobody else serves these: `staticfiles` is not installed.
    for name, kind in (("status.css", "text/css"), ("status.js", "text/javascript")):
        assert f'"/pooling/static/{name}"' in page
        answer = client.get(f"/pooling/static/{name}")
        assert (answer.status_code, answer.headers["Content-Type"].split(";")[0]) == (200, kind)
    assert client.get("/pooling/static/status.py").status_code == 404
    assert 'name="csrfmiddlewaretoken"' in text(client, "/pooling/invalidate/", group="events")


def test_static_files_come_from_where_the_site_keeps_them(settings: Any, staff: Client) -> None:
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django.contrib.staticfiles"]
    assert 'href="/static/pooling/status.css"' in text(staff)


def test_a_strict_policy_forbids_nothing_that_is_there(olga: Client, show: Show) -> None:
    """No script or style stands in the page itself, and nothing comes from elsewhere."""
    show(*fleet())
    for path in (*PAGES, "/ops/pooling/invalidate/?group=a"):
        page = text(olga, path)
        assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
        assert re.findall(r"<style|\sstyle=|\son\w+=", page) == []
        assert re.findall(r'(?:src|href)="(?:https?:)?//', page) == []


# -- what stands there


def fleet() -> list[dict[str, Any]]:
    """Two processes, one of which has trouble."""
    holder = {"thread": "worker 3", "view": "shop.views.book", "seconds": 12.5, "stack": ["shop/views.py:12 in book"]}
    other = {"thread": "worker 4", "view": "", "seconds": 0.2, "stack": []}
    return [
        document(
            1,
            pools=[pool(busy=2, waiting=3, max=2, holders=[holder, other], wait=histogram(0.5, 2.0, zeros=2))],
            groups=[group("events/7", waits=(3.0, 5.0), holds=(0.1, 0.2)), group("accounts/{*}", waits=(2.0,))],
            cache={
                "views": [
                    CacheStats(
                        "shop.views.event", hits=97, misses=3, computed=3, compute_seconds=6.0, stored=2,
                        stored_bytes=5000, not_stored={"Set-Cookie": 1}, waits=4, wait_seconds=8.0,
                    ).as_dict()
                ],
                "near": {"entries": 12, "bytes": 1000, "limit": 4000},
            },
            errors=[
                {"at": 100.0, "kind": "PoolTimeout", "level": "warning", "text": "none", "view": "v", "count": 3},
            ],
            history={
                **{"every": 5.0, "columns": list(here.COLUMNS)},
                "rows": [[10, 1, 2, 5, 20, 10, 0], [50, 0, 3, 0, 40, 5, 1]],
            },
        ),
        document(2, pools=[pool(state="down", size=0, idle=0, busy=0, error="OperationalError: 2003")]),
    ]  # fmt: skip


def test_all_of_the_fleet_is_there(olga: Client, show: Show) -> None:
    show(*fleet(), parties=[holds("events/7", pid="1"), holds("events/7", "t2", 8.1, holding=False)])
    page = words(text(olga))
    missing = []
    for expected in (
        "3 things to see to Pool 'default' of process web:1:abc: all 2 connections are in use, 3 wait",
        "holds 1 min 34 s shop.views.book web pid 1, worker 3 Where it is now shop/views.py:12 in book writes events/7",
        "waits 8.1 s shop.views.book web pid 7, worker 3 writes events/7",
        "default down web 2 db:3306/shop OperationalError: 2003 0 of 8",
        "default up web 1 db:3306/shop 2 of 2 5 open, 3 idle 3 0 ms, 1.8 s 0 checkouts",
        "12 s: shop.views.book worker 3 Where it is now shop/views.py:12 in book 1 more 200 ms: unnamed code",
        "1 events/7 1 holds 1 waits 80 %",
        "2 accounts/{*} free 20 %",
        "shop.views.event 97 % of 100; 0 as 304 3 min 14 s 2 4.9 KiB 1 × Set-Cookie 4 8.0 s 0",
        "01 Jan 00:01:40 3 times PoolTimeout warning none web 1 v",
        "web 1 gunicorn Python 3.12.1, Django 5.2, pooling 0.1.0 1 min 39 s redis, up 1.0 KiB of 3.9 KiB; 12 pages",
        "Checkouts per second up to 10 last 5.0 s checkouts 10",
        "Processes 2 Connections 2 in use, of 5 open",
    ):
        if expected not in page:
            missing.append(expected)
    assert missing == [], page
    assert page.index("default down") < page.index("default up")
    assert page.count("Invalidate…") == 2  # that of events/7, and the form: nobody can invalidate a fold


def test_all_is_well(staff: Client, show: Show) -> None:
    show(document(1))
    page = words(text(staff))
    for expected in ("All is well.", "Nobody holds or waits for anything.", "No group was asked for yet."):
        assert expected in page


def test_a_process_without_a_request_and_the_store_in_memory(staff: Client) -> None:
    page = words(text(staff))
    assert "This process is well; how others are is not known." in page
    assert "POOLING['CACHE_ALIAS'] names the store in memory, so only this process is seen" in page
    assert "All is well" not in page
    assert "memory, up" in page
    assert "In all…" not in page
    found = json.loads(text(staff, "/ops/pooling/status.json"))
    assert (found["shared"], len(found["processes"])) == (False, 1)
    assert (found["state"], found["problems"]) == ("unknown", [])


def test_who_develops_with_one_process_gets_a_hint(staff: Client, settings: Any) -> None:
    settings.DEBUG = True
    page = words(text(staff))
    assert "All is well. POOLING['CACHE_ALIAS'] names the store in memory, so only this process is seen" in page
    assert json.loads(text(staff, "/ops/pooling/status.json"))["state"] == "well"


def test_where_nobody_publishes_only_this_process_is_seen(staff: Client, settings: Any, redis_store: None) -> None:
    settings.POOLING = {"PUBLISH_SECONDS": 0}
    assert "how others are is not known. POOLING['PUBLISH_SECONDS'] is 0, so no process says" in words(text(staff))


def test_a_store_that_is_down(staff: Client, show: Show) -> None:
    show(document(1), store_error="Redis at 127.0.0.1:6379 does not answer.")
    page = words(text(staff))
    assert "1 thing to see to The store cannot be asked: Redis at 127.0.0.1:6379 does not answer." in page
    assert "Not known: the store cannot be asked." in page


def test_a_thousand_groups_are_fifty_and_a_search(staff: Client, show: Show) -> None:
    many = [group(f"events/{number}", waits=(number / 1000,)) for number in range(1, 1001)]
    parties = [holds(f"accounts/{number}", f"t{number}") for number in range(60)]
    show(document(1, groups=many), parties=parties)
    page = text(staff)
    assert page.count("<tr id=") == 50 + 50 + 1 + 1  # groups, parties, a pool, a process
    assert "50 of 1060." in words(page)
    assert "50 of 60." in words(page)
    found = words(text(staff, q="events/999"))
    assert " events/999 free" in found
    assert "events/998" not in found
    assert "Nobody that has “events/999” in it." in found
    assert " accounts/59 " in words(text(staff, "/ops/pooling/part/", q="ACCOUNTS/59 book"))


def test_whoever_searches_for_a_group_is_told_who_is_in_its_way(staff: Client) -> None:
    with locked(writes=["events"], atomic=False):
        assert "writes events" in words(text(staff, q="events/7"))
        assert "Nobody that has “accounts/7” in it." in words(text(staff, q="accounts/7"))


def test_groups_that_were_never_counted_are_there_while_they_are_held(staff: Client) -> None:
    with locked(writes=["fresh/1"], atomic=False):
        page = words(text(staff, q="fresh"))
        assert "fresh/1 1 holds 0 wait not counted yet" in page
    assert "fresh/1 free" in words(text(staff, q="fresh"))


def test_a_page_that_is_being_made_is_called_so(staff: Client, show: Show) -> None:
    show(document(1), parties=[holds("//shop.views.event/7")])
    page = words(text(staff))
    assert "writes a page that is being made" in page
    assert "No group was asked for yet." in page


def test_newest_fences(staff: Client, settings: Any, redis_store: None) -> None:
    with locked(writes=["events/7"]) as held:
        token = held.fence
    assert str(token) in words(text(staff, q="events/7"))
    settings.POOLING = {"FENCE": False}
    assert "Fence claimed" not in text(staff)


# -- what must not stand there


def test_names_with_html_in_them_are_text_everywhere(olga: Client, show: Show) -> None:
    holder = {"thread": EVIL, "view": EVIL, "seconds": 9, "stack": [EVIL]}
    shown_pool = pool(EVIL, server=EVIL, state=EVIL, error=EVIL, holders=[holder, holder])
    shown_error = {"at": 100.0, "kind": EVIL, "level": EVIL, "text": EVIL, "view": EVIL, "count": 2}
    stats = CacheStats(EVIL, hits=1, not_stored={EVIL: 2}).as_dict()
    found = document(
        1, EVIL, pools=[shown_pool], groups=[group(EVIL, waits=(1.0,))], errors=[shown_error],
        cache={"views": [stats], "near": {"entries": 0, "bytes": 0, "limit": 1}},
        store={"kind": EVIL, "shared": True, "state": EVIL, "error": EVIL},
    )  # fmt: skip
    found["process"]["program"] = EVIL
    show(found, parties=[holds(EVIL, EVIL, view=EVIL, label=EVIL, host=EVIL, thread=EVIL, trace=EVIL)])
    for path in PAGES:
        for query in ({}, {"q": "<img"}, {"q": EVIL}):
            page = text(olga, path, **query)
            assert "&lt;img" in page
            assert "<img" not in page
            assert "onerror=alert(1)>" not in page
    answer = olga.get("/ops/pooling/status.json")
    assert b"<" not in answer.content
    assert answer.json()["groups"][0]["group"] == EVIL
    for path, query in (
        ("drain", {"pool": EVIL}),
        ("invalidate", {"group": "{" + EVIL}),
        ("invalidate", {"group": EVIL}),
    ):
        assert b"<img" not in olga.get(f"/ops/pooling/{path}/", query).content


SECRETS = ("s3cret-parameter", "s3cret-password", "s3cret-cookie", "s3cret-session", "s3cret-query")


def test_nothing_secret_is_told(
    olga: Client, settings: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither parameters of SQL, nor passwords, cookies, sessions or what a request asked for."""
    from tests.status import secretive

    recent.start_over()
    monkeypatch.setattr(here, "WORTH_A_STACK", 0.0)
    monkeypatch.setattr(threads, "DEPTH", 500)  # the page is made further in
    settings.ROOT_URLCONF = "tests.status.secretive"
    settings.MIDDLEWARE = ["pooling.middleware.BusyMiddleware", *settings.MIDDLEWARE]
    olga.cookies["token"] = "s3cret-cookie"
    pages: list[str] = []
    monkeypatch.setattr(
        secretive, "look", lambda: pages.extend(text(olga, path) for path in (*PAGES, "/ops/pooling/status.json"))
    )
    olga.get("/slow/?token=s3cret-query", headers={"authorization": "Basic s3cret-password"})
    olga.get("/fails/?token=s3cret-query", headers={"authorization": "Basic s3cret-password"})
    assert len(pages) == 6
    assert "status/secretive.py:" in pages[0]
    assert "secretive.slow" in pages[0]  # it was at work, and held the group
    pages += [text(olga, path) for path in (*PAGES, "/ops/pooling/status.json")]
    assert "PoolTimeout" in pages[-1]
    assert "PoolTimeout" in pages[-3]
    pages += [record.getMessage() for record in caplog.records if record.name.startswith("pooling")]
    for page in pages:
        assert [secret for secret in SECRETS if secret in page] == []
    recent.start_over()
