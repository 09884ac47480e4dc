"""Why an answer may not be stored, in words. The words appear as ``detail`` in ``Cache-Status``."""

from __future__ import annotations

import re
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase

_DIRECTIVE = re.compile(r"""([^\s,=;"]+)\s*(?:=\s*(?:"(?:[^"\\]|\\.)*"|[^\s,"]*))?""")
# Exceptions with which a view gives an answer, a 4xx: nothing has failed.
ANSWERS = (Http404, PermissionDenied, BadRequest, SuspiciousOperation, MultiPartParserError)
_FORBIDDING = ("no-store", "private", "no-cache")


def directives(value: str) -> frozenset[str]:
    """The names of the directives in a ``Cache-Control`` header, lower case; what stands in quotes is no directive."""
    return frozenset(match[1].lower() for match in _DIRECTIVE.finditer(value))


def vary_names(value: str) -> tuple[str, ...]:
    """The header names in a ``Vary`` header, lower case and sorted, without doubles."""
    return tuple(sorted({name.strip().lower() for name in value.split(",")} - {""}))


def why_not(method: str | None, response: Any) -> str | None:
    """The reason why ``response`` to a request with ``method`` may not be stored; None if it may."""
    if not isinstance(response, HttpResponseBase):
        return "not an HttpResponse"
    if method != "GET":
        return f"method {method}"
    if getattr(response, "streaming", False):
        return "streaming answer"
    if response.status_code != 200:
        return f"status {response.status_code}"
    if response.cookies or response.has_header("Set-Cookie"):
        return "Set-Cookie"
    found = directives(response.get("Cache-Control", ""))
    for name in _FORBIDDING:
        if name in found:
            return f"Cache-Control: {name}"
    if "*" in vary_names(response.get("Vary", "")):
        return "Vary: *"
    if not getattr(response, "is_rendered", True):
        return "not rendered"
    return None
