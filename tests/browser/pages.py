"""The pages that every check of this folder is done on. A new page is a line here."""

from __future__ import annotations

from dataclasses import dataclass

from demo_site.people import BOSS

STAFF = BOSS  # may see what only the staff may


@dataclass(frozen=True)
class Place:
    """``path`` may have {event}, {seat}, {order} and {run} in it; ``who`` is signed in, nobody if empty."""

    name: str
    path: str
    who: str = ""


PLACES = (
    Place("events", "/"),
    Place("seat map", "/events/{event}/"),
    Place("sign in", "/accounts/login/"),
    Place("report", "/report/"),
    Place("account", "/account/", "alice"),
    Place("checkout", "/events/{event}/checkout/?seats={seat}", "alice"),
    Place("order", "/orders/{order}/", "alice"),
    Place("transfer", "/transfer/", "alice"),
    Place("lab", "/lab/", "alice"),
    Place("lab run", "/lab/runs/{run}/", "alice"),
    Place("status", "/pooling/", STAFF),
    Place("status asks", "/pooling/invalidate/?group=events", STAFF),
)
