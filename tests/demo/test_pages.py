"""The pages of the demo, over HTTP."""

from __future__ import annotations

import http.client
from pathlib import Path

import pytest

from demo_site.client import Visitor
from demo_site.people import BOSS, PASSWORD
from demo_site.servers import free_port
from demo_site.web import WebServer, listen

from .site import Site, balance, free_seats, page


def test_cached_pages_are_the_same_for_everybody(site: Site, stranger: Visitor, alice: Visitor) -> None:
    for path in ("/", f"/events/{alice.events[0]}/"):
        body = page(alice, path)
        assert "csrfmiddlewaretoken" not in body
        assert "alice" not in body.lower()
        assert page(stranger, path) == body
        connection = http.client.HTTPConnection("127.0.0.1", site.port)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert "hit" in (answer.headers["Cache-Status"] or "")
        assert answer.headers["Set-Cookie"] is None
        connection.close()


def test_signing_in_and_out(site: Site, stranger: Visitor) -> None:
    assert stranger.request("GET", "/account/")[0] == 302
    stranger.request("GET", "/accounts/login/")
    status, body = stranger.request("POST", "/accounts/login/", [("username", "alice"), ("password", "wrong")])
    assert status == 200
    assert b"Please enter a correct username and password" in body
    stranger.sign_in()
    assert "Signed in as <strong>Alice" in page(stranger, "/account/")
    assert stranger.request("POST", "/accounts/logout/", [])[0] == 302
    assert stranger.request("GET", "/account/")[0] == 302


def test_a_booked_seat_is_sold_and_paid_for(alice: Visitor) -> None:
    event = alice.events[1]
    before, seats = balance(alice), free_seats(alice, event)[:2]
    checkout = page(alice, f"/events/{event}/checkout/?seats={seats[0]}&seats={seats[1]}")
    assert "Pay " in checkout
    status, _ = alice.request("POST", f"/events/{event}/book/", [("seats", seat) for seat in seats])
    assert status == 302
    assert not set(seats) & set(free_seats(alice, event))
    assert balance(alice) < before
    status, body = alice.request("POST", f"/events/{event}/book/", [("seats", seats[0])])
    assert status == 409
    assert b"has just been sold" in body


def test_the_list_of_events_shows_a_sale_at_once(alice: Visitor) -> None:
    event = alice.events[2]
    before = page(alice, "/")
    assert page(alice, "/") == before
    alice.request("POST", f"/events/{event}/book/", [("seats", free_seats(alice, event)[0])])
    assert page(alice, "/") != before


def test_bad_input_is_answered_with_what_to_do(alice: Visitor) -> None:
    event, other = alice.events[0], alice.events[1]
    seats = free_seats(alice, event)
    cases = [
        ([], 400, "Tick at least one"),
        (seats[:7], 400, "At most 6 seats"),
        (["x"], 400, "Select a valid choice"),
        (free_seats(alice, other)[:1], 409, "not part of this event"),
    ]
    for chosen, expected, text in cases:
        status, body = alice.request("POST", f"/events/{event}/book/", [("seats", seat) for seat in chosen])
        assert (status, text in body.decode()) == (expected, True), (chosen, body)
    assert alice.request("POST", "/events/999999/book/", [("seats", seats[0])])[0] == 404
    assert alice.request("GET", "/orders/999999/")[0] == 404


def test_a_transfer_says_what_is_wrong_with_it(alice: Visitor) -> None:
    friend = alice.friends[0]
    cases = [
        ("", "1", 400, "Choose who gets the money"),
        ("a/b{c}", "1", 400, "no such account"),
        (friend, "", 400, "Enter an amount"),
        (friend, "-1", 400, "at least 0.01"),
        (friend, "NaN", 400, "as a number"),
        (friend, "999999", 402, "your account has"),
    ]
    for to, amount, expected, text in cases:
        status, body = alice.request("POST", "/transfer/", [("to", to), ("amount", amount)])
        assert (status, text in body.decode()) == (expected, True), (to, amount, body)


def test_without_redis_the_site_goes_on_and_its_boss_sees_the_status_page(
    demo_env: dict[str, str], tmp_path: Path
) -> None:
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    env = {**demo_env, "POOLING_REDIS_URL": nobody}
    with listen() as sock, WebServer(sock, "pooling", env=env, log=tmp_path / "log", threads=4) as web:
        boss = Site(web.port, env, PASSWORD).signed_in(BOSS)
        assert "Signed in as <strong>Boss" in page(boss, "/account/")
        assert 'id="pooling-state"' in page(boss, "/pooling/")
        boss.leave()
    assert "Connection refused" in (tmp_path / "log").read_text()  # it is not hidden from who runs the site


def test_nobody_sees_the_order_of_another(alice: Visitor, bob: Visitor) -> None:
    event = alice.events[3]
    alice.request("POST", f"/events/{event}/book/", [("seats", free_seats(alice, event)[0])])
    order = page(alice, "/account/").split('href="/orders/')[1].split("/")[0]
    assert "Paid." in page(alice, f"/orders/{order}/")
    assert bob.request("GET", f"/orders/{order}/")[0] == 404


def test_static_files_and_admin(stranger: Visitor) -> None:
    assert "--accent" in page(stranger, "/static/boxoffice/site.css")
    assert "Django administration" in page(stranger, "/admin/login/")


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_every_page_answers_head_as_it_answers_get(site: Site, alice: Visitor, method: str) -> None:
    event = alice.events[0]
    seat = free_seats(alice, event)[0]
    alice.request("POST", f"/events/{event}/book/", [("seats", free_seats(alice, event)[-1])])
    order = page(alice, "/account/").split('href="/orders/')[1].split("/")[0]
    checkout = f"/events/{event}/checkout/?seats={seat}"
    for path in ("/", f"/events/{event}/", checkout, f"/orders/{order}/", "/account/", "/transfer/", "/report/"):
        status, body = alice.request(method, path)
        assert (status, bool(body)) == (200, method == "GET"), path
    assert alice.request(method, "/static/boxoffice/site.css")[0] == 200
    assert alice.request(method, f"/events/{event}/book/")[0] == 405
    assert "no-body" not in (Path(site.env["DEMO_RUN_DIR"]) / "site.log").read_text()
