"""What an action has said, on its way to the status page: in a cookie that is signed for one user and is shown once.

Not in the address, where a reload would say it again and a link could have it said to somebody else; nor by
`django.contrib.messages`, which a site need not have.
"""

from __future__ import annotations

from typing import Any

from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

COOKIE = "pooling_said"
REMEMBERED = 60  # seconds that the way may take
_LONGEST = 400  # characters


def put(request: HttpRequest, response: HttpResponse, kind: str, text: str) -> None:
    """Have the status page say it when it is next loaded. ``kind``: "good", "note" or "bad"."""
    value = signing.dumps({"kind": kind, "text": text[:_LONGEST]}, salt=_salt(request))
    response.set_cookie(
        COOKIE,
        value,
        max_age=REMEMBERED,
        path=reverse("pooling:status"),
        secure=request.is_secure(),
        httponly=True,
        samesite="Strict",
    )


def take(request: HttpRequest) -> dict[str, str] | None:
    """What there is to say to this user, if anything. `forget` it with the answer that says it."""
    try:
        found = signing.loads(request.COOKIES.get(COOKIE, ""), salt=_salt(request), max_age=REMEMBERED)
    except signing.BadSignature:
        return None
    return {"kind": str(found["kind"]), "text": str(found["text"])}


def forget(request: HttpRequest, response: HttpResponse) -> None:
    if COOKIE in request.COOKIES:
        response.delete_cookie(COOKIE, path=reverse("pooling:status"), samesite="Strict")


def _salt(request: HttpRequest) -> str:
    user: Any = request.user  # whoever comes here is signed in
    return f"pooling.status:{user.pk}"
