"""The ``POOLING`` setting: one dict, every key optional, read when first needed and validated whole.

`settings()` returns a frozen `Settings`; tests that use ``override_settings(POOLING=…)`` get a new one.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from . import _numbers, groups
from ._names import nearest
from .errors import GroupError
from .groups import validate


@dataclass(frozen=True)
class Settings:
    """``settings.POOLING``, validated. Times in seconds, sizes in bytes. Every fault raises ImproperlyConfigured.

    ``CACHE_ALIAS``       the cache whose store has locks, versions and pages: a django-redis or a locmem alias.
    ``KEY_PREFIX``        in front of every key in Redis, and their hash tag; sites that share a Redis need one each.
    ``GROUP_ORDER``       top-level groups in the order in which they are locked; the others follow by name.
    ``GROUPS``            group -> models: a commit that wrote one of their tables renews the group, whoever wrote.
    ``LOCK_WAIT``         seconds to wait for groups at most; LockTimeout after that.
    ``LOCK_LEASE``        seconds, 1 or more, after which a dead holder's groups are free; a live one is renewed.
    ``FENCE``             with Redis: transactions of views that write claim their groups in the database.
    ``ON_STORE_DOWN``     "refuse": while Redis is down, views that write raise StoreUnavailable. "fence": they go on,
                          kept apart by the rows of their fences.
    ``STORE_BUDGET``      seconds that one request to Redis may take in all, from connecting to the end of its answer
                          (but for looking up its name).
    ``ENTRY_BYTES``       bytes of the largest answer that is stored; larger ones are delivered and not stored.
    ``NEAR_CACHE_BYTES``  bytes of pages that each process keeps in its memory; 0: none.
    ``NEAR_HEARTBEAT``    seconds by which a page of ``level="near"`` may be older than the last write at most.
    ``ETAGS``             False: cached pages get no ``ETag``, ``Vary`` or ``Cache-Control`` of ours; for middlewares
                          that change the page for each visitor.
    ``ORDER_LEARNING``    "log" or "raise": learn in which order groups and transactions are asked for, and report what
                          may deadlock. None: "log" with DEBUG or in tests, else nothing. False: nothing.
    ``PUBLISH_SECONDS``   each process tells the store so often how it is, for the status page of all; 0: never. With a
                          store in memory there is nothing to tell, and no thread is started.
    ``ENABLED``           False: no locks, no cache, views just run.
    """

    CACHE_ALIAS: str = "default"
    KEY_PREFIX: str = "pooling"
    GROUP_ORDER: tuple[str, ...] = ()
    GROUPS: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    LOCK_WAIT: float = 10.0
    LOCK_LEASE: float = 30.0
    FENCE: bool = True
    ON_STORE_DOWN: str = "refuse"
    STORE_BUDGET: float = 0.25
    ENTRY_BYTES: int = 1024 * 1024
    NEAR_CACHE_BYTES: int = 64 * 1024 * 1024
    NEAR_HEARTBEAT: float = 1.0
    ETAGS: bool = True
    ORDER_LEARNING: bool | str | None = None
    PUBLISH_SECONDS: float = 5.0
    ENABLED: bool = True

    @cached_property
    def ranks(self) -> dict[str, int]:
        """Rank of each top-level group that GROUP_ORDER names."""
        return {name: rank for rank, name in enumerate(self.GROUP_ORDER)}

    @cached_property
    def plan(self) -> Callable[[tuple[str, ...], tuple[str, ...]], groups.Plan]:
        """`groups.plan` under these ranks. It remembers the last few hundred: without that a hold of two groups of two
        levels took 109 µs instead of 92 over the in-process store."""
        return lru_cache(maxsize=512)(lambda reads, writes: groups.plan(reads, writes, self.ranks))

    @cached_property
    def learns_order(self) -> bool:
        """Does `pooling.learning` look on? With ORDER_LEARNING None: with DEBUG, and in Django's test environment."""
        if self.ORDER_LEARNING is not None:
            return bool(self.ORDER_LEARNING)
        # What `setup_test_environment` puts there; both Django's and pytest's runner call it.
        return bool(django_settings.DEBUG) or hasattr(sys.modules.get("django.core.mail"), "outbox")


# Seconds. A lease is renewed when a third of it is over, and if that failed, again a tenth of it later. Either attempt
# may take as long as the default STORE_BUDGET lets it, and the second still comes in time: 1/3 + 1/10 + 2 · 0.25 < 1.
LEAST_LEASE = 1.0


