"""The status page, looked at while the site is busy."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import MySQLdb
import pytest
from playwright.sync_api import Page, Route, expect

from demo_site.people import PEOPLE
from tests.demo.site import Site

from .conftest import Visit
from .pages import STAFF

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"


@pytest.fixture
def stuck(site: Site) -> Iterator[Callable[[], None]]:
    """Somebody sends money and gets no further, since his row is locked; a second one waits for him. Call it to end
    that."""
    alice, carol = (site.signed_in(PEOPLE[at]) for at in (0, 2))
    with MySQLdb.connect(
        host=os.environ["POOLING_DB_HOST"],
        port=int(os.environ["POOLING_DB_PORT"]),
        user=os.environ["POOLING_DB_USER"],
        password=os.environ["POOLING_DB_PASSWORD"],
        database=site.env["DEMO_DB_NAME"],
    ) as server:
        cursor = server.cursor()
        server.query("BEGIN")
        cursor.execute("SELECT user_id FROM boxoffice_account WHERE user_id IN (%s) FOR UPDATE", [alice.friends[0]])
        threads = [
            threading.Thread(
                target=one.request, args=("POST", "/transfer/", [("to", alice.friends[0]), ("amount", "1.00")])
            )
            for one in (alice, carol)
        ]
        ended = threading.Event()

        def end() -> None:
            if not ended.is_set():
                ended.set()
                server.rollback()
                for thread in threads:
                    thread.join(60)

        for thread in threads:
            thread.start()
        try:
            yield end
        finally:
            end()
            alice.leave()
            carol.leave()


def opened(visit: Visit, **options: Any) -> Page:
    page = visit(STAFF, **options)
    page.goto("/pooling/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Pooling")
    return page


def test_from_the_index_of_the_admin_and_from_the_site(visit: Visit) -> None:
    page = visit(STAFF)
    page.goto("/admin/")
    page.get_by_role("link", name="Status", exact=True).click()
    page.wait_for_url("**/pooling/")
    page.goto("/account/")
    page.get_by_role("link", name="Status").click()
    page.wait_for_url("**/pooling/")
    alice = visit("alice")
    alice.goto("/account/")
    expect(alice.get_by_role("link", name="Status")).to_have_count(0)


def test_it_moves_while_the_site_works(visit: Visit, site: Site, pictures: Path) -> None:
    page = opened(visit)
    views = page.get_by_role("region", name="Cached views")
    page.evaluate("window.stays = document.querySelector('#p-head')")
    visitors = [site.signed_in(name) for name in PEOPLE[:4]]
    done = threading.Event()

    def act(visitor: Any) -> None:
        while not done.is_set():
            visitor.act()
        visitor.leave()

    threads = [threading.Thread(target=act, args=(visitor,)) for visitor in visitors]
    for thread in threads:
        thread.start()
    try:
        row = views.get_by_role("row", name=re.compile(r"boxoffice\.views\.events"))
        expect(row).to_be_visible()
        before = row.inner_text()
        expect(row).not_to_have_text(before, use_inner_text=True)
        expect(page.get_by_role("region", name="Groups").locator("svg.histogram .bar").first).to_be_visible()
        expect(page.locator("svg polyline").first).to_be_visible()
        for width in (1280, 380):
            page.set_viewport_size({"width": width, "height": 800})
            page.screenshot(path=pictures / f"status at work {width}.png", full_page=True)
        assert page.evaluate("window.stays === document.querySelector('#p-head')")  # mended, not made anew
    finally:
        done.set()
        for thread in threads:
            thread.join(60)


def test_a_lock_is_broken_by_hand_and_a_second_operator_is_told(
    visit: Visit, stuck: Callable[[], None], pictures: Path
) -> None:
    one, other = opened(visit), opened(visit)
    for page in (one, other):
        held = page.get_by_role("region", name="Who holds and waits")
        expect(held.get_by_text("waits", exact=True)).to_be_visible()
        expect(held.get_by_text("holds", exact=True)).to_be_visible()
        held.get_by_role("link", name=re.compile("^Break the lock of")).click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Break this lock?")
        expect(page.locator("main")).to_contain_text("boxoffice.views._make_transfer")
    one.screenshot(path=pictures / "status asks.png", full_page=True)
    for page, said in ((one, "The lock was taken from"), (other, "Nobody has that lock any more")):
        page.get_by_role("button", name="Break the lock").click()
        page.wait_for_url("**/pooling/")
        expect(page.locator(".said").first).to_contain_text(said)
    one.screenshot(path=pictures / "status broken.png", full_page=True)
    stuck()
    expect(one.locator("#p-parties")).to_contain_text("Nobody holds or waits for anything.")


def test_what_the_reader_does_is_left_alone(visit: Visit, stuck: Callable[[], None], pictures: Path) -> None:
    """Open details, the focus, a table's place and a half-typed group are as they were, while all around changes."""
    page = opened(visit, width=380)
    pools = page.get_by_role("region", name="Pools")
    stack = pools.get_by_text("Where it is now").first
    stack.click()  # it comes when the holder has had his connection for a second
    expect(pools.locator("pre").first).to_contain_text("sales.py")
    pools.evaluate("one => { one.scrollLeft = 40; }")
    page.get_by_label("Group", exact=True).fill("half/ty")
    held = page.locator("#p-parties .figure").first
    for _ in range(2):
        before = held.inner_text()
        expect(held).not_to_have_text(before)
    expect(pools.locator("pre").first).to_be_visible()
    assert pools.evaluate("one => one.scrollLeft") == 40
    expect(page.get_by_label("Group", exact=True)).to_be_focused()
    expect(page.get_by_label("Group", exact=True)).to_have_value("half/ty")
    page.screenshot(path=pictures / "status stuck 380.png", full_page=True)
    # It can be stopped, and goes on.
    pause = page.get_by_role("button", name="Pause")
    pause.click()
    expect(pause).to_have_attribute("aria-pressed", "true")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    before = held.inner_text()
    page.clock.install()
    page.clock.run_for(60_000)
    assert (requests, held.inner_text()) == ([], before)
    pause.click()
    expect(held).not_to_have_text(before)
    stuck()


