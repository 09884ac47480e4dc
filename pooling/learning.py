"""Learns, in development and in tests, in which order groups and databases are taken, and warns before they deadlock.

Groups alone cannot deadlock: what would is refused. But a transaction has row locks and a connection of the pool, and
who waits for a group inside one may be waited for by whoever has the group and wants the same rows, or a connection.
So each database counts as one more lock, held in an open transaction, asked for by its first statement, and each
statement outside of one is a transaction of its own. What was asked for while something else was held is remembered,
`pooling.locks.dependencies`; that it closes a circle is seen from two requests that ran one after the other.

`pooling.steps` tells what is asked for; statements are seen through Django's ``execute_wrappers``.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from django.db import connections

from . import conf, fences, frames, runtime
from ._forks import after_in_child
from .errors import LockOrderError
from .groups import Template
from .locks import circles
from .locks.dependencies import Dependencies, Dependency, Resource, Stack, is_value
from .locks.order import modes_of, remaining

if TYPE_CHECKING:
    from .frames import Frame
    from .groups import Plan
    from .steps import Call

logger = logging.getLogger("pooling.locks.order")

ANY_VALUE = "{…}"
_SHOWN = 4  # frames of a stack
_MANUAL = object()  # instead of a block: a transaction by autocommit off

_known = Dependencies()
_reports: dict[tuple[Resource, Resource], str] = {}  # of the dependencies that closed a circle
_said: set[tuple[Resource, Resource]] = set()  # of the nestings that depend on values
_full = False


def learned() -> list[Dependency]:
    """What this process has learned: who asked for what while holding what, in the order of the names."""
    return sorted(_known.all(), key=lambda one: (str(one.held), str(one.asked)))


def reset() -> None:
    """Forget all of it, and report again what was reported. For tests."""
    global _full
    _known.clear()
    _reports.clear()
    _said.clear()
    _full = False


@dataclass(frozen=True, slots=True)
class Taken:
    """One group that a hold has taken."""

    resource: Resource
    group: str
    at: Stack
    who: str


@dataclass(frozen=True, slots=True)
class Observed:
    """What a hold is known to have. ``databases``, shared by all holds of a context, are the transactions seen in it:
    the outermost block by alias and thread, since tasks inside one hold may have threads, hence sessions, of their
    own."""

    groups: list[Taken]
    databases: dict[tuple[str, int], Any]


# --- groups -----------------------------------------------------------------------------------------------------------


def asks(call: Call, plan: Plan, frame: Frame, outer: Sequence[Frame], at: Stack) -> None:
    """Before a hold waits for its groups, in the thread of its connections.

    With ``POOLING["ORDER_LEARNING"]`` "raise" LockOrderError if this closes a circle.
    """
    manager = runtime.manager()
    new = remaining(plan, modes_of(manager.current()), manager.options.ranks)
    classes = _classifier(call)
    who = f"{call.name} in {at[0][2]}()" if call.func is None and at else call.name
    taken = [Taken(Resource(classes(group)), group, at, who) for group in (*new.reads, *new.writes)]
    holds = _observed(outer)
    databases = holds[0].databases if holds else {}
    open_now = _open_databases(outer, databases)
    for one in taken:
        for held, held_at, how in open_now:
            _learn(Dependency(held, one.resource, who, held_at, at, how))
        for before in (group for hold in holds for group in hold.groups):
            seen = Dependency(before.resource, one.resource, who, before.at, at)
            _learn(seen)
            _note_values(seen, before.group, one.group)
    frame.observed = Observed(taken, databases)


def _classifier(call: Call) -> Callable[[str], str]:
    """Tells the template of a group of this call: the declared one, or, where a block or a callable has made it, its
    top level with everything below taken for values."""
    templates = [
        source
        for source in (call.spec.reads + call.spec.writes if call.func is not None else ())
        if isinstance(source, Template)
    ]
    templates.sort(key=lambda template: len(template.names))  # a literal one before those that it fits as well

    def classify(group: str) -> str:
        levels = group.split("/")
        for template in templates:
            if len(template.levels) == len(levels) and all(
                is_name or text == level for (text, is_name), level in zip(template.levels, levels, strict=True)
            ):
                return template.source
        return "/".join([levels[0], *[ANY_VALUE] * (len(levels) - 1)])

    return classify


def _note_values(seen: Dependency, held_group: str, asked_group: str) -> None:
    """Warn, once, of a nesting that is in order for these values only."""
    if (seen.held, seen.asked) in _said:
        return
    templates = zip(seen.held.name.split("/"), seen.asked.name.split("/"), strict=False)
    groups = zip(held_group.split("/"), asked_group.split("/"), strict=False)
    for levels, values in zip(templates, groups, strict=False):
        if values[0] != values[1]:
            # Blocks are often nested in a loop over sorted values, and which of their levels are values is a guess.
            if any(is_value(level) and level != ANY_VALUE for level in levels):
                _said.add((seen.held, seen.asked))
                text = circles.by_values(seen, held_group, asked_group)
                logger.warning("%s", text, extra={"view": seen.who, "groups": [held_group, asked_group]})
            return


# --- databases --------------------------------------------------------------------------------------------------------


def _open_databases(outer: Sequence[Frame], databases: dict[tuple[str, int], Any]) -> list[tuple[Resource, Stack, str]]:
    """What this thread has of its databases: the resource, since where, and in what way. From now on it is seen what
    is sent to them."""
    found = []
    for connection in connections.all():
        if watch not in connection.execute_wrappers:
            # In front: `execute_wrapper()`, which we may be inside of, takes out the last one when it ends.
            connection.execute_wrappers.insert(0, watch)
        alias = connection.alias
        block = _transaction_of(connection)
        if block is not None:
            databases[alias, threading.get_ident()] = block
            at = _opened_at(outer, block)
            how = "" if at is None else circles.OWN.format(alias)
            found.append((Resource(alias, database=True), at or (), how))
        elif _keeps_pooled(connection):
            found.append((Resource(alias, database=True), (), circles.KEPT.format(alias)))
    return found


def _opened_at(outer: Iterable[Frame], block: Any) -> Stack | None:
    """Where the hold was taken that has opened this transaction; None: no hold has."""
    for frame in outer:
        if frame.observed is not None and any(block is mine for _, mine in frame.blocks):
            return frame.observed.groups[0].at
    return None


def _transaction_of(connection: Any) -> Any:
    """The outermost block of the transaction that is open, but for that of a TestCase; None: there is none."""
    for block in connection.atomic_blocks:
        if not block._from_testcase:
            return block
    # From the instance: the attribute of a wrapper that has given its connection back for now would take one.
    manual = not connection.in_atomic_block and not connection.autocommit
    return _MANUAL if manual and vars(connection).get("connection") is not None else None


def _keeps_pooled(connection: Any) -> bool:
    """Does it keep, without a transaction, a connection of a pool that others may wait for?"""
    return (
        not connection.in_atomic_block
        and bool(connection.settings_dict["OPTIONS"].get("pool"))
        and vars(connection).get("connection") is not None
    )


def watch(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Among the ``execute_wrappers`` of each connection of a thread that was in a hold while learning was on."""
    outer = frames.current.get()
    # The claim of a fence is for a group that is held, and in nobody's code.
    if outer and conf.settings().learns_order and (holds := _observed(outer)) and fences.TABLE not in str(sql):
        _statement(context["connection"], holds)
    return execute(sql, params, many, context)


