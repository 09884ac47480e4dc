"""What a decorator or a ``with`` declares: `Spec`. Validated when it is made; turned into a plan at each call."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, connections

from . import conf, fences
from .errors import GroupError
from .groups import Plan, Template, validate

Source = Template | Callable[..., Iterable[str]]
_signatures: weakref.WeakKeyDictionary[Any, inspect.Signature | None] = weakref.WeakKeyDictionary()
_declared: weakref.WeakKeyDictionary[Any, Spec] = weakref.WeakKeyDictionary()
_decorators: weakref.WeakKeyDictionary[Any, Spec] = weakref.WeakKeyDictionary()


def is_request(value: object) -> bool:
    """Is it a Django request, as far as a decorator can tell?"""
    return hasattr(value, "META")


def name_of(func: Any) -> str:
    """Dotted name of a view for messages. What as_view() made is called by its class."""
    while isinstance(func, functools.partial):
        func = func.func
    func = getattr(func, "view_class", func)
    module = getattr(func, "__module__", None)
    name = getattr(func, "__qualname__", None) or type(func).__qualname__
    return f"{module}.{name}" if module else str(name)


@dataclass(frozen=True)
class Spec:
    """The declaration of one hold.

    ``reads``, ``writes``  templates, and callables that return groups.
    ``wait``, ``lease``    seconds; None takes ``POOLING["LOCK_WAIT"]``, ``["LOCK_LEASE"]``.
    ``atomic``             open transactions; ``using`` names their aliases, None chooses (see `aliases`).
    ``fence``              claim fences: needs writes, a store shared between processes and MySQL or MariaDB; None takes
                           ``POOLING["FENCE"]`` where there are all of them.
    ``what``               name of the decorator, for messages.
    """

    reads: tuple[Source, ...] = ()
    writes: tuple[Source, ...] = ()
    wait: float | None = None
    lease: float | None = None
    atomic: bool = True
    using: tuple[str, ...] | None = None
    fence: bool | None = None
    what: str = "locked"

    @classmethod
    def make(
        cls,
        reads: Any = (),
        writes: Any = (),
        *,
        wait: Any = None,
        lease: Any = None,
        atomic: Any = True,
        using: Any = None,
        fence: Any = None,
        what: str = "locked",
    ) -> Spec:
        """Validate what a user wrote. GroupError for a malformed template, TypeError for a value of the wrong type,
        ImproperlyConfigured for impossible seconds."""
        if not isinstance(atomic, bool):
            raise TypeError(f"{what}(atomic=…) must be True or False, not {atomic!r}.")
        if fence is not None and not isinstance(fence, bool):
            raise TypeError(f"{what}(fence=…) must be True, False or None, not {fence!r}.")
        if using is not None:
            using = (using,) if isinstance(using, str) else tuple(using) if isinstance(using, Iterable) else ()
            if not using or not all(isinstance(alias, str) and alias for alias in using):
                raise TypeError(f"{what}(using=…) must be a database alias or a list of them.")
            if not atomic:
                raise TypeError(f"{what}(atomic=False, using=…): without a transaction there is no alias to name.")
        if fence and not atomic:
            raise TypeError(
                f"{what}(atomic=False, fence=True): a fence is claimed in the transaction, and there is none. Leave "
                f"one of the two out."
            )
        spec = cls(
            reads=_sources(what, "reads", reads),
            writes=_sources(what, "writes", writes),
            wait=None if wait is None else conf.seconds(f"{what}(wait=…)", wait, zero=True),
            lease=None if lease is None else conf.lease(f"{what}(lease=…)", lease),
            atomic=atomic,
            using=using,
            fence=fence,
            what=what,
        )
        if fence and spec.reads and not spec.writes:
            raise TypeError(
                f"{what}(fence=True) without writes: a fence keeps a holder that lost its lock from writing, and this "
                f"one only reads. Leave fence out, or declare what is written: {what}(writes=['accounts/7'])."
            )
        if not spec.reads and not spec.writes:
            if what == "locked_cache":
                advice = "Declare what the page is made from: locked_cache(300, reads=['events'])."
            else:
                advice = f"Declare what is read or written: {what}(writes=['accounts/7'])."
            raise TypeError(f"{what}() names no groups. {advice}")
        return spec

    def only_reads(self) -> Spec:
        """The same without the writes."""
        return dataclasses.replace(self, writes=())

    def placeholders(self) -> tuple[str, ...]:
        """Names of the view's arguments that the templates use."""
        return tuple(
            name for source in self.reads + self.writes if isinstance(source, Template) for name in source.names
        )

    def plan(self, func: Callable[..., Any], request: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Plan:
        """What this call locks. ``request`` is None for plain functions; ``args`` come after it. GroupError for an
        argument that the view does not have, and for malformed groups from a callable."""
        positional = args if request is None else (request, *args)
        lookup = _Arguments(func, positional, kwargs)

        def fill(source: Source) -> Iterable[str]:
            if isinstance(source, Template):
                lookup.source = source.source
                return (source.fill(lookup),)
            groups = source(*positional, **kwargs)
            if isinstance(groups, str) or not isinstance(groups, Iterable):
                raise GroupError(
                    f"{name_of(source)}, called for {name_of(func)}, must return a list of groups, not {groups!r}."
                )
            try:
                return [validate(group) for group in groups]
            except GroupError as error:
                raise GroupError(f"{name_of(source)}, called for {name_of(func)}, returned: {error}") from error

        return self._plan(fill)

    def fixed_plan(self) -> Plan:
        """The plan of a ``with``, where there are no arguments."""

        def fill(source: Source) -> Iterable[str]:
            if not isinstance(source, Template):
                raise GroupError(
                    f"`with {self.what}(…)` has no view arguments to call {name_of(source)} with. Name the "
                    f"groups themselves."
                )
            if source.names:
                raise GroupError(
                    f"`with {self.what}(…)` has no view arguments to fill {source.source!r} with. Make the group from "
                    f"the value: pooling.group('events', event_id)."
                )
            return (source.source,)

        return self._plan(fill)

    def _plan(self, fill: Callable[[Source], Iterable[str]]) -> Plan:
        reads = tuple(group for source in self.reads for group in fill(source))
        writes = tuple(group for source in self.writes for group in fill(source))
        return conf.settings().plan(reads, writes)

    def aliases(self, *, view: bool, declined: Callable[[str], bool] | None = None) -> tuple[str, ...]:
        """Aliases whose transactions the hold opens, in the order of ``DATABASES``, the same everywhere.

        ``using``, where given; for views, and without ``using``, every alias with ATOMIC_REQUESTS; for writes without
        ``using`` the default alias. ``declined`` says which ones ``transaction.non_atomic_requests`` took out.
        """
        if not self.atomic:
            return ()
        known = connections.settings
        declined = declined or (lambda alias: False)
        wanted = set(self.using or ())
        if unknown := wanted - set(known):
            raise ImproperlyConfigured(
                f"{self.what}(using=…) names {sorted(unknown)[0]!r}, which DATABASES does not have. It has "
                f"{', '.join(map(repr, known))}."
            )
        if self.using is None or view:
            wanted.update(alias for alias in known if known[alias].get("ATOMIC_REQUESTS") and not declined(alias))
        database = known[DEFAULT_DB_ALIAS]["ENGINE"] != "django.db.backends.dummy"  # a project may have none
        if self.using is None and self.writes and database and not declined(DEFAULT_DB_ALIAS):
            wanted.add(DEFAULT_DB_ALIAS)
        return tuple(alias for alias in known if alias in wanted)

    def check_fence(self, *, shared: bool, aliases: tuple[str, ...]) -> None:
        """ImproperlyConfigured if fencing is demanded and cannot be had: of a store that is not ``shared`` with other
        processes, or of transactions on ``aliases`` none of which has fences."""
        if not self.fence:
            return
        if not shared:
            raise ImproperlyConfigured(
                f"{self.what}(fence=True) needs a lock store shared between processes, but POOLING['CACHE_ALIAS'] "
                f"names the in-process one, whose tokens mean nothing elsewhere. Leave fence out, or name a "
                f"django-redis alias there."
            )
        if not any(map(fences.is_fenced, aliases)):
            which = f"those on {', '.join(map(repr, aliases))} have none" if aliases else "this call opens none"
            raise ImproperlyConfigured(
                f"{self.what}(fence=True) needs a transaction on MySQL or MariaDB in which the fence is claimed, but "
                f"{which}. Name such an alias with using=…, or leave fence out."
            )

    def is_fenced(self, store: Any) -> bool:
        """Do the write transactions of this hold claim fences?"""
        if not self.atomic or not store.shared:
            return False
        return conf.settings().FENCE if self.fence is None else self.fence

    def complete(self, func: Callable[..., Any] | None, result: Any) -> Any:
        """Refuse a coroutine from a function that looked synchronous: it would run after the unlock."""
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError(
                f"{name_of(func)} is not declared `async def` but returned a coroutine, which would run without the "
                f"lock. Mark it with asgiref.sync.markcoroutinefunction, or decorate the async function itself."
            )
        return result


def _sources(what: str, name: str, value: Any) -> tuple[Source, ...]:
    if isinstance(value, (str, bytes)):
        raise TypeError(f"{what}({name}={value!r}): give a list, {name}=[{value!r}].")
    if callable(value):
        raise TypeError(f"{what}({name}=…) needs a list, not {value!r}. Write @{what}({name}=['group']) with the call.")
    if not isinstance(value, Iterable) or isinstance(value, Mapping):
        raise TypeError(f"{what}({name}=…) must be a list of groups, templates or callables, not {value!r}.")
    sources = tuple(source if callable(source) else Template.parse(source) for source in value)
    for source in sources:
        if inspect.iscoroutinefunction(source) or inspect.iscoroutinefunction(type(source).__call__):
            raise TypeError(
                f"{what}({name}=…): {name_of(source)} is an `async def`, and nothing is awaited to know the groups. "
                f"Write it with `def`."
            )
    return sources


# --- arguments of views -----------------------------------------------------------------------------------------------


def signature_of(func: Any) -> inspect.Signature | None:
    """The signature that a call of ``func`` is bound by; None if it cannot be known.

    method_decorator hands over a partial of a bound method whose ``__wrapped__`` is the *unbound* function, and
    as_view() copies the attributes of a decorated dispatch to the view: following ``__wrapped__`` there would count
    ``self``.
    """
    if (
        isinstance(func, functools.partial)
        and not func.args
        and not func.keywords
        and isinstance(func.func, MethodType)
    ):
        func = func.func
    dropped = 0
    if isinstance(func, MethodType):
        func, dropped = func.__func__, 1
    if not dropped and not isinstance(func, functools.partial):
        try:
            return _signatures[func]
        except (KeyError, TypeError):
            pass
    inner = func
    while (
        hasattr(inner, "__wrapped__") and not isinstance(inner, functools.partial) and not hasattr(inner, "view_class")
    ):
        inner = inner.__wrapped__
    try:
        found = inspect.signature(inner, follow_wrapped=False)
    except (TypeError, ValueError):  # some builtins have none
        return None
    if dropped:
        return found.replace(parameters=list(found.parameters.values())[1:])
    if not isinstance(func, functools.partial):
        _signatures[func] = found
    return found


@dataclass
class _Arguments:
    """Looks up one call's arguments by name: keywords first, then positional ones and defaults by signature."""

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    source: str = ""
    bound: dict[str, Any] | None = None

    def __call__(self, name: str) -> Any:
        if name in self.kwargs:
            return self.kwargs[name]
        if self.bound is None:
            self.bound = self._bind()
        if name not in self.bound:
            known = ", ".join(map(repr, dict.fromkeys([*self.bound, *self.kwargs]))) or "none"
            raise GroupError(
                f"Group template {self.source!r} of {name_of(self.func)} uses {{{name}}}, but this call has "
                f"no argument of that name; it has {known}. Correct the template, name the "
                f"argument {name!r}, or use a callable."
            )
        return self.bound[name]

    def _bind(self) -> dict[str, Any]:
        signature = signature_of(self.func)
        if signature is None:
            return {}
        bound = signature.bind(*self.args, **self.kwargs)  # a TypeError here is what the call itself would raise
        bound.apply_defaults()
        return bound.arguments


def declare(wrapper: Any, func: Any, spec: Spec) -> None:
    """Remember a decorated function, weakly, for the system checks."""
    if not isinstance(func, functools.partial):  # method_decorator makes one per request
        _declared[wrapper] = spec


def declared() -> list[tuple[Any, Spec]]:
    """All decorated functions that still exist, with what they declare."""
    return list(_declared.items())


def declare_decorator(decorator: Any, spec: Spec) -> None:
    """Remember a decorator that is a mere function, weakly: method_decorator keeps it and applies it at each call."""
    _decorators[decorator] = spec


def spec_of_decorator(decorator: Any) -> Spec | None:
    """What `declare_decorator` was told; None for the decorators of others."""
    try:
        return _decorators.get(decorator)
    except TypeError:  # cannot be referred to weakly, or has no hash
        return None


def missing_arguments(func: Any, spec: Spec) -> list[str]:
    """Placeholders that no call of ``func`` can fill, as far as its signature tells."""
    signature = signature_of(func)
    if signature is None or any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values()):
        return []
    return [name for name in dict.fromkeys(spec.placeholders()) if name not in signature.parameters]
