"""Under which key a request's page stands, and which groups it is made from: worked out once for requests that are
alike, since a hit of a page in memory costs hardly more than that."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from django.conf import settings
from django.core.signals import setting_changed

from .cache import keys, locales, vary
from .groups import Plan, read_epochs
from .spec import Spec

_MOST = 1024  # for each view
# Of these two that are equal look the same, unlike, say, 0.0 and -0.0; 1 and True are told apart by their types.
_ALIKE = frozenset((str, int, bool))


class Address(NamedTuple):
    """``base`` is the key, "" if there is none, and then ``unkeyed`` says why. ``epochs`` are those of the reads."""

    base: str
    unkeyed: str | None
    plan: Plan
    epochs: tuple[str, ...]


class Addresses:
    """Those of one view's pages. Thread-safe: what two threads work out at once is equal."""

    def __init__(self, view: str, spec: Spec, func: Any, key_prefix: str | None, *, by_query: bool) -> None:
        self._spec = spec
        self._func = func
        self._keys = keys.Keys(view, key_prefix)
        self._by_query = by_query  # the query as it came, whole
        # A callable may look at anything of the request.
        self._remembers = not any(callable(source) for source in spec.reads)
        self._known: dict[Any, Address] = {}
        _all.add(self)

    def of(self, request: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], values: vary.Values) -> Address:
        """GroupError for reads that make none; SuspiciousOperation for a host that is not allowed."""
        meta = request.META
        query = meta.get("QUERY_STRING", "") if self._by_query else None
        locale = locales.locale()
        kinds = (*map(type, args), *map(type, kwargs.values()))
        alike = None
        if self._remembers and _ALIKE.issuperset(kinds):
            host = _host(meta)
            alike = request.scheme, host, request.path, query, locale, values.pairs, args, (*kwargs.items(),), kinds
            found = self._known.get(alike)
            if found is not None:
                return found
        plan = self._spec.plan(self._func, request, args, kwargs)
        base, unkeyed = "", None
        try:
            base = self._keys.base(
                scheme=request.scheme,
                host=request.get_host(),
                path=request.path,
                query=query,
                arguments=(args, kwargs),
                locale=locale,
                vary_on=values.pairs,
            )
        except keys.NoKey as error:
            unkeyed = str(error)
        address = Address(base, unkeyed, plan, read_epochs(plan.reads))
        if alike is not None:
            if len(self._known) >= _MOST:
                self._known = {}  # rarely: a page that is asked for again is soon known again
            self._known[alike] = address
        return address


def _host(meta: Mapping[str, Any]) -> tuple[Any, ...]:
    """What Django makes out the host from; to do so itself costs more than all else here. No more is read than it
    would read, since a page around this one is told from others by what is read meanwhile."""
    by_host, by_port = _forwarded()
    forwarded = meta.get("HTTP_X_FORWARDED_HOST") if by_host else None
    port = meta.get("HTTP_X_FORWARDED_PORT") if by_port else None
    host = meta.get("HTTP_HOST")
    named = (meta.get("SERVER_NAME"), meta.get("SERVER_PORT")) if host is None else None
    return host, forwarded, port, named


@cache
def _forwarded() -> tuple[bool, bool]:
    return settings.USE_X_FORWARDED_HOST, settings.USE_X_FORWARDED_PORT


_all: weakref.WeakSet[Addresses] = weakref.WeakSet()


def _forget(**kwargs: Any) -> None:
    """Tests change settings in a running process."""
    _forwarded.cache_clear()
    for one in list(_all):
        one._known = {}


setting_changed.connect(_forget)
