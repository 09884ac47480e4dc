"""The process's store and lock manager, made when first needed from ``POOLING["CACHE_ALIAS"]``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.conf import settings as django_settings
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from . import conf, telling
from ._forks import after_in_child
from .cache.near import Bodies
from .errors import StoreUnavailable
from .locks import LockManager, Options
from .store.memory import MemoryStore
from .store.protocol import Store
from .store.redis import RedisStore

logger = logging.getLogger("pooling.locks")

_mutex = threading.RLock()  # a signal handler may take a lock while its thread takes the process's first one
_stores: dict[tuple[str, ...], MemoryStore | RedisStore] = {}  # by what makes them the same store
_manager: LockManager | None = None
_bodies: Bodies | None = None
_namespace = ""  # behind KEY_PREFIX, see `apart`


def check_alias(alias: str) -> str:
    """Which store ``CACHES[alias]`` stands for, "memory" or "redis"; ImproperlyConfigured if none. Asks no server."""
    try:
        entry = django_settings.CACHES[alias]
    except KeyError:
        known = ", ".join(map(repr, django_settings.CACHES)) or "none"
        raise ImproperlyConfigured(
            f"POOLING['CACHE_ALIAS'] is {alias!r}, which CACHES does not have. It has {known}."
        ) from None
    backend = entry.get("BACKEND", "")
    try:
        ancestry = import_string(backend).__mro__
    except (ImportError, AttributeError) as error:
        raise ImproperlyConfigured(f"BACKEND of CACHES[{alias!r}] cannot be imported: {error}") from error
    if LocMemCache in ancestry:
        return "memory"
    if _is_among("django_redis.cache.RedisCache", ancestry):
        _check_client(alias, entry)
        return "redis"
    raise ImproperlyConfigured(
        f"POOLING['CACHE_ALIAS'] names {alias!r} with BACKEND {backend!r}, which cannot keep locks and versions. "
        f"Supported are 'django_redis.cache.RedisCache' (for any number of processes) and "
        f"'django.core.cache.backends.locmem.LocMemCache' (for one process): set CACHE_ALIAS to such an alias."
    )


def _is_among(path: str, classes: tuple[type, ...]) -> bool:
    return any(f"{one.__module__}.{one.__qualname__}" == path for one in classes)


def _check_client(alias: str, entry: Mapping[str, Any]) -> None:
    name = entry.get("OPTIONS", {}).get("CLIENT_CLASS", "django_redis.client.DefaultClient")
    try:
        ancestry = import_string(name).__mro__
    except (ImportError, AttributeError) as error:
        raise ImproperlyConfigured(f"CLIENT_CLASS of CACHES[{alias!r}] cannot be imported: {error}") from error
    sharded = _is_among("django_redis.client.sharded.ShardClient", ancestry)
    if sharded or not _is_among("django_redis.client.default.DefaultClient", ancestry):
        why = "spreads the keys over several servers" if sharded else "is no DefaultClient"
        raise ImproperlyConfigured(
            f"POOLING['CACHE_ALIAS'] names {alias!r} with CLIENT_CLASS {name!r}, which {why}: locks need one server "
            f"that has all of them. Add an alias with 'django_redis.client.DefaultClient' or "
            f"'django_redis.client.SentinelClient', and set CACHE_ALIAS to it. Of a Redis Cluster name one node."
        )


def _make_store(settings: conf.Settings) -> MemoryStore | RedisStore:
    alias = settings.CACHE_ALIAS
    if check_alias(alias) == "memory":
        location = str(django_settings.CACHES[alias].get("LOCATION", ""))
        return _stores.setdefault(("memory", location), MemoryStore())
    times = repr((settings.STORE_BUDGET, settings.NEAR_HEARTBEAT))
    prefix = settings.KEY_PREFIX + _namespace
    key = ("redis", repr(django_settings.CACHES[alias]), prefix, times)
    if key not in _stores:
        # Not at the top: a site without Redis need not have its library loaded.
        from .store._driver import RedisDriver

        cache: Any = caches[alias]
        try:
            driver = RedisDriver(cache.client.get_client(write=True))
        except (TypeError, ValueError, ImproperlyConfigured) as error:
            raise ImproperlyConfigured(
                f"POOLING['CACHE_ALIAS'] names {alias!r}, of which no client of Redis can be made: "
                f"{str(error).rstrip('.')}. Correct LOCATION or OPTIONS of CACHES[{alias!r}]."
            ) from error
        made = RedisStore(driver, prefix=prefix, budget=settings.STORE_BUDGET, heartbeat=settings.NEAR_HEARTBEAT)
        _stores.setdefault(key, made)
    return _stores[key]


def manager() -> LockManager:
    """The lock manager of this process. ImproperlyConfigured if CACHE_ALIAS names no supported cache."""
    global _manager
    found = _manager
    if found is None:
        settings = conf.settings()
        check_alias(settings.CACHE_ALIAS)
        with _mutex:
            if _manager is None:
                options = Options(wait=settings.LOCK_WAIT, lease=settings.LOCK_LEASE, ranks=settings.ranks)
                made = LockManager(_make_store(settings), options, on_lost=telling.lost)
                if _manager is None:  # nor has a signal handler made one in the meantime
                    _manager = made
            found = _manager
    return found


def store() -> Store:
    """The store of locks, epochs and cached entries of this process."""
    return manager().store


def bodies() -> Bodies:
    """The pages in this process's memory. One place for all stores: no two ever have equal epochs."""
    global _bodies
    found = _bodies
    if found is None:
        with _mutex:
            if _bodies is None:
                made = Bodies(conf.settings().NEAR_CACHE_BYTES)
                _bodies = _bodies or made
            found = _bodies
    return found


