"""Helpers that read the demo's pages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal

from demo_site.client import Visitor


@dataclass
class Site:
    port: int
    env: dict[str, str]
    password: str
    cookies: dict[str, dict[str, str]] = field(default_factory=dict)

    def visitor(self, name: str) -> Visitor:
        visitor = Visitor(name, self.password, seed=1)
        visitor.at(self.port)
        return visitor

    def signed_in(self, name: str) -> Visitor:
        """Signs in once per name; checking a password is slow on purpose."""
        visitor = self.visitor(name)
        visitor.cookies = dict(self.cookies.get(name, {}))
        visitor.sign_in()
        self.cookies[name] = dict(visitor.cookies)
        return visitor


def page(visitor: Visitor, path: str) -> str:
    status, body = visitor.request("GET", path)
    assert status == 200, (path, status)
    return body.decode()


def free_seats(visitor: Visitor, event: str) -> list[str]:
    return re.findall(r'name="seats" value="(\d+)"', page(visitor, f"/events/{event}/"))


def balance(visitor: Visitor) -> Decimal:
    found = re.search(r'class="big">([\d.]+)<', page(visitor, "/account/"))
    assert found
    return Decimal(found[1])
