"""Fences: a holder that has lost its lock without knowing can write nothing any more.

A lease frees the groups of a dead process, and also those of one that merely stood still. When that one goes on, a
newer holder may have read what it is about to overwrite. So each grant carries a token that grows from grant to grant
(Kleppmann, "How to do distributed locking", 2016), and a write transaction begins with a claim: in ``pooling_fence``,
in the very database that it writes, it puts its token on the rows of the groups that it writes. A row with a newer
token refuses it. The rows stay locked to the COMMIT, so a newer holder's claim waits for an older one that came first,
and reads after it. Checked at the end instead, before the COMMIT, a newer holder that had read before would lose what
the older one wrote.

For a group ``a/b`` that is written, the row of ``a`` is locked for sharing and must not be newer; so an older writer
below ``a`` cannot slip past a newer writer of ``a``. A writer of ``a`` in turn must find no newer token below it.
Groups that a writer reads are locked for sharing, too. Readers that write nothing need no fence.

In the usual case a claim is one statement. Only MySQL and MariaDB are fenced; other databases keep the lock alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections
from django.db.utils import OperationalError

from .errors import FenceRejected, LockTimeout
from .groups import ancestors

TABLE = "pooling_fence"
# In a small table the optimizer would rather read all rows, and so lock those of groups that nobody here asked for:
# writers that do not conflict would wait for each other's COMMIT.
BY_KEY = f"{TABLE} FORCE INDEX (PRIMARY)"
_KNOWN = 100_000  # groups that are remembered for each database
_NO_TABLE, _LOCK_WAIT, _DEADLOCK = 1146, 1205, 1213

# For each database the groups that are known to have a row, and whether there is anything below them. A group that
# was forgotten, or purged meanwhile, costs a few statements more, once.
_deep: dict[tuple[Any, ...], dict[str, bool]] = {}


def is_fenced(alias: str) -> bool:
    """Can transactions on this database be fenced?"""
    return bool(connections[alias].vendor == "mysql")


def same_database(one: str, other: str) -> bool:
    """Are these two aliases of one database, with connections of their own?"""

    def place(alias: str) -> tuple[str, ...]:
        settings = connections[alias].settings_dict
        return (settings["HOST"] or "localhost", str(settings["PORT"] or 3306), settings["NAME"])

    return connections[one] is not connections[other] and place(one) == place(other)


def prepare(alias: str, reads: Sequence[str], writes: Sequence[str]) -> None:
    """Make the rows that a claim will need. Best before the transaction: two who make rows in theirs can deadlock."""
    known = _known(alias)
    wanted = all_rows(reads, writes)
    if all(group in known for group in wanted):
        return
    with explained(alias, writes), connections[alias].cursor() as cursor:
        # Most often another process has made them, and then no lock is needed.
        cursor.execute(f"SELECT grp, deep FROM {BY_KEY} WHERE grp IN ({marks(wanted)})", as_bytes(wanted))
        _remember(known, cursor.fetchall())
        if missing := [group for group in wanted if group not in known]:
            create(cursor, missing, known)


def claim(alias: str, reads: Sequence[str], writes: Sequence[str], token: int, view: str = "") -> None:
    """Put ``token`` on the rows of ``writes``, as the first thing in a transaction on ``alias``.

    Raises FenceRejected if a newer holder was there before or still stands in the way; ImproperlyConfigured if the
    table has not been made.
    """
    known = _known(alias)
    with explained(alias, writes), connections[alias].cursor() as cursor:
        for again in (False, True):
            deep = any(known.get(group, True) for group in (*reads, *writes))
            if not deep:
                if _put(cursor, reads, writes, token, only_leaves=True):
                    return
            elif _put(cursor, reads, writes, token, only_leaves=False):
                _look_below(cursor, reads, writes, token, view)
                return
            # A newer token, a row that is not there (any more), or something below a group that had nothing.
            _learn(cursor, reads, writes, token, view, known)
            if again:
                raise FenceRejected(_words(view, writes, "the fences changed while it claimed them"))


def purge(alias: str, older_than: float) -> int:
    """Delete the fences of groups that nobody has written for so many seconds; how many were there.

    A holder that lost its lock longer ago than that is no longer kept out: a day is plenty. Groups with others below
    them stay.
    """
    token = int((time.time() - older_than) * 1_000_000)
    with explained(alias, ()), connections[alias].cursor() as cursor:
        cursor.execute(f"DELETE FROM {TABLE} WHERE deep = 0 AND token < %s", [token])
        return int(cursor.rowcount)


def forget() -> None:
    """Forget which rows exist. For tests that roll them back."""
    _deep.clear()


# -- steps of a claim


def _put(cursor: Any, reads: Sequence[str], writes: Sequence[str], token: int, *, only_leaves: bool) -> bool:
    """The claim itself, as one statement; did it find all rows as it must?"""
    sql = f"UPDATE {BY_KEY} SET token = %s WHERE grp IN ({marks(writes)}) AND token <= %s"
    params: list[Any] = [token, *as_bytes(writes), token]
    if only_leaves:
        sql += " AND deep = 0"
    if shared := _shared_rows(reads, writes):
        columns, test = "token", "COUNT(*) = %s AND MAX(shared.token) <= %s"
        if only_leaves and reads:
            columns += f", deep AND grp IN ({marks(reads)}) AS busy"
            test += " AND SUM(shared.busy) = 0"
        # In a table of its own, since MySQL does not let an UPDATE look at what it changes; locked by its own clause.
        sql += (
            f" AND (SELECT {test} FROM (SELECT {columns} FROM {BY_KEY} WHERE grp IN ({marks(shared)})"
            f" LOCK IN SHARE MODE) AS shared)"
        )
        params += [len(shared), token, *(as_bytes(reads) if only_leaves else ()), *as_bytes(shared)]
    cursor.execute(sql, params)
    return bool(cursor.rowcount == len(writes))


def _look_below(cursor: Any, reads: Sequence[str], writes: Sequence[str], token: int, view: str) -> None:
    """Is there a newer token below a group that has others below it?

    Below what is written it is enough to look: whoever claims there shares a lock on the row that we have alone now.
    Below what is read, the rows are locked for sharing, so that who writes there waits.
    """
    newer: list[tuple[bytes, int]] = []
    if reads:
        ranges = " OR ".join(["(grp > %s AND grp < %s)"] * len(reads))
        bounds = [bound for group in reads for bound in below(group)]
        cursor.execute(f"SELECT grp, token FROM {BY_KEY} WHERE {ranges} LOCK IN SHARE MODE", bounds)
        newer += [(group, there) for group, there in cursor.fetchall() if there > token]
    ranges = " OR ".join(["(grp > %s AND grp < %s)"] * len(writes))
    bounds = [bound for group in writes for bound in below(group)]
    cursor.execute(f"SELECT grp, token FROM {TABLE} WHERE token > %s AND ({ranges})", [token, *bounds])
    newer += cursor.fetchall()
    _refuse(newer, writes, token, view)


def _learn(
    cursor: Any, reads: Sequence[str], writes: Sequence[str], token: int, view: str, known: dict[str, bool]
) -> None:
    """Why did a claim not find its rows? FenceRejected for a newer token; what is missing is made."""
    wanted = all_rows(reads, writes)
    cursor.execute(
        f"SELECT grp, token, deep FROM {BY_KEY} WHERE grp IN ({marks(wanted)}) LOCK IN SHARE MODE", as_bytes(wanted)
    )
    rows = cursor.fetchall()
    _refuse([(group, there) for group, there, _ in rows if there > token], writes, token, view)
    found = {group.decode(): bool(deep) for group, _, deep in rows}
    known.update(found)
    missing = [group for group in wanted if group not in found]
    for group in missing:
        # What was known of it went with a transaction that was rolled back, or with a purge. Believed, a mark that is
        # not there any more would not be made again.
        known.pop(group, None)
    if missing:
        # With those that are there: one that is above another is made with its mark.
        create(cursor, wanted, known)


def create(cursor: Any, missing: Sequence[str], known: dict[str, bool]) -> None:
    """Rows for these groups, and for what is above them the mark that there is something below."""
    above = sorted({one for group in missing for one in ancestors(group) if not known.get(one, False)})
    # The marks first: a row below an unmarked one could be claimed while who writes the one above does not look below.
    _mark(cursor, above, known)
    rest = [group for group in missing if group not in above]
    cursor.execute(
        f"INSERT IGNORE INTO {TABLE} (grp, token, deep) VALUES {', '.join(['(%s, 0, 0)'] * len(rest))}", as_bytes(rest)
    )
    # Read with a lock, or a transaction with an older snapshot would not see what another has made meanwhile.
    cursor.execute(
        f"SELECT grp, deep FROM {BY_KEY} WHERE grp IN ({marks(missing)}) LOCK IN SHARE MODE", as_bytes(missing)
    )
    _remember(known, cursor.fetchall())


def _mark(cursor: Any, above: Sequence[str], known: dict[str, bool]) -> None:
    """See to it that these rows are there and marked.

    Those that are marked already must not be locked alone: all who write below share a lock on them to their COMMIT,
    and a process that meets the group for the first time would wait for them.
    """
    unmarked = [group for group in above if group in known]
    if unseen := [group for group in above if group not in known]:
        # Where another has made the row meanwhile, this shares a lock on it as well.
        cursor.execute(
            f"INSERT IGNORE INTO {TABLE} (grp, token, deep) VALUES {', '.join(['(%s, 0, 1)'] * len(unseen))}",
            as_bytes(unseen),
        )
        cursor.execute(
            f"SELECT grp FROM {BY_KEY} WHERE grp IN ({marks(unseen)}) AND deep = 0 LOCK IN SHARE MODE", as_bytes(unseen)
        )
        unmarked += [group.decode() for (group,) in cursor.fetchall()]
    if unmarked:
        cursor.execute(
            f"INSERT INTO {TABLE} (grp, token, deep) VALUES {', '.join(['(%s, 0, 1)'] * len(unmarked))}"
            f" ON DUPLICATE KEY UPDATE deep = 1",
            as_bytes(sorted(unmarked)),
        )
    known.update(dict.fromkeys(above, True))


def _remember(known: dict[str, bool], rows: Sequence[tuple[bytes, int]]) -> None:
    if len(known) > _KNOWN:
        known.clear()
    known.update({group.decode(): bool(deep) for group, deep in rows})


# -- small things


def _known(alias: str) -> dict[str, bool]:
    settings = connections[alias].settings_dict
    return _deep.setdefault((alias, settings["HOST"], settings["PORT"], settings["NAME"]), {})


def _shared_rows(reads: Sequence[str], writes: Sequence[str]) -> list[str]:
    """Rows that a claim locks for sharing: what is read, and what is above anything that is read or written."""
    rows = set(reads)
    rows.update(ancestor for group in (*reads, *writes) for ancestor in ancestors(group))
    return sorted(rows - set(writes))


def all_rows(reads: Sequence[str], writes: Sequence[str]) -> list[str]:
    # Sorted, what is above first: two who make rows or lock them take them in the same order.
    return sorted({*writes, *_shared_rows(reads, writes)})


def as_bytes(groups: Sequence[str]) -> list[bytes]:
    # The column is binary: groups that some collation takes for equal are two groups.
    return [group.encode() for group in groups]


def below(group: str) -> tuple[bytes, bytes]:
    """All paths below a group are between these: '0' is the sign after '/'."""
    return f"{group}/".encode(), f"{group}0".encode()


def marks(values: Sequence[Any]) -> str:
    return ", ".join(["%s"] * len(values))


def _refuse(newer: Sequence[tuple[bytes, int]], writes: Sequence[str], token: int, view: str) -> None:
    if newer:
        group, there = max(newer, key=lambda row: row[1])
        ahead = (there - token) / 1_000_000
        error = FenceRejected(
            _words(view, writes, f"a holder that came {ahead:.3g} s later has claimed {group.decode()!r} already")
        )
        error.newest = there
        raise error


def _words(view: str, writes: Sequence[str], why: str) -> str:
    who = repr(view) if view else "A holder"
    return (
        f"{who} may not write {', '.join(map(repr, writes))}: {why}. Its lock was lost before it got here, because the "
        f"process stood still for longer than the lease or lost the store. Nothing was written; try again. If it "
        f"happens often, raise lease= or POOLING['LOCK_LEASE']."
    )


@contextmanager
def explained(alias: str, groups: Sequence[str], *, alone: bool = False) -> Iterator[None]:
    """Errors of the database in the words of the fence. ``alone``: its rows stand in for the locks, see `alone`."""
    try:
        yield
    except DatabaseError as error:
        code = error.args[0] if error.args else None
        if code == _NO_TABLE:
            raise ImproperlyConfigured(
                f"The table {TABLE} is missing in the database {alias!r}: run `manage.py migrate pooling"
                f"{'' if alias == 'default' else f' --database {alias}'}`, with 'pooling' in INSTALLED_APPS; or switch "
                f"fencing off with POOLING['FENCE'] = False."
            ) from error
        if isinstance(error, OperationalError) and code in (_LOCK_WAIT, _DEADLOCK):
            if alone:
                raise LockTimeout(
                    f"The groups {', '.join(map(repr, groups))} were not free in time ({error}). The store of locks is "
                    f"down, and rows of {TABLE} stand in for it. Try again, and see to the store."
                ) from error
            why = (
                "an earlier holder's transaction still has the fence" if code == _LOCK_WAIT else "it met another claim"
            )
            raise FenceRejected(_words("", groups, why)) from error
        raise
