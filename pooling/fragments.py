"""A fragment of a template in the cache: `render`, for the tag ``{% locked_cache %}``.

There is no lock and no waiting for others: two requests may make the same fragment side by side. A fragment that is
found counts only under the present versions of its groups. It is stored only if these had the same values before
anything in it can have been read: at the grant of the page that it is in, or before the request began (`sightings`).
Versions captured when the fragment is begun would prove nothing, since the view has read before.

What contains a fragment, be it a page or another fragment, is made from its groups as well. With the fragment it hears
of the versions under which that was made, if they are known, and is stored under these, too.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import connections, transaction
from django.urls import get_script_prefix, get_urlconf
from django.utils.safestring import SafeString, mark_safe

from . import conf, containers, frames, runtime, sightings
from .cache import frame, keys, locales, personal
from .cache.options import MILLISECOND
from .containers import Container
from .errors import StoreUnavailable
from .groups import read_epochs
from .store.protocol import Vector

logger = logging.getLogger("pooling.cache")


@dataclass(frozen=True)
class Declared:
    """One fragment at one rendering: ``timeout`` in seconds; ``groups`` that it is made from; ``values`` by which it
    differs and the visitor's things that they ``covered``; ``why`` it is not to be cached, if so."""

    name: str
    identity: tuple[str | None, ...]
    timeout: float
    groups: tuple[str, ...]
    values: tuple[object, ...]
    covered: frozenset[str]
    why: str | None = None


def render(declared: Declared, context: Any, body: Callable[[Any], str]) -> SafeString:
    """The fragment from the store, else ``body(context)``, which is stored if that is safe."""
    around = containers.current()
    now = time.time()
    why, key = declared.why, ""
    if not declared.groups:
        why = "its reads= name no group, so nobody could ever invalidate it"
    if why is None:
        try:
            key = keys.fragment_key(_identity(declared, context), declared.values)
        except keys.NoKey as error:
            why = f"vary_on: {error}"
    if why is not None:
        _warn(declared, why)
    epochs = read_epochs(declared.groups)
    vector: Vector | None = None
    if why is None and declared.timeout >= MILLISECOND:
        try:
            page, vector = _look_for(key, epochs, now)
        except StoreUnavailable as error:
            logger.debug("%s is rendered without the store: %s", declared.name, error, extra=_about(declared))
        else:
            if page is not None:
                if around is not None:
                    ends = page.created + page.ttl
                    around.contain(declared.groups, ends, vector)
                    around.contain(page.reads, ends, page.vector[len(epochs) :])
                return mark_safe(page.body.decode("utf-8", "surrogatepass"))
    proven = vector is not None and _known_before(around, epochs, vector)
    outer = None if around is None else around.tracker
    with personal.watched(context, outer) as tracker:
        inner = Container(tracker)
        inner.captured = {} if around is None else around.captured
        with containers.entered(inner):
            text = body(context)
    if around is not None:
        for what in tracker.touched:
            if not what.startswith("request."):  # the address is in every page's key, and a fragment has seen it itself
                around.tracker.note(what)
        for group in inner.contents:
            around.contain((group,), inner.ends, inner.vector((group,)))
        ends = now + declared.timeout if declared.timeout > 0 else inner.ends
        around.contain(declared.groups, ends, vector if proven else None)
    if vector is not None and not _forbidden(declared, tracker):
        if proven:
            _store(declared, key, text, inner, epochs, vector)
        else:
            _look(declared, epochs, vector)
    return mark_safe(text)


def _look_for(key: str, epochs: tuple[str, ...], now: float) -> tuple[frame.Page | None, Vector]:
    """The entry, if it counts, and the values of the epochs. StoreUnavailable."""
    store = runtime.store()
    found = store.fetch(key, epochs)
    page = frame.decode(found.entry)
    if not isinstance(page, frame.Page) or now >= page.created + page.ttl:
        return None, found.vector
    vector = found.vector + store.epochs(read_epochs(page.reads))
    return (page if page.vector == vector else None), found.vector


