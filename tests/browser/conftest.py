"""Chromium in front of the demo site. Whoever visits it reports every error that the browser saw."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, StorageState, expect, sync_playwright

from demo_site.people import PASSWORD
from tests.demo.conftest import demo_env, empty_database, site  # noqa: F401
from tests.demo.site import Site

from .pages import Place

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# What it would ask the network for is none of these tests' business.
OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
DEADLINE = 30_000  # milliseconds; the machine may be busy

Visit = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    name = os.environ.get("POOLING_BROWSER_PROGRAM")
    found = next(filter(None, map(shutil.which, [name] if name else PROGRAMS)), None)
    if found is None:
        pytest.fail(f"No browser: {name or ', '.join(PROGRAMS)}. apt-get install chromium, or POOLING_BROWSER_PROGRAM.")
    expect.set_options(timeout=DEADLINE)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=OPTIONS)
        yield browser
        browser.close()


def trouble(request: Request) -> str:
    """Why a request failed; empty where only the page that made it was left."""
    left = request.failure == "net::ERR_ABORTED" and request.resource_type == "fetch"
    return "" if left else f"{request.method} {request.url}: {request.failure}"


class Visitors:
    """Signs each of them in once; what went wrong in any of their browsers is in ``troubles``."""

    def __init__(self, browser: Browser, site: Site) -> None:  # noqa: F811
        self.browser = browser
        self.base = f"http://127.0.0.1:{site.port}"
        self.states: dict[str, StorageState] = {}
        self.troubles: list[str] = []
        self.open: list[BrowserContext] = []

    def visit(self, who: str = "", *, width: int = 1280, colours: Any = "light") -> Page:
        """A page in a browser context of its own."""
        if who and who not in self.states:
            page = self._page({})
            page.goto("/accounts/login/")
            page.get_by_label("Username").fill(who)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url("**/account/")
            self.states[who] = page.context.storage_state()
        options: dict[str, Any] = {"viewport": {"width": width, "height": 800}, "color_scheme": colours}
        return self._page({**options, **({"storage_state": self.states[who]} if who else {})})

    def _page(self, options: dict[str, Any]) -> Page:
        context = self.browser.new_context(base_url=self.base, **options)
        context.set_default_timeout(DEADLINE)
        self.open.append(context)
        page = context.new_page()
        page.on("console", lambda said: said.type in ("error", "warning") and self._note(f"console: {said.text}"))
        page.on("pageerror", lambda error: self._note(f"script: {error}"))
        page.on("requestfailed", lambda request: self._note(trouble(request)))
        page.on("response", lambda answer: answer.status >= 400 and self._note(f"{answer.status} {answer.url}"))
        return page

    def _note(self, what: str) -> None:
        if what:
            self.troubles.append(what)

    def leave(self) -> list[str]:
        """What went wrong since the last time."""
        for context in self.open:
            context.close()
        self.open.clear()
        found, self.troubles = self.troubles, []
        return found


@pytest.fixture(scope="session")
def visitors(browser: Browser, site: Site) -> Visitors:  # noqa: F811
    return Visitors(browser, site)


@pytest.fixture
def visit(visitors: Visitors) -> Iterator[Visit]:
    """``visit("alice", width=380, colours="dark")``. That no browser saw an error is part of every test."""
    yield visitors.visit
    assert visitors.leave() == []


@pytest.fixture(scope="session")
def names(visitors: Visitors) -> dict[str, str]:
    """What stands in the paths of `pages.PLACES`: an event, a free seat, an order and a run of the lab."""
    page = visitors.visit("alice")
    page.goto("/")
    links = page.locator("main a[href^='/events/']")
    path = links.last.get_attribute("href") or ""
    page.goto(path)
    seats = page.locator("input[name=seats]")
    seat = seats.nth(1).get_attribute("value") or ""
    order = buy(page, path, seats.first.get_attribute("value") or "")
    page.goto("/lab/")
    run = run_lab(page, "thread", "pooling")
    found = {"event": path.split("/")[2], "seat": seat, "order": order, "run": run}
    assert visitors.leave() == []
    return found


def buy(page: Page, event: str, seat: str) -> str:
    """Choose a seat and pay; the number of the order."""
    page.goto(event)
    page.locator(f"input[value='{seat}']").check()
    page.get_by_role("button", name="Continue to checkout").click()
    page.get_by_role("button", name=re.compile("^Pay ")).click()
    expect(page.get_by_text("Paid. Enjoy the show!")).to_be_visible()
    return page.url.rstrip("/").rsplit("/", 1)[1]


def start_lab(page: Page, *schemes: str) -> str:
    """Fill in the lab's form and send it; the name of the run."""
    for box in page.locator("input[name=schemes]").all():
        box.set_checked(box.get_attribute("value") in schemes)
    for name, value in {"Visitors": "3", "Connections": "2", "Seconds": "1"}.items():
        page.get_by_label(re.compile(f"^{name}")).fill(value)
    page.get_by_role("button", name="Run").click()
    page.wait_for_url("**/lab/runs/*/")
    return page.url.rstrip("/").rsplit("/", 1)[1]


def run_lab(page: Page, *schemes: str) -> str:
    run = start_lab(page, *schemes)
    expect(page.get_by_role("status")).to_have_text("Done: every scheme has been measured.", timeout=2 * DEADLINE)
    return run


@pytest.fixture
def go(visit: Visit, names: dict[str, str]) -> Callable[..., Page]:
    """Open one of `pages.PLACES`, as the one who may."""

    def opened(place: Place, **options: Any) -> Page:
        page = visit(place.who, **options)
        page.goto(place.path.format(**names))
        expect(page.locator("h1").first).to_be_visible()
        return page

    return opened


@pytest.fixture
def pictures() -> Path:
    """Where screenshots go, to be looked at."""
    folder = Path(__file__).resolve().parents[2] / ".run" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
