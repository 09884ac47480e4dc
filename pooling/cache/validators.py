"""What lets a browser keep its copy of a page and ask whether it is still right (RFC 9110, section 13).

`add` puts the headers on an answer once, before it is stored, so that a hit has them for nothing. They are the same
for a miss and for the hits after it. `answer` makes a 304 of an answer that the visitor has already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.http import parse_http_date_safe

from . import keys, storable

# While a page is computed for all, the view does not see these: it would answer 304 or a part to the one who asks.
CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE")
HIDDEN = (*CONDITIONS, "HTTP_IF_RANGE", "HTTP_RANGE")
_OURS = 'W/"pooling-'
# A 304 brings these along, or they are about the copy and not about the page: they do not make it another one.
_CARRIED = frozenset(
    ("cache-control", "content-location", "date", "etag", "expires", "last-modified", "vary", "age", "cache-status")
)
_CHOSEN = frozenset(("public", "private", "s-maxage"))  # the view has said who may keep it


def add(response: Any, *, personal: bool, vary: Iterable[str]) -> None:
    """Give an answer that may be stored an ETag, ``Cache-Control: no-cache`` and ``Vary``, where the view set none.

    ``personal``: visitors get pages of their own, so only a browser may keep one. ``vary``: names of request headers.
    """
    if not response.has_header("ETag"):
        response.headers["ETag"] = etag(response)
    added = []
    if not response.has_header("Cache-Control") and not response.has_header("Expires"):
        added.append("no-cache")  # which means: keep it, but ask before each use
    given = response.get("Cache-Control", "")
    if personal and not _CHOSEN & storable.directives(given):
        added.append("private")
    if added:
        response.headers["Cache-Control"] = ", ".join(filter(None, (given, *added)))
    names = list(vary)
    if names:
        patch_vary_headers(response, names)


def etag(response: Any) -> str:
    """Equal for equal answers, whoever made them and when: so a page that was made anew but came out the same is not
    sent again. It is a weak one: the middleware outside (GZipMiddleware, …) may change the bytes."""
    headers = sorted((name.lower(), value) for name, value in response.items() if name.lower() not in _CARRIED)
    digest = hashlib.blake2b(keys.encode((tuple(headers), bytes(response.content))), digest_size=16)
    return f'{_OURS}{digest.hexdigest()}"'


def withdraw(response: Any) -> None:
    """Take back what `add` added, for a view around this one that makes its own answer of it. ``Vary`` stays."""
    if response.get("ETag", "").startswith(_OURS):
        del response["ETag"]
    # The view's own "no-cache" or "private" is never stored, so these are ours.
    left = [part for part in response.get("Cache-Control", "").split(", ") if part not in ("no-cache", "private", "")]
    if left:
        response.headers["Cache-Control"] = ", ".join(left)
    else:
        del response["Cache-Control"]


def answer(request: Any, response: Any) -> Any:
    """The response, or the 304 or 412 that its validators and the request's conditions call for."""
    meta = request.META
    for name in CONDITIONS:
        if name in meta:
            break
    else:
        return response
    if getattr(response, "streaming", True) or not hasattr(response, "headers"):
        return response
    modified = response.headers.get("Last-Modified")
    tag = response.headers.get("ETag")
    if not tag and not modified:
        return response
    return get_conditional_response(
        request, etag=tag, last_modified=modified and parse_http_date_safe(modified), response=response
    )
