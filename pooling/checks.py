"""System checks. ``manage.py check`` reports

pooling.E001  POOLING is invalid: an unknown key, or a value of the wrong kind, or GROUPS names an unknown model.
pooling.E002  A group template names an argument that its view does not have.
pooling.E003  OPTIONS["pool"] of a database is invalid, or CONN_MAX_AGE is set beside a pool.
pooling.E004  POOLING["CACHE_ALIAS"] names no cache, or one that cannot keep locks and versions.
pooling.E005  A view's ``using`` names an unknown database, or its ``fence=True`` finds nothing to claim a fence with.
pooling.E006  A lock on get(), post(), … of a class-based view is inside the transaction of ATOMIC_REQUESTS.
pooling.E007  A decorator ``transaction.atomic`` is outside the lock of the same view.
pooling.E008  A decorator asks for groups that another one around it can never let it have.
pooling.W001  BusyMiddleware is not in MIDDLEWARE: a busy site answers 500 instead of 503.
pooling.W002  LOCK_LEASE is so short that a mere pause of the process loses locks.
pooling.W003  (with --deploy) Locks and pages are in each process's own memory: it must be the only one.
pooling.W004  (with --deploy) Redis may evict the lock table when its memory is full, or does not tell whether it may.
pooling.W005  (with --deploy) The Redis of locks and pages cannot be used: not reached, too old, wrong password.
pooling.W006  (with --deploy) The table of fences is missing in a database that views write.
pooling.W007  POOLING["GROUP_ORDER"] seems to misspell a group that views declare.
pooling.W008  A ``locked_cache`` is inside a ``locked``, where no page is ever stored.
pooling.W009  A decorated function calls another one that asks for groups against the order.
pooling.W010  A decorator ``transaction.atomic`` is outside the lock of a function that answers no requests.
pooling.W011  As E008, on a function that answers no requests: only a hold further out could make it work.
pooling.W012  POOLING["ON_STORE_DOWN"] is "fence", but no view has fences: it does nothing.
pooling.W013  STORE_BUDGET is so long that requests hang with Redis, or that leases run out meanwhile.
pooling.W020  POOLING["GROUPS"] names a model of a database on another backend, whose writes nobody sees.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections, router

from . import conf, fences, runtime, sources
from .errors import StoreUnavailable
from .spec import declared, missing_arguments, name_of
from .store.redis import RedisStore

MIDDLEWARE = "pooling.middleware.BusyMiddleware"
ENGINES = ("pooling.backends.mysql", "pooling.backends.mysql_gis")
SHORT_LEASE = 3.0  # seconds; a process may well stand still for one, renewing begins after a third of the lease
PROBED = "pooling"  # a group; nobody need have it
LONG_BUDGET = 5.0  # seconds for which a visitor may wait for a Redis that hangs
BUDGETS_IN_LEASE = 4  # a third of it goes by, and two attempts to renew it fit into the rest: see `conf.LEAST_LEASE`


def _views() -> list[Any]:
    # Views are declared when they are imported; without this a check would see none of them.
    if getattr(django_settings, "ROOT_URLCONF", None):
        from django.urls import get_resolver

        _ = get_resolver().url_patterns
    return declared()


def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E001, E004, W002."""
    try:
        settings = conf.parse(getattr(django_settings, "POOLING", {}))
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="Correct the POOLING setting.", id="pooling.E001")]
    found: list[CheckMessage] = list(_unknown_models(settings.GROUPS))
    if not settings.ENABLED:
        return found
    try:
        runtime.store()
    except ImproperlyConfigured as error:
        found.append(Error(str(error), hint="Correct POOLING['CACHE_ALIAS'] or CACHES.", id="pooling.E004"))
    if settings.LOCK_LEASE < SHORT_LEASE:
        found.append(
            Warning(
                f"POOLING['LOCK_LEASE'] is {settings.LOCK_LEASE:g} s: a process that stands still for so long loses "
                f"its locks in the middle of a request.",
                hint=f"Set it to {SHORT_LEASE:g} or more; it only matters to those who wait for a dead process.",
                id="pooling.W002",
            )
        )
    return found


