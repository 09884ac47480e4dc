"""Assertions about one answer: they read the last ``pooling; …`` in its ``Cache-Status``.

An answer is one of three things. *Cached*: it was in the cache and counted, or came there while the request waited for
another one that made it (``collapsed``); the view did not run. *Stale*: it was in the cache and counted no more, but
the view allows old pages, ``stale=`` or ``stale_if_error=``; a hit with ``ttl`` below zero, or ``detail="the view
failed"``. *Made*: the view ran for this very request; then it was stored or not.

``response`` is Django's, or anything else with ``headers``, such as that of urllib, requests or httpx.
"""

from __future__ import annotations

from typing import Any, NoReturn

from ..cache.status import Told, read
from . import advice

# What unittest and pytest leave out of a traceback: it ends in the test, where the assertion stands.
__unittest = True
__tracebackhide__ = True


def assertCached(response: Any, msg: str = "") -> None:
    """The answer came from the cache and was up to date: the view did not run for it."""
    told = _told(response, "cached", msg)
    if told.stale:
        _fail(msg, "cached", f"an old page ({told.detail}); see assertStale", told)
    if told.made:
        _fail(msg, "cached", "made by the view", told, advice.made(told))


def assertNotCached(response: Any, msg: str = "") -> None:
    """The view ran for this request: its answer is neither a page from the cache nor an old one."""
    told = _told(response, "made by the view", msg)
    if not told.made:
        found = f"an old page ({told.detail})" if told.stale else "cached"
        _fail(msg, "made by the view", found, told, advice.WRITE_IT)


def assertStale(response: Any, msg: str = "") -> None:
    """The answer is a page that counted no more, and was served because the view allows that."""
    told = _told(response, "an old page", msg)
    if not told.stale:
        found, more = ("cached, and up to date", advice.WRITE_IT) if told.fresh else ("made by the view", "")
        _fail(msg, "an old page", found, told, more, advice.GET_AN_OLD_ONE)


def assertStored(response: Any, msg: str = "") -> None:
    """The view ran for this request, and its answer was put into the cache."""
    told = _told(response, "stored", msg)
    if told.stored:
        return
    if told.made:
        _fail(msg, "stored", "made and not stored", told, advice.not_stored(told))
    _fail(msg, "stored", "an old page" if told.stale else "cached", told, advice.ALREADY_THERE)


def assertNotStored(response: Any, reason: str | None = None, msg: str = "") -> None:
    """The view ran for this request, and its answer was not put into the cache. ``reason``: for a reason that has these
    words in it, such as "Set-Cookie" or "touched user"."""
    told = _told(response, "made and not stored", msg)
    if told.stored:
        _fail(
            msg,
            "made and not stored",
            "stored",
            told,
            "A page that is one visitor's must touch something of the visitor's, or forbid it by Cache-Control.",
        )
    if not told.made:
        _fail(msg, "made and not stored", "an old page" if told.stale else "cached", told, advice.ALREADY_THERE)
    if reason is not None and reason not in told.why_not_stored:
        _fail(msg, f"not stored because of {reason!r}", f"not stored because of {told.why_not_stored!r}", told)


def _told(response: Any, expected: str, msg: str) -> Told:
    headers = getattr(response, "headers", response)
    if not hasattr(headers, "get"):
        raise TypeError(f"A response is needed, with headers, not {response!r}. Asynchronous clients must be awaited.")
    header = headers.get("Cache-Status")
    told = read(header)
    if told is None:
        status = getattr(response, "status_code", getattr(response, "status", "unknown"))
        also = f" Cache-Status: {header}" if header else ""
        raise AssertionError(_prefix(msg) + f"Expected {expected}. {advice.NOBODY} Its status is {status}.{also}")
    return told


def _fail(msg: str, expected: str, found: str, told: Told, *more: str) -> NoReturn:
    raise AssertionError(
        _prefix(msg)
        + f"Expected {expected}, but it was {found}. Cache-Status: {told.text}\n"
        + " ".join(filter(None, more))
    )


def _prefix(msg: str) -> str:
    return f"{msg}: " if msg else ""
