"""What would change what ``Cache-Status`` says: the second half of a failed assertion's message."""

from __future__ import annotations

from ..cache import vary
from ..cache.status import Told

_FORWARDED = {
    "uri-miss": "Nobody had asked for this page before: it is found again by scheme, host, path, query, language, time "
    "zone and what vary_on names, and each isolated test begins with an empty cache. Ask for it twice.",
    "vary-miss": "It was asked for before, but with other values of the headers that the answer's Vary names.",
    "stale": "There was one, but something that it reads has been written since, or its timeout is over.",
    "method": "Only GET and HEAD are answered from the cache, and only GET is stored.",
}

# By how the detail begins; the first that fits.
_DETAILS = (
    ("Set-Cookie", "An answer that sets a cookie is one visitor's. Set it in a view that is not cached."),
    ("Cache-Control:", "The view's answer forbids it, perhaps through never_cache or cache_control."),
    ("Vary: *", "Such a Vary says that no two requests have the same answer. Name the headers instead."),
    ("status", "Only answers with status 200 are stored."),
    ("streaming answer", "Return a complete response instead."),
    ("session modified", "A view that changes its visitor's session is no cached one."),
    ("fragments read", "Declare in the view's reads= what the fragments in it read."),
    ("reads name no group", "Its reads= came out empty for these arguments, so nobody could ever invalidate the page."),
    ("inside a lock", "Call the view outside of `locked` and of transaction.atomic()."),
    ("changed meanwhile", "What it reads was written while the view ran. The next request may store it."),
    ("too large for the store", "The answer is larger than all that the store in memory keeps."),
    ("method HEAD", "HEAD is answered from the cache but stores nothing. Ask with GET."),
    ("timeout 0", "locked_cache(0, …) stores nothing."),
    ("request has Authorization", "Add 'header:Authorization' to vary_on if the page may be stored for such requests."),
    ("request has a body", "A request with a body is neither looked up nor stored."),
    ("request has an encoding", "Such a request is neither looked up nor stored. Leave its encoding at the default."),
    ("store down", "The store of POOLING['CACHE_ALIAS'] did not answer. See whether it runs."),
)
_TOUCHED = "touched "


def made(told: Told) -> str:
    """Why the view ran although the page might have been in the cache."""
    if told.forwarded == "bypass":
        return not_stored(told)
    text = _FORWARDED.get(told.forwarded, "")
    if told.why_not_stored and told.forwarded != "method":
        text = f"{text} Nor was it stored now: {not_stored(told)}"
    return text


def not_stored(told: Told) -> str:
    """What to change so that such an answer is stored."""
    detail = told.detail
    if detail.startswith(_TOUCHED):
        return f"{vary.advice(detail.removeprefix(_TOUCHED).split(', '))}."
    if "above ENTRY_BYTES" in detail:
        return "Raise POOLING['ENTRY_BYTES'], or make the page smaller."
    for beginning, text in _DETAILS:
        if detail.startswith(beginning):
            return text
    return "" if detail else _FORWARDED.get(told.forwarded, "")  # what it says itself is enough


WRITE_IT = (
    "Write what it reads, in `locked(writes=…)` or followed by `invalidate`. In a TestCase, whose transaction is never "
    "committed, `invalidate` and POOLING['GROUPS'] take effect at the end of captureOnCommitCallbacks(execute=True)."
)
GET_AN_OLD_ONE = (
    "An old page is served where the view declares it: stale=, while another request makes the new one; "
    "stale_if_error=, when the view raises or answers 5xx."
)
ALREADY_THERE = "It was stored by an earlier request. Begin with an empty cache, as PoolingTestMixin does."
NOBODY = (
    "The answer has no Cache-Status of pooling's. Is it that of another view, such as a redirect to a login, is "
    "POOLING['ENABLED'] False, or did a middleware make an answer of its own, as ConditionalGetMiddleware makes a 304?"
)
