"""Which addresses of the site lead to cached views, and what these read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

from django.conf import settings
from django.http import Http404
from django.urls import URLPattern, get_resolver, resolve
from django.utils.http import RFC3986_SUBDELIMS
from django.utils.regex_helper import normalize

from .groups import Template

READS = "_pooling_reads"  # attribute of a cached view, which decorators around it and as_view() pass on


def script_name() -> str:
    """Where the site is mounted, as far as the settings know it."""
    return (settings.FORCE_SCRIPT_NAME or "").rstrip("/")


def in_site(path: str) -> str:
    """The part of a path that the URLs are about."""
    script = script_name()
    return (path.removeprefix(script) if path == script or path.startswith(script + "/") else path) or "/"


def fixed() -> list[str]:
    """The paths of cached views that stand in the URLs without an argument, in the order of the URLs. Under
    ``i18n_patterns`` they are those of the active language. Not those of a regular expression that Django's `reverse`
    cannot turn around."""
    paths = [
        script_name() + "/" + quote(text, safe=RFC3986_SUBDELIMS + "/~:@")
        for pattern, callback in _walk(get_resolver().url_patterns, "")
        if hasattr(callback, READS)
        for text in _texts(pattern)
        if _leads_to(text, callback)
    ]
    return list(dict.fromkeys(paths))


def may_read(path: str, group: str) -> bool:
    """May a write of ``group`` make the page at this path a miss? True as well where that is not known: if its groups
    come from a callable, or if no cached view is there."""
    try:
        callback = resolve(unquote(in_site(path))).func
    except Http404:
        return True
    return any(_meets(source, group) for source in getattr(callback, READS, (None,)))


def _walk(patterns: Any, before: str) -> Iterator[tuple[str, Any]]:
    for one in patterns:
        whole = before + one.pattern.regex.pattern.removeprefix("^")
        if isinstance(one, URLPattern):
            yield whole, one.callback
        else:
            yield from _walk(one.url_patterns, whole)


def _texts(pattern: str) -> list[str]:
    """What matches the pattern, as far as Django can tell, if it has no arguments."""
    try:
        return [text for text, arguments in normalize(pattern) if not arguments]
    except ValueError:  # one that it does not turn around, such as ``(?i:news)``
        return []


def _leads_to(text: str, callback: Any) -> bool:
    """Of some patterns that it does not understand, such as those with alternatives, Django makes an empty text."""
    try:
        return resolve("/" + text).func is callback
    except Http404:
        return False


def _meets(source: Any, group: str) -> bool:
    """Is one of the two above the other, for some value of each placeholder?"""
    if not isinstance(source, Template):
        return True
    pairs = zip(source.levels, group.split("/"), strict=False)
    return all(is_name or text == level for (text, is_name), level in pairs)
