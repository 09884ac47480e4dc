"""Holds while the store is down, with ``POOLING["ON_STORE_DOWN"] = "fence"``: the fences' rows are the locks.

Without a lock table writers are still kept apart, by the database: each locks the rows of its groups, one after another
in an order that is the same for all, and keeps them to the COMMIT. A row that is written is locked alone, one that is
read or stands above a group is locked for sharing: the modes X, S and IX of `pooling.groups` as far as rows have them.
The token is the database's clock, and newer than every token on these rows. So nothing is lost in the change-over:

* A holder from before that has claimed its fences has their rows: who comes now waits for its COMMIT.
* One from before that has not claimed yet has an older token, and is refused.
* A holder of the store that is back claims the same rows, and waits for those who are still alone.

It costs more statements than a lock in the store, and a wait ends only after ``innodb_lock_wait_timeout``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

from . import fences
from .fences import BY_KEY
from .groups import Mode, Plan, ancestors

_NOW = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))"


@dataclass(repr=False)
class Alone:
    """Stands in for `pooling.locks.Held`. ``borrowed``: it is covered by one of these further out."""

    groups: tuple[tuple[str, Mode], ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    view: str
    borrowed: bool = False
    fence: int = 0  # known once the transaction has begun
    vector: tuple[bytes, ...] = ()
    leading: bool = True
    active: bool = True

    @classmethod
    def of(cls, plan: Plan, view: str, borrowed: bool = False) -> Alone:
        return cls(plan.wants, plan.reads, plan.writes, view, borrowed)

    def __repr__(self) -> str:
        groups = ", ".join(f"{group}:{mode.name}" for group, mode in self.groups)
        return f"<Alone {groups} (held by its rows in the database, fence {self.fence})>"

    def check(self, *, ask: bool = True) -> None:
        """The rows are locked to the COMMIT: as long as the transaction lives, nothing can be lost."""

    def covers(self, plan: Plan) -> bool:
        """Does it hold everything in ``plan`` already?"""
        return _within(plan.writes, self.writes) and _within(plan.reads, (*self.reads, *self.writes))

    def claim(self, alias: str) -> int:
        """Lock the rows, as the first thing in a transaction on ``alias``; the token that they got. LockTimeout if
        others keep them too long."""
        with fences.explained(alias, self.writes or self.reads, alone=True), connections[alias].cursor() as cursor:
            token = _claim(cursor, self.reads, self.writes)
        self.fence = max(self.fence, token)
        return token


def aliases_for(aliases: tuple[str, ...]) -> tuple[str, ...]:
    """The databases whose fences serve as locks: those with a transaction, or the default one. None: there are no
    fences in one of them."""
    wanted = aliases or (DEFAULT_DB_ALIAS,)
    return wanted if all(map(fences.is_fenced, wanted)) else ()


def _within(inner: Iterable[str], outer: Sequence[str]) -> bool:
    return all(any(path in outer for path in (group, *ancestors(group))) for group in inner)


def _claim(cursor: Any, reads: Sequence[str], writes: Sequence[str]) -> int:
    newest = 0
    written = set(writes)
    for exclusive, some in groupby(fences.all_rows(reads, writes), key=written.__contains__):
        newest = max(newest, *_lock(cursor, list(some), exclusive=exclusive))
    shared = f"SELECT token FROM {BY_KEY} WHERE grp > %s AND grp < %s LOCK IN SHARE MODE"
    for group in reads:
        cursor.execute(shared, fences.below(group))
        newest = max([newest, *(token for (token,) in cursor.fetchall())])
    for group in writes:
        # No lock is needed: who claims below shares one on the row that we have alone.
        cursor.execute(f"SELECT COALESCE(MAX(token), 0) FROM {BY_KEY} WHERE grp > %s AND grp < %s", fences.below(group))
        newest = max(newest, cursor.fetchone()[0])
    cursor.execute(_NOW)
    token = max(newest + 1, int(cursor.fetchone()[0]))
    if writes:
        cursor.execute(
            f"UPDATE {BY_KEY} SET token = %s WHERE grp IN ({fences.marks(writes)})", [token, *fences.as_bytes(writes)]
        )
    return token


def _lock(cursor: Any, groups: list[str], *, exclusive: bool) -> list[int]:
    """Lock the rows in the order of their paths, and return their tokens."""
    mode = "FOR UPDATE" if exclusive else "LOCK IN SHARE MODE"
    sql = f"SELECT token FROM {BY_KEY} WHERE grp IN ({fences.marks(groups)}) ORDER BY grp {mode}"
    cursor.execute(sql, fences.as_bytes(groups))
    tokens = [token for (token,) in cursor.fetchall()]
    if len(tokens) < len(groups):  # purged since they were prepared
        fences.create(cursor, groups, {})
        cursor.execute(sql, fences.as_bytes(groups))
        tokens = [token for (token,) in cursor.fetchall()]
    return tokens
