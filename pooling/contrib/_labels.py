"""Labels of metrics: a bounded number of them, and no value that a visitor has sent.

A group counts under the beginning that is written in the code: ``accounts/7`` and ``accounts/7/cards``, declared as
``accounts/{pk}`` and ``accounts/{pk}/cards``, under ``accounts/{*}``; ``catalog/books`` under its own name, if it is
declared like that. What is declared nowhere, because a block or a callable has made it, under its top level. The lines
that `pooling.locks.stats` folds together have the same labels, so nothing moves from one to another. Is a template
declared that begins with an argument, then a top level that no other one has may be a value, and counts under ``{*}``.
"""

from __future__ import annotations

import threading
import weakref

from .._forks import after_in_child
from ..groups import Template
from ..locks.stats import FOLD
from ..spec import declared

LIMIT = 100  # labels


class GroupLabels:
    """Thread-safe. A label that was given once stays."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._mutex = threading.Lock()
        self._given: set[str] = set()
        self._literal: frozenset[tuple[str, ...]] = frozenset()
        _all.add(self)

    def after_fork(self) -> None:
        """In a child that was forked: another thread may have had the mutex at that moment, and is not here."""
        self._mutex = threading.Lock()

    def refresh(self) -> None:
        """Look what is declared by now. For whoever reads them from time to time."""
        sources = [source for _, spec in declared() for source in (*spec.reads, *spec.writes)]
        with self._mutex:
            self._literal |= {_literal(source) for source in sources if isinstance(source, Template)}

    def of(self, group: str) -> str:
        """The label of a group, or of a line that is a fold of several."""
        label = self._label(group)
        if label not in self._given:  # what is new may just have been declared
            self.refresh()
            label = self._label(group)
        with self._mutex:
            if label in self._given:
                return label
            if len(self._given) >= self._limit:
                return FOLD
            self._given.add(label)
            return label

    def _label(self, group: str) -> str:
        if group == FOLD or group.startswith("//"):
            return FOLD
        levels, literal = tuple(group.split("/")), self._literal
        known = (levels[:depth] for depth in range(len(levels), 0, -1) if levels[:depth] in literal)
        longest = next(known, () if () in literal else levels[:1])
        return "/".join(longest if longest == levels else (*longest, FOLD))


_all: weakref.WeakSet[GroupLabels] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for labels in list(_all):
        labels.after_fork()


after_in_child(_after_fork_in_child)


def _literal(template: Template) -> tuple[str, ...]:
    found = []
    for text, is_name in template.levels:
        if is_name:
            break
        found.append(text)
    return tuple(found)
