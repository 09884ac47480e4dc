"""`locked_cache` and `invalidate`: pages that are cached under the groups they read.

A hit asks the store once and the database never. A miss takes the view's read locks, and with them, in the same
step, the epochs of what it reads: before BEGIN, hence before any snapshot. The page is stored after COMMIT and
before the unlock, together with those epochs, and counts only as long as they have not changed. One request computes
a page, those who come meanwhile wait for it and take it from the store.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from typing import Any, cast

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from . import conf, containers, hold, runtime
from .addresses import Addresses
from .cache import answers, keys, stats, vary
from .cache.invalidate import invalidate
from .cache.options import MILLISECOND, CacheOptions
from .cache.vary import vary_by
from .errors import LockOrderError, StoreUnavailable
from .routes import READS
from .searching import AGAIN
from .single_flight import Pass
from .spec import Spec, declare, declare_decorator
from .wrapping import TakenOver, is_async_view, refuse_undecoratable

__all__ = ["invalidate", "locked_cache", "vary_by"]

logger = logging.getLogger("pooling.cache")


def locked_cache(
    timeout: float | None,
    *,
    reads: Any,
    writes: Any = (),
    vary_on: Iterable[Any] = (),
    cache: str | None = None,
    key_prefix: str | None = None,
    wait: float | None = None,
    stale: float | None = None,
    stale_if_error: float | None = None,
    level: str | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Cache a view's answers for as long as nobody writes what it reads.

    ``timeout``    seconds, as in cache_page: None keeps a page until it is invalidated (ten years at most); 0 or less,
                   and what is below a millisecond, stores nothing, the view then runs under its locks only. (cache_page
                   does the same with 0; of a negative number it makes a page that is old at once, and of None the
                   alias's own time.)
    ``reads``      groups that the page is made from: templates such as ``"events/{id}"``, or callables
                   ``(request, *args, **kwargs) -> iterable of str``.
    ``writes``     groups that other methods than GET and HEAD write. They are locked for those methods only.
    ``vary_on``    "user", "session", "session:KEY", "cookie:NAME", "header:NAME", "meta:NAME" (of request.META),
                   "csrf", "language", "timezone"; "query:NAME" for the parameters that count, or "-query:NAME" for
                   those that do not (``*`` at the end stands for anything); or a callable ``(request) -> str | None``,
                   in `vary_by` if it stands for anything of the visitor. What a view touches of its visitor without
                   declaring it makes the page not stored, and a warning says what to declare; headers may be named by
                   the answer's ``Vary`` instead. "user" asks ``request.user``, which costs what the session and the
                   auth backend cost.
    ``cache``      an alias of CACHES; entries, versions and locks share one store, so it must be the one that
                   POOLING["CACHE_ALIAS"] names.
    ``key_prefix`` as in cache_page.
    ``wait``       seconds to wait at most for locks and for another request that computes the same page; None:
                   POOLING["LOCK_WAIT"]. LockTimeout after that.
    ``stale``      seconds for which a page may be served after it became old, by a write or by its timeout, while one
                   request makes the new one; that request waits for it, the others do not. None: nothing old is ever
                   served. Who gives it accepts answers that are older than the last write by as much, also right
                   after a visitor's own write.
    ``stale_if_error``  seconds for which an old page may be served instead of an exception or a 5xx answer of the
                   view. Http404, PermissionDenied and the like are answers. The error is logged with its traceback to
                   "pooling.cache"; for 5 s after it nobody tries again. None: errors are raised.
    ``level``      "validated", the default: the body is kept in the process's memory, the versions are asked for each
                   time. "near": these are known, too; the server tells of changes, and what was written elsewhere is
                   seen within POOLING["NEAR_HEARTBEAT"] seconds at the latest, what this process wrote at once.
                   "remote": nothing is kept here. Over the in-process store all three are exact.

    GET and HEAD share an entry. HEAD makes none. A request with an Authorization header is neither answered from the
    cache nor stored, unless ``vary_on`` has "header:Authorization". ``Cache-Control: no-cache`` of a request is
    ignored, as in cache_page: a visitor must not be able to make the site compute. Inside a `locked` hold a page may be
    taken from the cache, but none is stored. In a transaction in which a miss could not take its locks, LockOrderError
    is raised for hits, too.

    A page that may be stored gets an ETag, ``Vary`` for what ``vary_on`` names, and, unlike cache_page, no max-age but
    ``Cache-Control: no-cache`` (with ``private``, if visitors have pages of their own): a browser's copy cannot be
    invalidated, so it is kept but asked about before each use, and the answer is a 304 without the body as long as the
    page is the same. What the view sets itself is kept. The view does not see the request's conditions (If-None-Match,
    Range, …): it makes the whole page, which is then compared. A hit has ``Age``, the seconds since the page was made.
    POOLING["ETAGS"] = False adds nothing but ``Age``, for middleware that changes the page for each visitor.

    The view gets ``key(request, *args, **kwargs)``, the key of its entry; ``invalidate(*args, **kwargs)``, which does
    `invalidate` for the groups that it reads with these arguments (without the request; a callable in ``reads`` gets
    None for it) and so for every other page made from them; ``stats()``, what this process has counted of its requests
    (`pooling.cache.stats.CacheStats`; `pooling.cache_stats` has those of all views); and ``__wrapped__``.

    TypeError, ValueError, GroupError and ImproperlyConfigured for arguments that make no sense.
    """
    options = CacheOptions.parse(timeout, vary_on, cache, key_prefix, stale, level, stale_if_error)
    spec = Spec.make(reads, writes, wait=wait, what="locked_cache")
    if not spec.reads:
        raise TypeError(
            "locked_cache(reads=[]) names nothing that the page is made from. Use cache_page for such a page."
        )

    def decorate(func: Callable[..., Any]) -> Callable[..., Any]:
        return View(spec, options, func).wrapper()

    declare_decorator(decorate, spec)
    return decorate