def release(held: Any) -> None:
    """Give back what `manager` gave. Never raises for a store that fails: the view's answer, or error, comes first."""
    owner = getattr(held, "_manager", None)
    if owner is None:
        return  # POOLING["ENABLED"] is False
    try:
        owner.release(held)
    except Exception:
        logger.exception(
            "The lock %r could not be released; its lease frees it", held, extra=getattr(held, "fields", None)
        )


def advance(token: int) -> None:
    """After a fence that bears a newer token than a holder's: see that the store gives newer ones from now on.

    Where the newer holder is of this store, it does so anyway. But a store that failed over to a replica that lags, or
    whose clock is behind, may have forgotten what it gave: then every holder would be refused until its clock is there.
    """
    try:
        behind = store().advance(token)
    except (StoreUnavailable, ValueError) as error:
        logger.error(
            "The store's tokens may be older than the fences in the database: %s",
            error,
            extra={"token": token, "error": type(error).__name__},
        )
        return
    if behind:
        logger.warning(
            "The store's tokens were older than the fences in the database: it has lost some (a failover, a wipe), or "
            "a clock goes wrong. It goes on from %d.",
            token,
            extra={"token": token},
        )


def reset_runtime() -> None:
    """Forget store, manager and pages; the next use makes new ones from the settings. For tests."""
    global _manager, _bodies
    with _mutex:
        for known in _stores.values():
            known.close()
        _stores.clear()
        _manager = _bodies = None


def stores() -> list[MemoryStore | RedisStore]:
    """All stores that were made since the process began, or since `apart` was entered."""
    with _mutex:
        return list(_stores.values())


@contextmanager
def apart(namespace: str) -> Iterator[None]:
    """Meanwhile all threads have a store, a manager and pages of their own; in Redis under keys of ``namespace`` behind
    KEY_PREFIX, which are deleted at the end. For tests."""
    before = _enter(namespace, {})
    try:
        yield
    finally:
        with _mutex:
            mine = list(_stores.values())
        _enter(*before)
        for store in mine:
            if isinstance(store, RedisStore):
                try:
                    store.wipe()
                except StoreUnavailable as error:
                    logger.warning(
                        "Keys that begin with %r stay in Redis: %s",
                        store.tag,
                        error,
                        extra={"error": type(error).__name__},
                    )
            store.close()


def _enter(
    namespace: str, stores: dict[tuple[str, ...], MemoryStore | RedisStore]
) -> tuple[str, dict[tuple[str, ...], MemoryStore | RedisStore]]:
    """Use these from now on; what was used before."""
    global _namespace, _stores, _manager, _bodies
    with _mutex:
        before = _namespace, _stores
        _namespace, _stores = namespace, stores
        _manager = _bodies = None  # made anew, over the same store: the settings may have changed meanwhile
    return before


def _forget(*, setting: str, **kwargs: Any) -> None:
    global _manager, _bodies
    if setting in ("POOLING", "CACHES"):
        with _mutex:
            _bodies = None
            _manager = None  # the stores stay: locks that are held go on in them


def _after_fork_in_child() -> None:
    global _mutex, _bodies
    _mutex = threading.RLock()  # another thread may have had it at the moment of the fork
    _bodies = None  # or been in the middle of changing them


setting_changed.connect(_forget)
after_in_child(_after_fork_in_child)
