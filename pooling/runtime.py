"""The process's store and lock manager, made when first needed from ``POOLING["CACHE_ALIAS"]``."""

from __future__ import annotations

import logging
import threading
from typing import Any

from django.conf import settings as django_settings
from django.core.cache.backends.locmem import LocMemCache
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from . import conf
from ._forks import after_in_child
from .locks.manager import LockManager, Options
from .store.memory import MemoryStore
from .store.protocol import Store

logger = logging.getLogger("pooling.locks")

_mutex = threading.Lock()
_stores: dict[str, MemoryStore] = {}  # by LOCATION, as LocMemCache does
_manager: LockManager | None = None


def check_alias(alias: str) -> str:
    """LOCATION of the in-process store that ``CACHES[alias]`` stands for; ImproperlyConfigured if it is none."""
    try:
        entry = django_settings.CACHES[alias]
    except KeyError:
        known = ", ".join(map(repr, django_settings.CACHES)) or "none"
        raise ImproperlyConfigured(
            f"POOLING['CACHE_ALIAS'] is {alias!r}, which CACHES does not have. It has {known}."
        ) from None
    backend = entry.get("BACKEND", "")
    if backend.startswith("django_redis."):
        raise ImproperlyConfigured(
            f"POOLING['CACHE_ALIAS'] names {alias!r}, a django-redis cache. What exists now is the in-process store: "
            f"set CACHE_ALIAS to an alias with BACKEND 'django.core.cache.backends.locmem.LocMemCache'."
        )
    try:
        known_class = issubclass(import_string(backend), LocMemCache)
    except (ImportError, TypeError) as error:
        raise ImproperlyConfigured(f"BACKEND of CACHES[{alias!r}] cannot be imported: {error}") from error
    if not known_class:
        raise ImproperlyConfigured(
            f"POOLING['CACHE_ALIAS'] names {alias!r} with BACKEND {backend!r}, which cannot keep locks and versions. "
            f"Supported is 'django.core.cache.backends.locmem.LocMemCache' (in-process): set CACHE_ALIAS to "
            f"such an alias."
        )
    return str(entry.get("LOCATION", ""))


def manager() -> LockManager:
    """The lock manager of this process. ImproperlyConfigured if CACHE_ALIAS names no supported cache."""
    global _manager
    found = _manager
    if found is None:
        settings = conf.settings()
        location = check_alias(settings.CACHE_ALIAS)
        with _mutex:
            if _manager is None:
                store = _stores.setdefault(location, MemoryStore())
                options = Options(wait=settings.LOCK_WAIT, lease=settings.LOCK_LEASE, ranks=settings.ranks)
                _manager = LockManager(store, options)
            found = _manager
    return found


def store() -> Store:
    """The store of locks, epochs and cached entries of this process."""
    return manager().store


def release(held: Any) -> None:
    """Give back what `manager` gave. Never raises for a store that fails: the view's answer, or error, comes first."""
    owner = getattr(held, "_manager", None)
    if owner is None:
        return  # POOLING["ENABLED"] is False
    try:
        owner.release(held)
    except Exception:
        logger.exception("The lock %r could not be released; its lease frees it", held)


def reset_runtime() -> None:
    """Forget store and manager; the next use makes new ones from the settings. For tests."""
    global _manager
    with _mutex:
        for memory in _stores.values():
            memory.close()
        _stores.clear()
        _manager = None


def _forget(*, setting: str, **kwargs: Any) -> None:
    global _manager
    if setting in ("POOLING", "CACHES"):
        with _mutex:
            _manager = None  # the stores stay: locks that are held go on in them


def _after_fork_in_child() -> None:
    global _mutex
    _mutex = threading.Lock()  # another thread may have had it at the moment of the fork


setting_changed.connect(_forget)
after_in_child(_after_fork_in_child)