def check_budget(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W013."""
    try:
        settings = conf.settings()
    except ImproperlyConfigured:
        return []  # E001 says so
    if not settings.ENABLED or not _is_shared():
        return []
    budget = settings.STORE_BUDGET
    lease = min([settings.LOCK_LEASE, *(spec.lease for _, spec in _views() if spec.lease is not None)])
    if budget > LONG_BUDGET:
        why = "when Redis hangs, each request that has just asked it waits for so long"
        hint = (
            f"Set it to {LONG_BUDGET:g} or less: 0.25 is plenty on one network, and 1 where sentinels are asked first."
        )
    elif budget * BUDGETS_IN_LEASE > lease:
        why = f"a lease of {lease:g} s can run out while it is being renewed, and its holder loses its groups"
        hint = f"Set it to {lease / BUDGETS_IN_LEASE:g} or less, or the lease to {budget * BUDGETS_IN_LEASE:g} or more."
    else:
        return []
    return [Warning(f"POOLING['STORE_BUDGET'] is {budget:g} s: {why}.", hint=hint, id="pooling.W013")]


def check_processes(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W003. How many processes will run cannot be seen from here, so it is asked before a deployment only."""
    try:
        settings = conf.parse(getattr(django_settings, "POOLING", {}))
        if not settings.ENABLED:
            return []
        if runtime.check_alias(settings.CACHE_ALIAS) == "redis":
            return []
    except ImproperlyConfigured:
        return []  # E001 and E004 say so
    return [
        Warning(
            "Locks and cached pages are kept in the memory of each process: two worker processes lose updates to each "
            "other and serve each other's visitors stale pages.",
            hint="Run one worker process of many threads (gunicorn: --workers 1 --threads 32), and then add "
            "'pooling.W003' to SILENCED_SYSTEM_CHECKS.",
            id="pooling.W003",
        )
    ]


def check_redis(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W004, W005. It asks the server, hence before a deployment only."""
    try:
        if not conf.settings().ENABLED:
            return []
        store = runtime.store()
    except ImproperlyConfigured:
        return []  # E001 and E004 say so
    if not isinstance(store, RedisStore):
        return []
    try:
        store.parties([PROBED])
    except StoreUnavailable as error:
        return [
            Warning(
                str(error),
                hint="Correct the alias that POOLING['CACHE_ALIAS'] names, or see to the server. As long as it is so, "
                "views that write answer 503, and pages are computed uncached.",
                id="pooling.W005",
            )
        ]
    try:
        policy = store.eviction_policy()
    except StoreUnavailable:  # the user may not ask for it
        why = "Redis does not tell its maxmemory-policy. If it is one of 'allkeys-…':"
    else:
        if not policy.startswith("allkeys"):
            return []
        why = f"Redis has the maxmemory-policy {policy!r}:"
    return [
        Warning(
            f"{why} when its memory is full it may drop the lock table, and two who exclude each other would be let in "
            f"together.",
            hint="Set maxmemory-policy to 'volatile-lru' or another that spares keys without an expiry: cached pages "
            "and versions have one, locks have none. With 'noeviction' nothing is stored when the memory is full.",
            id="pooling.W004",
        )
    ]


def check_fences(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W006, for each database whose transactions a view opens to write. It asks the databases."""
    try:
        settings = conf.settings()
        if not (settings.ENABLED and runtime.store().shared):
            return []
    except ImproperlyConfigured:
        return []  # E001 and E004 say so
    wanted: set[str] = set()
    for _, spec in _views():
        if spec.writes and spec.atomic and (settings.FENCE if spec.fence is None else spec.fence):
            with contextlib.suppress(ImproperlyConfigured):  # E005
                wanted.update(spec.aliases(view=True))
    return list(_missing_tables(sorted(wanted)))


def check_store_down(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W012."""
    try:
        settings = conf.settings()
        if not settings.ENABLED or settings.FENCE or settings.ON_STORE_DOWN != "fence" or not runtime.store().shared:
            return []
    except ImproperlyConfigured:
        return []  # E001 and E004 say so
    if any(spec.fence for _, spec in _views()):
        return []
    return [
        Warning(
            "POOLING['ON_STORE_DOWN'] is 'fence', but FENCE is False: nothing keeps writers apart while Redis is down, "
            "so they are refused.",
            hint="Set FENCE to True, or ON_STORE_DOWN to 'refuse'.",
            id="pooling.W012",
        )
    ]


def _missing_tables(aliases: Iterable[str]) -> Iterator[CheckMessage]:
    for alias in aliases:
        try:
            missing = fences.is_fenced(alias) and fences.TABLE not in connections[alias].introspection.table_names()
        except DatabaseError:
            continue  # what cannot be reached is no business of this check
        if missing:
            yield Warning(
                f"The table {fences.TABLE} is missing in the database {alias!r}: every view that writes there fails.",
                hint=f"Run `manage.py migrate pooling --database {alias}`, or set POOLING['FENCE'] to False.",
                id="pooling.W006",
            )


def _unknown_models(groups: Mapping[str, tuple[str, ...]]) -> Iterator[CheckMessage]:
    for group, names in groups.items():
        for name in names:
            try:
                sources.model_of(group, name)
            except ImproperlyConfigured as error:
                yield Error(str(error), hint="Correct it, and see that INSTALLED_APPS has the app.", id="pooling.E001")


def check_sources(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W020, for each database where a model of GROUPS is written and nobody sees it."""
    try:
        settings = conf.settings()
        models = {sources.model_of(group, name) for group, names in settings.GROUPS.items() for name in names}
    except ImproperlyConfigured:
        return []  # E001 says so
    unseen: dict[str, list[str]] = {}
    for model in models if settings.ENABLED else ():
        alias = router.db_for_write(model)
        if not getattr(connections[alias], "tells_writes", False):
            unseen.setdefault(alias, []).append(model._meta.label)
    return [
        Warning(
            f"POOLING['GROUPS'] names {', '.join(sorted(labels))}, written in the database {alias!r}, whose ENGINE "
            f"{connections.settings[alias]['ENGINE']!r} does not tell: pages made from them stay until their timeout.",
            hint=f"Set its ENGINE to {ENGINES[0]!r}, or call pooling.invalidate() where they are written, and take "
            f"them out of GROUPS.",
            id="pooling.W020",
        )
        for alias, labels in sorted(unseen.items())
    ]


def check_views(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E002, E005."""
    found: list[CheckMessage] = []
    shared = _is_shared()
    for wrapper, spec in _views():
        func = wrapper.__wrapped__
        for name in missing_arguments(func, spec):
            found.append(
                Error(
                    f"{spec.what}() of {name_of(func)} uses {{{name}}}, but that has no argument of this name.",
                    hint="Correct the template, or name the argument so.",
                    obj=name_of(func),
                    id="pooling.E002",
                )
            )
        try:
            spec.check_fence(shared=shared, aliases=spec.aliases(view=True))
        except ImproperlyConfigured as error:
            found.append(Error(f"{name_of(func)}: {error}", hint="Correct using=… or fence=….", id="pooling.E005"))
    return found


def _is_shared() -> bool:
    """Is the store one that other processes see? Also True where no store can be told: E001 and E004 say why."""
    try:
        return runtime.check_alias(conf.settings().CACHE_ALIAS) == "redis"
    except ImproperlyConfigured:
        return True


def check_pools(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E003. Only for databases on one of this package's backends."""
    return list(_pool_faults())


def _pool_faults() -> Iterator[CheckMessage]:
    from .backends.mysql.options import BackendOptions

    for alias, database in connections.settings.items():
        pool = database.get("OPTIONS", {}).get("pool")
        if database["ENGINE"] not in ENGINES or pool is None or pool is False:
            continue
        try:
            BackendOptions.parse(pool)
        except (ValueError, TypeError) as error:
            hint = "OPTIONS['pool'] is True, or a dict of options."
            yield Error(f"DATABASES[{alias!r}]['OPTIONS']['pool']: {error}", hint=hint, id="pooling.E003")
        if database.get("CONN_MAX_AGE", 0) != 0:
            yield Error(
                f"DATABASES[{alias!r}] has a pool and CONN_MAX_AGE {database['CONN_MAX_AGE']!r}: the pool keeps the "
                f"connections.",
                hint="Remove CONN_MAX_AGE; max_lifetime in OPTIONS['pool'] bounds a connection's age.",
                id="pooling.E003",
            )


def check_middleware(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """W001."""
    if MIDDLEWARE in django_settings.MIDDLEWARE:
        return []
    return [
        Warning(
            "BusyMiddleware is not in MIDDLEWARE: when the site is busy, visitors get an error 500.",
            hint=f"Add {MIDDLEWARE!r} to MIDDLEWARE, it makes that a 503 with Retry-After.",
            id="pooling.W001",
        )
    ]


def register_all() -> None:
    """Called when the app is ready. Registering again changes nothing."""
    for check in (
        check_settings,
        check_views,
        check_pools,
        check_middleware,
        check_sources,
        check_store_down,
        check_budget,
    ):
        register(check, "pooling")
    for check in (check_processes, check_redis, check_fences):
        register(check, "pooling", deploy=True)