def _nonempty(where: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ImproperlyConfigured(f"{where} must be a non-empty string, not {value!r}.")
    return value


def _text(key: str, value: Any) -> str:
    return _nonempty(f"POOLING[{key!r}]", value)


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ImproperlyConfigured(f"POOLING[{key!r}] must be True or False, not {value!r}.")
    return value


def seconds(name: str, value: Any, *, zero: bool = False) -> float:
    """A finite number of seconds above zero (or zero, if ``zero``); ImproperlyConfigured naming ``name`` otherwise."""
    return _numbers.seconds(name, value, zero=zero, error=ImproperlyConfigured)


def lease(name: str, value: Any) -> float:
    """A number of seconds that a living holder's lease may have; ImproperlyConfigured naming ``name`` otherwise."""
    found = seconds(name, value)
    if found < LEAST_LEASE:
        raise ImproperlyConfigured(
            f"{name} must be at least {LEAST_LEASE:g} second, not {value!r}: a shorter lease would run out before it "
            f"can be renewed, and the holder would lose its groups at work. It does not bound how long they are held; "
            f"it only says how long a dead process keeps them."
        )
    return found


def _size(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ImproperlyConfigured(f"POOLING[{key!r}] must be a number of bytes, 0 or more, not {value!r}.")
    return value


def _group(key: str, value: Any) -> str:
    try:
        return validate(value)
    except GroupError as error:
        raise ImproperlyConfigured(f"POOLING[{key!r}]: {error}") from None


def _strings(where: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise ImproperlyConfigured(f"{where} must be a list: [{value!r}].")
    if not isinstance(value, Iterable):
        raise ImproperlyConfigured(f"{where} must be a list of strings, not {value!r}.")
    return tuple(_nonempty(f"{where}[{at}]", item) for at, item in enumerate(value))


def _group_order(key: str, value: Any) -> tuple[str, ...]:
    order = tuple(_group(key, item) for item in _strings(f"POOLING[{key!r}]", value))
    for name in order:
        if "/" in name:
            raise ImproperlyConfigured(
                f"POOLING[{key!r}] ranks top-level groups only; write {name.split('/')[0]!r} instead of {name!r}."
            )
        if order.count(name) > 1:
            raise ImproperlyConfigured(f"POOLING[{key!r}] names {name!r} twice.")
    return order


def _groups(key: str, value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, Mapping):
        raise ImproperlyConfigured(f"POOLING[{key!r}] must map groups to lists of models, not be {value!r}.")
    return {_group(key, name): _strings(f"POOLING[{key!r}][{name!r}]", models) for name, models in value.items()}


def _on_store_down(key: str, value: Any) -> str:
    if value not in ("refuse", "fence"):
        raise ImproperlyConfigured(f"POOLING[{key!r}] must be 'refuse' or 'fence', not {value!r}.")
    return str(value)


def _order_learning(key: str, value: Any) -> bool | str | None:
    if value is not None and value is not False and not (isinstance(value, str) and value in ("log", "raise")):
        raise ImproperlyConfigured(f"POOLING[{key!r}] must be None, False, 'log' or 'raise', not {value!r}.")
    return value


def _seconds(key: str, value: Any) -> float:
    return seconds(f"POOLING[{key!r}]", value)


def _lease(key: str, value: Any) -> float:
    return lease(f"POOLING[{key!r}]", value)


_VALIDATORS = {
    "CACHE_ALIAS": _text,
    "KEY_PREFIX": _text,
    "GROUP_ORDER": _group_order,
    "GROUPS": _groups,
    "LOCK_WAIT": _seconds,
    "LOCK_LEASE": _lease,
    "FENCE": _flag,
    "ON_STORE_DOWN": _on_store_down,
    "STORE_BUDGET": _seconds,
    "ENTRY_BYTES": _size,
    "NEAR_CACHE_BYTES": _size,
    "NEAR_HEARTBEAT": _seconds,
    "ETAGS": _flag,
    "ORDER_LEARNING": _order_learning,
    "PUBLISH_SECONDS": lambda key, value: seconds(f"POOLING[{key!r}]", value, zero=True),
    "ENABLED": _flag,
}


def parse(raw: Any) -> Settings:
    """Validate a ``POOLING`` dict."""
    if not isinstance(raw, Mapping):
        raise ImproperlyConfigured(f"POOLING must be a dict, not {type(raw).__name__}.")
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in _VALIDATORS:
            raise ImproperlyConfigured(f"POOLING has no key {key!r}. {nearest(key, _VALIDATORS)}")
        values[key] = _VALIDATORS[key](key, value)
    return dataclasses.replace(Settings(), **values)


_current: Settings | None = None


def settings() -> Settings:
    """The project's ``POOLING`` setting."""
    global _current
    if _current is None:
        _current = parse(getattr(django_settings, "POOLING", {}))
    return _current


def _forget(*, setting: str, **kwargs: Any) -> None:
    global _current
    if setting in ("POOLING", "DEBUG"):  # which decides on ORDER_LEARNING where that is None
        _current = None


setting_changed.connect(_forget)
