"""``POOLING["GROUPS"]``: writes that no `locked` declares renew the groups of the tables that they wrote.

The backend tells which tables a transaction wrote, just before its COMMIT and just after. After it, and before anything
else happens (``on_commit``, the answer), the epochs of their groups are renewed. No lock is needed: a page made from
the state before was made under older epochs, since a page's epochs are captured before its snapshot.

Before it the store is told that they are being written: then no page is found or stored under them until the renewal,
and if the process dies before that, `LOCK_LEASE` later they are new all the same. A hold that writes the group renews
it by itself, at its grant and at its release. In a test case, whose transaction never ends, the renewal is an
``on_commit`` callback, as `invalidate` is.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import connections, transaction
from django.db.models import Model

from . import conf, frames, runtime
from ._names import closest
from .errors import StoreUnavailable
from .groups import covers, write_epochs

if TYPE_CHECKING:
    from .backends.mysql.tables import Tables

logger = logging.getLogger("pooling.cache")

# -- which tables a group is made from


def model_of(group: str, label: str) -> type[Model]:
    """The model that ``POOLING["GROUPS"][group]`` means by ``label``. ImproperlyConfigured names the nearest."""
    try:
        return apps.get_model(label)
    except (LookupError, ValueError):
        near = closest(label, [model._meta.label for model in apps.get_models()])
        hint = f" Did you mean {near!r}?" if near else ""
        raise ImproperlyConfigured(
            f"POOLING['GROUPS'][{group!r}] names {label!r}, which is no model of an installed app; a model is named "
            f"as 'app_label.Model'.{hint}"
        ) from None


def tables_of(model: type[Model]) -> set[str]:
    """The tables of which a write changes what a page shows of ``model``.

    Its own, those of the models that it inherits from, and those between it and others (many-to-many, from either
    side); and those from which a deletion comes to one of these in the database itself (``DB_CASCADE`` and the like).
    """
    options: Any = (model._meta.concrete_model or model)._meta
    between = [field.remote_field.through for field in options.many_to_many]
    between += [
        relation.through
        for relation in options.get_fields(include_hidden=True)
        if relation.many_to_many and relation.auto_created
    ]
    tables: set[str] = set()
    waiting = [options.model, *options.get_parent_list(), *between]
    while waiting:
        options = waiting.pop()._meta
        name = _bare(options.db_table)
        if name not in tables:
            tables.add(name)
            # For Django's own deletions there are statements for each table, for those of the database none.
            waiting += [
                field.related_model
                for field in options.local_fields
                if hasattr(getattr(field.remote_field, "on_delete", None), "on_delete_sql")
            ]
    return tables


def _bare(name: str) -> str:
    """The table in a ``db_table`` that names the schema as well, as ``schema`.`table`` in backticks."""
    return name.strip("`").rpartition("`.`")[2]


def mapping(groups: Mapping[str, Collection[str]]) -> dict[str, tuple[str, ...]]:
    """The groups of each table. ImproperlyConfigured for a model that is not there."""
    found: dict[str, set[str]] = {}
    for group, labels in groups.items():
        for label in labels:
            for table in tables_of(model_of(group, label)):
                found.setdefault(table, set()).add(group)
    return {table: tuple(sorted(names)) for table, names in found.items()}


# -- what is done when they are written


class Sources:
    """The `Watch` of the backend's connections."""

    @functools.cached_property
    def groups(self) -> dict[str, tuple[str, ...]]:
        return mapping(conf.settings().GROUPS)

    @functools.cached_property
    def tables(self) -> Tables:
        from .backends.mysql.tables import Tables

        return Tables(self.groups)

    def writing(self, connection: Any, names: frozenset[str]) -> None:
        for wrapper in connections.all(initialized_only=True):
            if wrapper.__dict__.get("connection") is connection:
                if wrapper.in_atomic_block and getattr(wrapper.atomic_blocks[0], "_from_testcase", False):
                    groups = self.undeclared(names)
                    if groups:
                        transaction.on_commit(functools.partial(_renew, groups), using=wrapper.alias)
                return

    def committing(self, names: frozenset[str]) -> AbstractContextManager[Any]:
        return Renewal(self, names)

    def undeclared(self, names: Iterable[str]) -> tuple[str, ...]:
        """The groups of these tables, less those that a hold of this context renews at its release."""
        groups = {group for name in names for group in self.groups[name]}
        for frame in frames.current.get():
            if groups and frame.held is not None and frame.held.active:
                groups -= {group for group in groups if any(covers(write, group) for write in frame.held.writes)}
        return tuple(sorted(groups))


class Renewal:
    """Around a commit of writes of some tables. What fails here is logged: the commit is none of its business."""

    def __init__(self, sources: Sources, names: frozenset[str]) -> None:
        self.sources = sources
        self.names = names

    def __enter__(self) -> Renewal:
        self.groups = self.sources.undeclared(self.names)
        self.word = os.urandom(8).hex()
        if self.groups:
            _announce(self.groups, self.word)
        return self

    def __exit__(self, *exc_info: object) -> None:
        # A hold may have ended meanwhile, in the context that this one inherited it from.
        groups = tuple(sorted({*self.groups, *self.sources.undeclared(self.names)}))
        if groups:
            _renew(groups, self.word)


def _announce(groups: tuple[str, ...], word: str) -> None:
    """From here on nothing made from the groups is stored or found, until they are renewed or this process has been
    dead for as long as a lock outlives its holder."""
    try:
        runtime.store().committing(write_epochs(groups), word, conf.settings().LOCK_LEASE)
    except StoreUnavailable as error:
        logger.debug("%s are committed without a word before: %s", ", ".join(groups), error)
    except Exception:
        logger.exception("That %s are being committed could not be said", ", ".join(groups))


def _renew(groups: tuple[str, ...], word: str = "") -> None:
    epochs = write_epochs(groups)
    try:
        store = runtime.store()
        try:
            store.invalidate(epochs, word)
        except StoreUnavailable as error:
            store.later(None, epochs)
            logger.warning(
                "Pages made from %s are misses as soon as the store answers: %s",
                ", ".join(groups),
                error,
                extra={"groups": list(groups), "error": type(error).__name__},
            )
    except Exception:
        logger.exception(
            "Pages made from %s could not be made misses", ", ".join(groups), extra={"groups": list(groups)}
        )


# -- switching it on


def attend() -> None:
    """Have the backend tell what is written, if ``POOLING["GROUPS"]`` says what to do about it."""
    try:
        settings = conf.settings()
        wanted = bool(settings.GROUPS) and settings.ENABLED
    except ImproperlyConfigured:
        wanted = False  # the checks, and whoever needs a setting, say so
    from .backends.mysql import watched

    watched.watch(Sources() if wanted else None)


def _changed(*, setting: str, **kwargs: Any) -> None:
    if setting in ("POOLING", "INSTALLED_APPS"):
        attend()


def start() -> None:
    """`attend`, now and whenever the settings change. Called once the apps are ready, on a site of this backend."""
    attend()
    setting_changed.connect(_changed)