def _identity(declared: Declared, context: Any) -> tuple[keys.Part, ...]:
    request = personal.request_of(context)
    address: tuple[str | None, ...] = ()
    if request is not None:
        namespace = getattr(getattr(request, "resolver_match", None), "namespace", None)  # {% url %} goes by it
        address = (request.scheme, request.get_host(), namespace)
    formats = f"{context.autoescape} {context.use_l10n} {context.use_tz}"
    return (
        declared.identity,
        declared.groups,
        address,
        (get_script_prefix(), str(get_urlconf())),
        locales.locale(),
        formats,
    )


def _known_before(around: Container | None, epochs: tuple[str, ...], vector: Vector) -> bool:
    captured = {} if around is None else around.captured
    return tuple(captured.get(name) for name in epochs) == vector or sightings.before_request(epochs, vector)


def _forbidden(declared: Declared, tracker: Any) -> bool:
    touched = sorted(tracker.touched - declared.covered)
    if touched:
        _warn(
            declared,
            f"it touched {', '.join(touched)}, which its vary_on does not tell apart. Add for instance "
            f"vary_on=user.pk, vary_on=request.session.KEY or vary_on=request.path, or take it out of the fragment",
        )
    return bool(touched) or tracker.session_modified


def _look(declared: Declared, epochs: tuple[str, ...], vector: Vector) -> None:
    logger.debug(
        "%s is not stored: its versions were not known before this request began",
        declared.name,
        extra=_about(declared),
    )
    try:
        sightings.note(runtime.store(), declared.groups, epochs, vector)
    except StoreUnavailable as error:
        logger.debug(
            "%s: whether its groups are being written is not known: %s", declared.name, error, extra=_about(declared)
        )


def _store(declared: Declared, key: str, text: str, inner: Container, epochs: tuple[str, ...], vector: Vector) -> None:
    reads = inner.undeclared(declared.groups)
    others = inner.vector(reads)
    if others is None:
        return  # those have looked, so that the next request knows their versions
    epochs, vector = epochs + read_epochs(reads), vector + others
    ttl = min(declared.timeout, inner.left())
    data = text.encode("utf-8", "surrogatepass")
    most = conf.settings().ENTRY_BYTES
    if len(data) > most:
        _warn(declared, f"it has {len(data)} bytes, above POOLING['ENTRY_BYTES'], {most}")
        return
    if ttl < MILLISECOND:
        return
    page = frame.Page(200, "", (), data, vector, time.time(), ttl, reads=reads)
    _after_commits(functools.partial(_put, declared.name, key, frame.encode(page), ttl, epochs, vector))


def _put(name: str, key: str, entry: bytes, ttl: float, epochs: tuple[str, ...], vector: Vector) -> None:
    try:
        stored = runtime.store().put(key, entry, ttl, epochs, vector)
    except StoreUnavailable as error:
        logger.debug("%s is not stored: %s", name, error, extra={"view": name, "error": type(error).__name__})
    else:
        if not stored:
            logger.debug(
                "%s is not stored: what it reads has changed meanwhile, or it is too large", name, extra={"view": name}
            )


def _after_commits(put: Callable[[], None]) -> None:
    """Not before the COMMIT of all that is open: what was read may have been written in this very transaction."""
    waiting = [one.alias for one in connections.all(initialized_only=True) if one.in_atomic_block]
    elsewhere: list[str] = []

    def next_one() -> None:
        if waiting:
            transaction.on_commit(next_one, using=waiting.pop())
        else:
            put()

    def one_elsewhere() -> None:
        elsewhere.pop()
        if not elsewhere:
            put()

    if not waiting:  # in async code the transactions of a hold are open in the database's thread, not here
        elsewhere += [alias for alias in connections if frames.at_commit(one_elsewhere, [alias])]
    if not elsewhere:
        next_one()


def _about(declared: Declared) -> dict[str, Any]:
    """Fields of a record of the log."""
    return {"view": declared.name, "groups": list(declared.groups)}


def _warn(declared: Declared, why: str) -> None:
    containers.warn_once(declared.name, (why,), "%s is not cached: %s.", declared.name, why)
