"""The box office as people use it, in a real browser."""

from __future__ import annotations

import re
from decimal import Decimal

from playwright.sync_api import Page, expect

from demo_site.people import PASSWORD

from .conftest import Visit, buy


def first_event(page: Page) -> str:
    page.goto("/")
    return page.locator("main a[href^='/events/']").first.get_attribute("href") or ""


def balance(page: Page) -> Decimal:
    page.goto("/account/")
    return Decimal(page.locator(".big").inner_text())


def free_seat(page: Page, event: str) -> str:
    page.goto(event)
    return page.locator("input[name=seats]").first.get_attribute("value") or ""


def test_a_sale_is_seen_by_everybody_at_once_and_the_report_adds_up(visit: Visit) -> None:
    alice, stranger = visit("alice"), visit()
    event = first_event(alice)
    before = balance(alice)
    seat = free_seat(alice, event)
    stranger.goto(event)
    stranger.reload()  # from the cache now
    expect(stranger.locator(f"input[value='{seat}']")).to_have_count(1)
    order = buy(alice, event, seat)
    stranger.reload()
    expect(stranger.locator(f"input[value='{seat}']")).to_have_count(0)
    total = Decimal(alice.locator(".sum dd").inner_text())
    assert balance(alice) == before - total
    expect(alice.locator(f"a[href='/orders/{order}/']")).to_be_visible()
    stranger.goto("/report/")
    expect(stranger.get_by_text("The totals add up.")).to_be_visible()


def test_money_that_is_sent_arrives(visit: Visit) -> None:
    alice, bob = visit("alice"), visit("bob")
    mine, his = balance(alice), balance(bob)
    alice.goto("/transfer/")
    alice.get_by_label("To", exact=True).select_option(label="Bob")
    alice.get_by_label("Amount").fill("7.25")
    alice.get_by_role("button", name="Send").click()
    alice.wait_for_url("**/account/")
    assert balance(alice) == mine - Decimal("7.25")
    assert balance(bob) == his + Decimal("7.25")
    bob.goto("/report/")
    expect(bob.get_by_text("The totals add up.")).to_be_visible()


MANY = """() => { window.many = Promise.all(Array.from({length: 24}, (_, i) =>
  fetch(['/account/', '/', '/transfer/', '/lab/'][i % 4]).then(answer => answer.text()))); }"""


def test_two_users_side_by_side_never_see_each_others_pages(visit: Visit) -> None:
    people = {name: visit(name) for name in ("alice", "bob")}
    for page in people.values():
        page.goto("/account/")
    for page in people.values():
        page.evaluate(MANY)  # both at the same time
    for name, page in people.items():
        bodies = page.evaluate("() => window.many")
        who = [found for body in bodies for found in re.findall(r"Signed in as <strong>(\w+)", body)]
        assert who == [name.capitalize()] * 18
        shared = {body for body in bodies if "<h1>Events</h1>" in body}
        assert len(shared) == 1
        assert "Signed in" not in shared.pop()
    event = first_event(people["alice"])
    order = buy(people["alice"], event, free_seat(people["alice"], event))
    assert people["bob"].request.get(f"/orders/{order}/").status == 404  # not the browser's page: no error seen there


def tab_to(page: Page, found: str) -> None:
    """Press the tabulator until what has the focus matches this selector."""
    for _ in range(300):
        page.keyboard.press("Tab")
        if page.evaluate("found => document.activeElement.matches(found)", found):
            return
    raise AssertionError(f"The tabulator never came to {found}")


def test_a_whole_booking_by_keyboard_alone(visit: Visit) -> None:
    page = visit()
    page.goto("/account/")  # leads to the sign-in
    tab_to(page, "#id_username")
    page.keyboard.type("carol")
    tab_to(page, "#id_password")
    page.keyboard.type(PASSWORD)
    enter(page, "Your account")
    tab_to(page, ".brand")
    enter(page, "Events")
    tab_to(page, "main a[href^='/events/']")
    enter(page, ".")
    for _ in range(2):
        tab_to(page, "input[name=seats]")
        page.keyboard.press("Space")
    expect(page.locator("input[name=seats]:checked")).to_have_count(2)
    tab_to(page, "main form button")
    enter(page, "Checkout")
    tab_to(page, "form[action$='/book/'] button")
    enter(page, "Order")
    expect(page.get_by_text("Paid. Enjoy the show!")).to_be_visible()
    expect(page.locator("dl dt", has_text="Seat")).to_have_count(2)


def enter(page: Page, heading: str) -> None:
    """Follow the link or press the button that has the focus, to the page of this heading."""
    with page.expect_navigation():
        page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(re.compile(heading))