class View:
    """A decorated view."""

    def __init__(self, spec: Spec, options: CacheOptions, func: Callable[..., Any]) -> None:
        refuse_undecoratable(func, spec.what)
        self.spec = spec
        self.reading = spec.only_reads()
        self.options = options
        self.func = func
        self.name = _identity(func)
        whole_query = options.vary_on.query is None
        self.addresses = Addresses(self.name, self.reading, func, options.key_prefix, by_query=whole_query)
        self.tally = stats.tally(self.name)
        self.learns = True  # may the groups of its fragments be locked with its own?
        self.taken_over = TakenOver(getattr(func, "_non_atomic_requests", ()))

    def wrapper(self) -> Callable[..., Any]:
        func = self.func

        async def awaiting(request: Any, /, *args: Any, **kwargs: Any) -> Any:
            try:
                return self.tally.note(await self.respond_async(request, args, kwargs))
            except BaseException:
                self.tally.failed()
                raise

        def calling(request: Any, /, *args: Any, **kwargs: Any) -> Any:
            try:
                return self.tally.note(self.respond(request, args, kwargs))
            except BaseException:
                self.tally.failed()
                raise

        view: Callable[..., Any] = awaiting if is_async_view(func) else calling
        wrapped = cast(Any, functools.update_wrapper(view, func))
        wrapped._non_atomic_requests = self.taken_over
        wrapped.key = self.key
        wrapped.invalidate = self.invalidate
        wrapped.stats = self.tally.stats
        setattr(wrapped, READS, self.spec.reads)
        declare(wrapped, func, self.spec)
        return cast("Callable[..., Any]", wrapped)

    # -- what the view gets

    def key(self, request: Any, /, *args: Any, **kwargs: Any) -> str:
        """The key of the entry for this request (the first-level one, if the answer has a ``Vary``)."""
        self.require_request(request)
        address = self.addresses.of(request, args, kwargs, self.options.vary_on.values(request))
        if address.unkeyed is not None:
            raise keys.NoKey(address.unkeyed)
        return address.base

    def invalidate(self, *args: Any, **kwargs: Any) -> None:
        """`invalidate` the groups that the view reads with these arguments."""
        # There is no request, but the view's first parameter is one all the same: the arguments come after it.
        invalidate(*self.reading.plan(self.func, None, (None, *args), kwargs).reads)

    # -- running it

    def respond(self, request: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.require_request(request)
        if not conf.settings().ENABLED:
            return self.run(self.spec, request, args, kwargs)
        if request.method not in ("GET", "HEAD"):
            return answers.status(self.run(self.spec, request, args, kwargs), "fwd=method")
        if reason := self.bypass(request):
            response = self.run(self.reading, request, args, kwargs)
            return answers.status(response, "fwd=bypass", detail=reason)
        at = Pass(self, request, args, kwargs)
        try:
            at.open(self.options.vary_on.values(request))
            answer = at.first_look()
        except StoreUnavailable as error:
            return answers.status(self.uncached(request, args, kwargs), "fwd=bypass", detail=f"store down: {error}")
        try:
            while answer is AGAIN:
                with at.flying():
                    response = at.ride() if at.board() else AGAIN
                    if response is AGAIN:
                        with at.tracking():
                            given = at.run_arguments()
                            spec, func = given.pop("spec"), at.looking_again()
                            try:
                                response = self.run(spec, request, args, kwargs, func=func, **given)
                            except LockOrderError as error:
                                if not at.unlearn(error):
                                    raise
                                continue
                answer = at.answered(response)
        except Exception as error:
            if (answer := at.instead(error)) is None:
                if at.started or not isinstance(error, StoreUnavailable):
                    raise
                response = self.uncached(request, args, kwargs)
                return answers.status(response, "fwd=bypass", detail=f"store down: {error}")
        return answer

    async def respond_async(self, request: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.require_request(request)
        if not conf.settings().ENABLED:
            return await self.run_async(self.spec, request, args, kwargs)
        if request.method not in ("GET", "HEAD"):
            return answers.status(await self.run_async(self.spec, request, args, kwargs), "fwd=method")
        if reason := self.bypass(request):
            response = await self.run_async(self.reading, request, args, kwargs)
            return answers.status(response, "fwd=bypass", detail=reason)
        at = Pass(self, request, args, kwargs)
        try:
            at.open(await self.options.vary_on.avalues(request))
            answer = await at.first_look_async()
        except StoreUnavailable as error:
            response = await cast("Awaitable[Any]", self.func(request, *args, **kwargs))
            return answers.status(response, "fwd=bypass", detail=f"store down: {error}")
        try:
            while answer is AGAIN:
                with at.flying():
                    response = await at.ride_async() if at.board() else AGAIN
                    if response is AGAIN:
                        with at.tracking():
                            given = at.run_arguments()
                            spec, func = given.pop("spec"), at.looking_again_async()
                            try:
                                response = await self.run_async(spec, request, args, kwargs, func=func, **given)
                            except LockOrderError as error:
                                if not at.unlearn(error):
                                    raise
                                continue
                answer = at.answered(response)
        except Exception as error:
            if (answer := at.instead(error)) is None:
                if at.started or not isinstance(error, StoreUnavailable):
                    raise
                response = await cast("Awaitable[Any]", self.func(request, *args, **kwargs))
                return answers.status(response, "fwd=bypass", detail=f"store down: {error}")
        return answer

    def run(
        self, spec: Spec, request: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, func: Any = None, **given: Any
    ) -> Any:
        declined = self.taken_over.is_declined
        return hold.run(spec, func or self.func, (request, *args), kwargs, declined=declined, **given)

    async def run_async(
        self, spec: Spec, request: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, func: Any = None, **given: Any
    ) -> Any:
        declined = self.taken_over.is_declined
        return await hold.run_async(spec, func or self.func, (request, *args), kwargs, declined=declined, **given)

    def uncached(self, request: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A reading view without locks. Django's own transaction was declined, so it is opened here."""
        with ExitStack() as stack:
            for alias in self.reading.aliases(view=True, declined=self.taken_over.is_declined):
                stack.enter_context(transaction.atomic(using=alias))
            return self.func(request, *args, **kwargs)

    # -- small things

    def require_request(self, request: Any) -> None:
        if not hasattr(request, "META"):
            raise TypeError(
                f"locked_cache: {self.name} was called with {type(request).__name__} where a request is expected. On a "
                f"method, use @method_decorator(locked_cache(…), name='dispatch') on the class."
            )

    def bypass(self, request: Any) -> str | None:
        if self.options.timeout < MILLISECOND:
            return f"timeout {self.options.timeout:g}"
        meta = request.META
        if "HTTP_AUTHORIZATION" in meta and "header:authorization" not in self.options.vary_on.items:
            return "request has Authorization"
        # A body, or another encoding of the query, would change the page and is not in its key.
        if meta.get("CONTENT_LENGTH") not in (None, "", "0") or "HTTP_TRANSFER_ENCODING" in meta:
            return "request has a body"
        if request.encoding is not None and request.encoding.lower() != django_settings.DEFAULT_CHARSET.lower():
            return "request has an encoding of its own"
        return None

    def patience(self) -> float:
        wait = self.spec.wait
        return conf.settings().LOCK_WAIT if wait is None else wait

    def store(self) -> Any:
        alias = self.options.cache
        if alias is not None and alias != (wanted := conf.settings().CACHE_ALIAS):
            runtime.check_alias(alias)
            raise ImproperlyConfigured(
                f"locked_cache(cache={alias!r}) on {self.name}: entries, versions and locks share one store, that of "
                f"POOLING['CACHE_ALIAS'], {wanted!r}. Leave cache= out, or set CACHE_ALIAS to {alias!r}."
            )
        return runtime.store()

    def warn(self, touched: list[str]) -> None:
        containers.warn_once(
            self.name,
            tuple(touched),
            "%s touched %s of its visitor, so its page is not stored. %s.",
            self.name,
            ", ".join(touched),
            vary.advice(touched, self.options.vary_on.callbacks),
        )


def _identity(func: Callable[..., Any]) -> str:
    """A name for the view that is the same in every process and differs from other views' names."""
    owner = getattr(func, "view_class", None) or type(_bound_to(func))
    name = getattr(func, "__qualname__", None) or type(func).__qualname__
    module = getattr(func, "__module__", None) or type(func).__module__
    return f"{module}.{name}" + ("" if owner is type(None) else f"@{owner.__module__}.{owner.__qualname__}")


def _bound_to(func: Callable[..., Any]) -> Any:
    """The view object, where method_decorator wraps one of its methods in a partial."""
    return getattr(getattr(func, "func", func), "__self__", None)