def test_what_is_typed_is_searched_for_at_once(visit: Visit) -> None:
    page = opened(visit)
    groups = page.get_by_role("region", name="Groups").locator("tbody tr")
    expect(groups.first).to_be_visible()
    page.get_by_label("Show only").fill("no such thing")
    expect(page.locator("#p-groups")).to_contain_text("None that has “no such thing” in it.")
    assert "q=no+such+thing" in page.url
    page.get_by_label("Show only").fill("")
    expect(groups.first).to_be_visible()
    assert page.url.endswith("/pooling/")


def test_a_site_that_does_not_answer_is_said_until_it_does(visit: Visit) -> None:
    page = opened(visit)
    live = page.locator("#pooling-live")
    expect(live).to_be_hidden()
    page.route(
        "**/pooling/part/**", lambda route: route.fulfill(status=200, headers={"x": "y"}, body="<p id=p-head>new</p>")
    )
    expect(page.locator("#p-head")).to_have_text("new")
    page.unroute("**/pooling/part/**")
    # Refused before it leaves the browser, so that no console speaks of it.
    page.evaluate("() => { window.real = window.fetch; window.fetch = async () => new Response('', {status: 503}); }")
    expect(live).to_contain_text("The site does not answer (HTTP 503)")
    page.evaluate("() => { window.fetch = window.real; }")
    expect(live).to_be_hidden()
    expect(page.locator("#p-head")).not_to_have_text("new")


def test_who_is_signed_out_meanwhile_comes_to_the_login(visit: Visit) -> None:
    page = opened(visit)
    page.context.clear_cookies()
    page.wait_for_url("**/admin/login/?next=*")


def test_a_hidden_page_asks_nothing(visit: Visit) -> None:
    page = opened(visit)
    hide = """hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
      document.dispatchEvent(new Event('visibilitychange')); }"""
    page.evaluate(hide, True)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.clock.install()
    page.clock.run_for(60_000)
    assert requests == []
    with page.expect_request("**/pooling/part/**"):
        page.evaluate(hide, False)


def test_under_a_strict_policy(visit: Visit) -> None:
    def strict(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, headers={**answer.headers, "content-security-policy": POLICY})

    page = visit(STAFF)
    page.route("**/pooling/**", strict)
    page.goto("/pooling/")
    page.evaluate("window.stays = true; document.querySelector('#p-head').textContent = 'old'")
    expect(page.locator("#p-head")).not_to_have_text("old")  # the script runs
    assert page.evaluate("getComputedStyle(document.querySelector('.pooling .said')).borderLeftWidth") == "4px"


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_switch_of_the_admin_is_obeyed(colours: str, visit: Visit, pictures: Path) -> None:
    page = opened(visit, colours=colours)
    ink = "getComputedStyle(document.querySelector('.pooling')).color"
    before = page.evaluate(ink)
    page.screenshot(path=pictures / f"status {colours}.png", full_page=True)
    page.locator("button.theme-toggle").first.click()
    assert page.evaluate("document.documentElement.dataset.theme") == ("dark" if colours == "light" else "light")
    assert page.evaluate(ink) != before