def _statement(connection: Any, holds: Sequence[Observed]) -> None:
    databases, thread = holds[0].databases, threading.get_ident()
    block = _transaction_of(connection)
    if block is not None and databases.get((connection.alias, thread)) is block:
        return
    asked = Resource(connection.alias, database=True)
    at = stack()
    for group in [group for hold in holds for group in hold.groups]:
        _learn(Dependency(group.resource, asked, group.who, group.at, at or group.at))
    for other in connections.all(initialized_only=True):
        before = databases.get((other.alias, thread))
        if other is not connection and before is not None and before is _transaction_of(other):
            who = holds[-1].groups[-1].who
            _learn(Dependency(Resource(other.alias, database=True), asked, who, (), at))
    if block is not None:
        databases[connection.alias, thread] = block


# --- what is learned --------------------------------------------------------------------------------------------------


def _observed(outer: Iterable[Frame]) -> list[Observed]:
    # A task may outlive the hold in which it was started.
    return [frame.observed for frame in outer if frame.observed is not None and not frame.is_over]


def _learn(seen: Dependency) -> None:
    global _full
    if seen.held == seen.asked:
        return
    pair = seen.held, seen.asked
    if not _known.knows(*pair):
        if circle := _known.add(seen):
            _reports[pair] = circles.circle(circle)
            extra = {"view": seen.who, "groups": [seen.held.name, seen.asked.name]}
            logger.warning("%s", _reports[pair], extra=extra)
        elif _known.is_full and not _full:
            _full = True
            logger.warning(
                "%d dependencies between groups and databases are known; no more are learned.",
                len(learned()),
                extra={"view": seen.who},
            )
    if pair in _reports and conf.settings().ORDER_LEARNING == "raise":
        raise LockOrderError(_reports[pair])


def stack(func: Any = None) -> Stack:
    """The innermost frames of the project's own code that lead here, before them the function ``func`` that is about
    to be called."""
    found = []
    code = getattr(inspect.unwrap(func), "__code__", None) if func is not None else None
    if code is not None:
        found.append((code.co_filename, code.co_firstlineno, code.co_name))
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(found) < _SHOWN:
        code = frame.f_code
        if _is_projects(code.co_filename):
            found.append((code.co_filename, frame.f_lineno, code.co_name))
        frame = frame.f_back
    return tuple(found)


_ours = str(Path(__file__).parent) + os.sep
_standard = sysconfig.get_path("stdlib") + os.sep
_files: dict[str, bool] = {}


def _is_projects(file: str) -> bool:
    known = _files.get(file)
    if known is None:
        packages = f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}"
        others = file.startswith((_ours, _standard, "<frozen")) or any(part in file for part in packages)
        known = _files[file] = not others
    return known


after_in_child(_known.after_fork)
