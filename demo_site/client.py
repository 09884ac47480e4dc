"""A visitor of the site: one keep-alive HTTP connection, its cookies, and the few things that people do there."""

from __future__ import annotations

import http.client
import random
import re
import time
from collections import Counter
from collections.abc import Mapping
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from demo_site.web import HOST

_FREE_SEAT = re.compile(rb'name="seats" value="(\d+)"')
_EVENT = re.compile(rb'href="/events/(\d+)/"')
_ACCOUNT = re.compile(rb'<option value="(\d+)">(\w+)')
_BEST = 6  # everybody wants one of the first free seats
# What people do, of a hundred visits: mostly looking, now and then buying, sending money, or reading the report.
MIX = {"seats": 42, "events": 41, "account": 3, "book": 6, "transfer": 7, "report": 1}


class Visitor:
    """Not thread-safe: one thread each. ``times`` are seconds per answered request, ``errors`` is kind -> number."""

    def __init__(self, name: str, password: str, seed: int, mix: Mapping[str, int] = MIX) -> None:
        self.name = name
        self.password = password
        self.random = random.Random(seed)
        self.kinds, self.weights = list(mix), list(mix.values())
        self.cookies: dict[str, str] = {}
        self.port = 0
        self.connection: http.client.HTTPConnection | None = None
        self.events: list[str] = []
        self.friends: list[str] = []
        self.forget()

    def forget(self) -> None:
        """Start counting anew."""
        self.times: list[float] = []
        self.errors: Counter[str] = Counter()
        self.done: Counter[str] = Counter()

    def at(self, port: int) -> None:
        """Go to the server at this port, with the cookies of the last."""
        self.leave()
        self.port = port

    def leave(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def request(self, method: str, path: str, form: list[tuple[str, str]] | None = None) -> tuple[int, bytes]:
        """Status and body; status 0 when there was no answer. A server error is counted by its kind."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        headers = {"Cookie": "; ".join(f"{key}={value}" for key, value in self.cookies.items())}
        body = None
        if form is not None:
            body = urlencode([*form, ("csrfmiddlewaretoken", self.cookies.get("csrftoken", ""))])
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        begin = time.perf_counter()
        try:
            self.connection.request(method, path, body, headers)
            response = self.connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            self.leave()
            self.errors[type(error).__name__] += 1
            return 0, b""
        self.times.append(time.perf_counter() - begin)
        for header in response.headers.get_all("Set-Cookie") or ():
            for key, morsel in SimpleCookie(header).items():
                self.cookies[key] = morsel.value
        if response.status >= 500 or response.status in (400, 403, 404):
            self.errors[f"HTTP {response.status}"] += 1
        return response.status, answer

    def sign_in(self) -> None:
        """Sign in unless that was done already, and look around. RuntimeError when it is refused."""
        if "sessionid" not in self.cookies:
            self.request("GET", "/accounts/login/")
            status, _ = self.request("POST", "/accounts/login/", [("username", self.name), ("password", self.password)])
            if status != 302:
                raise RuntimeError(f"{self.name} could not sign in: HTTP {status}")
        self.events = [found.decode() for found in dict.fromkeys(_EVENT.findall(self.request("GET", "/")[1]))]
        self.friends = [pk.decode() for pk, _ in _ACCOUNT.findall(self.request("GET", "/transfer/")[1])][:5]
        if not self.events or not self.friends:
            raise RuntimeError(f"{self.name} found no events or nobody to send money to.")

    # -- what people do

    def act(self) -> None:
        """One visit of the mix."""
        match self.random.choices(self.kinds, self.weights)[0]:
            case "seats":
                self.look()
            case "events":
                self.request("GET", "/")
            case "account":
                self.request("GET", "/account/")
            case "book":
                self.book()
            case "transfer":
                self.send_money()
            case "report":
                self.read_report()

    def look(self) -> tuple[str, list[bytes]]:
        event = (
            self.events[0] if self.random.random() < 0.5 else self.random.choice(self.events)
        )  # one is the talk of the town
        return event, _FREE_SEAT.findall(self.request("GET", f"/events/{event}/")[1])

    def book(self) -> None:
        event, free = self.look()
        if free:
            best = free[:_BEST]
            seats = self.random.sample(best, min(len(best), self.random.choice((1, 1, 2))))
            status, _ = self.request("POST", f"/events/{event}/book/", [("seats", seat.decode()) for seat in seats])
            self._count("booked", status)

    def send_money(self) -> None:
        amount = f"{self.random.randint(1, 20)}.00"
        status, _ = self.request("POST", "/transfer/", [("to", self.random.choice(self.friends)), ("amount", amount)])
        self._count("transferred", status)

    def read_report(self) -> None:
        status, body = self.request("GET", "/report/")
        if status == 200:
            self.done["reports"] += 1
            self.done["wrong reports"] += b"do not add up" in body

    def _count(self, what: str, status: int) -> None:
        if status == 302:
            self.done[what] += 1
        elif status in (402, 409):
            self.done["refused"] += 1  # sold meanwhile, or not enough money: an answer, not an error
