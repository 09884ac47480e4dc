"""Claims against a real MariaDB: who is refused, who waits, what is locked, and what it costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from pooling import fences
from pooling.errors import FenceRejected
from pooling.groups import ancestors

from .conftest import tokens

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE = 20.0
OLD, NEW = 1_000_000, 2_000_000


def write(
    token: int, writes: Sequence[str], reads: Sequence[str] = (), body: Callable[[], object] | None = None
) -> None:
    """One write transaction, from the claim to the COMMIT."""
    fences.prepare("default", reads, writes)
    with transaction.atomic():
        fences.claim("default", reads, writes, token)
        if body is not None:
            body()


def in_thread(pool: ThreadPoolExecutor, *args: object, **kwargs: object) -> object:
    def run() -> None:
        try:
            write(*args, **kwargs)  # type: ignore[arg-type]
        finally:
            connections.close_all()

    return pool.submit(run)


def waiting_for_rows() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'")
        return int(cursor.fetchone()[0])


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.15)  # the server renews what it shows of its transactions only after 0.1 s without a look


def test_a_claim_leaves_its_token_and_a_rollback_does_not() -> None:
    write(OLD, ["a"])
    assert tokens() == {"a": OLD}

    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(NEW, ["a"], body=fail)
    assert tokens() == {"a": OLD}


def test_the_same_holder_may_claim_again() -> None:
    write(OLD, ["a", "b"])
    write(OLD, ["a", "b"])


def test_a_late_holder_is_told_who_was_there() -> None:
    write(NEW, ["accounts/7"])
    with pytest.raises(FenceRejected, match=r"'accounts/7'.*came 1 s later.*LOCK_LEASE") as caught:
        write(OLD, ["accounts/7"])
    assert caught.value.newest == NEW


GROUPS = ["a", "a/b", "a/b/c", "d"]
HOLDS = [
    (reads, writes)
    for writes in (["a"], ["a/b"], ["a/b/c"], ["d"])
    for reads in ([], ["a"], ["a/b"], ["a/b/c"])
    if not any(r == w or w in ancestors(r) for r in reads for w in writes)
]


def overlap(one: Sequence[str], other: Sequence[str]) -> bool:
    return any(a == b or a in ancestors(b) or b in ancestors(a) for a in one for b in other)


@pytest.mark.parametrize("known", [True, False], ids=["known", "forgotten"])
@pytest.mark.parametrize("newer", HOLDS, ids=str)
def test_all_pairs_of_a_tree(newer: tuple[list[str], list[str]], known: bool) -> None:
    """A late holder is refused exactly if the newer one has written something that it writes or reads."""
    for older in HOLDS:
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM pooling_fence")
        fences.forget()
        write(1, GROUPS[2:])
        write(NEW, newer[1], newer[0])
        if not known:
            fences.forget()
        conflict = overlap(newer[1], [*older[0], *older[1]])
        if conflict:
            with pytest.raises(FenceRejected):
                write(OLD, older[1], older[0])
        else:
            write(OLD, older[1], older[0])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (([], ["a"]), ([], ["a"])),
        (([], ["a"]), ([], ["a/b"])),
        (([], ["a/b"]), ([], ["a"])),
        (([], ["a/b/c"]), ([], ["a"])),
        (([], ["a/b/c", "d"]), ([], ["a/b"])),
        ((["a"], ["d"]), ([], ["a"])),
        ((["a"], ["d"]), ([], ["a/b"])),
        ((["a/b"], ["d"]), ([], ["a"])),
    ],
    ids=str,
)
def test_who_came_first_commits_first(first: tuple[list[str], list[str]], second: tuple[list[str], list[str]]) -> None:
    """The newer claim waits for the older one's COMMIT, so that what it reads then is what the older one wrote."""
    write(1, GROUPS[2:])
    claimed, go_on = threading.Event(), threading.Event()
    order: list[str] = []

    def older() -> None:
        claimed.set()
        assert go_on.wait(PATIENCE)
        order.append("older")

    with ThreadPoolExecutor(2) as pool:
        one = in_thread(pool, OLD, first[1], first[0], older)
        assert claimed.wait(PATIENCE)
        other = in_thread(pool, NEW, second[1], second[0], lambda: order.append("newer"))
        try:
            until(lambda: waiting_for_rows() or order)
            assert order == []
        finally:
            go_on.set()
        one.result(PATIENCE)  # type: ignore[attr-defined]
        other.result(PATIENCE)  # type: ignore[attr-defined]
    assert order == ["older", "newer"]


@pytest.mark.parametrize(
    ("one", "other"),
    [(([], ["a/b"]), ([], ["a/c"])), ((["r"], ["a"]), (["r"], ["d"])), (([], ["a/b/c"]), ([], ["a/b/d"]))],
    ids=str,
)
def test_claims_that_do_not_conflict_do_not_wait(
    one: tuple[list[str], list[str]], other: tuple[list[str], list[str]]
) -> None:
    both = threading.Barrier(2)
    write(1, ["a/b/c", "a/b/d", "a/c", "d", "r"])
    with ThreadPoolExecutor(2) as pool:
        found = [in_thread(pool, OLD, writes, reads, lambda: both.wait(PATIENCE)) for reads, writes in (one, other)]
        for each in found:
            each.result(PATIENCE)  # type: ignore[attr-defined]


@contextmanager
def held_open(writes: Sequence[str], reads: Sequence[str] = ()) -> Iterator[None]:
    """Another has claimed these and does not commit. The main thread's connection soon loses its patience."""
    claimed, go_on = threading.Event(), threading.Event()

    def stand_still() -> None:
        claimed.set()
        assert go_on.wait(PATIENCE)

    with ThreadPoolExecutor(1) as pool:
        other = in_thread(pool, OLD, writes, reads, stand_still)
        try:
            assert claimed.wait(PATIENCE)
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
            yield
        finally:
            go_on.set()
        other.result(PATIENCE)  # type: ignore[attr-defined]


@pytest.mark.parametrize("group", ["a/b", "a/c", "a/c/d"])
def test_a_process_that_meets_a_group_for_the_first_time_waits_for_nobody(group: str) -> None:
    write(1, ["a/b", "a/c/d"])
    with held_open(["a/x"]):
        fences.forget()
        write(NEW, [group])


def test_two_who_meet_a_group_at_the_same_time_do_not_wait() -> None:
    """One of them has looked for the rows in vain when the other makes them, and claims."""
    held = ExitStack()

    def in_between(execute: Callable[..., object], sql: str, *args: object) -> object:
        if sql.startswith("INSERT") and not held_up:
            held_up.append(sql)
            fences.forget()
            held.enter_context(held_open(["a/b"]))
        return execute(sql, *args)

    held_up: list[str] = []
    with held, connection.execute_wrapper(in_between):
        write(NEW, ["a/c"])
    assert held_up
    assert tokens() == {"a": 0, "a/b": OLD, "a/c": NEW}


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
def test_in_a_small_table_a_wide_claim_locks_no_rows_of_others(level: str) -> None:
    """The optimizer reads a small table as a whole if it may choose."""
    reads, writes = [f"r/{n}" for n in range(6)], [f"w{n}" for n in range(6)]
    write(1, ["x", *writes], reads)
    with held_open(["x"]), connection.cursor() as cursor:
        cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")
        write(NEW, writes, reads)


def test_many_who_make_their_rows_at_once_do_not_deadlock() -> None:
    start = threading.Barrier(8)

    def run(number: int) -> None:
        try:
            start.wait(PATIENCE)
            for step in range(20):
                write(OLD + step, [f"accounts/{number}-{step}", f"events/{step}-{number}"])
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(run, number) for number in range(8)]:
            future.result(60)
    assert sum("/" in group for group in tokens()) == 320


@pytest.mark.parametrize(
    ("writes", "reads"),
    [
        (["a"], []),
        (["a", "b", "c", "d", "e"], []),
        (["a/b/c"], []),
        (["a/b/c", "d/e"], ["f/g", "h"]),
    ],
)
def test_a_claim_is_one_statement(writes: list[str], reads: list[str]) -> None:
    write(1, writes, reads)
    with transaction.atomic(), CaptureQueriesContext(connection) as captured:
        fences.prepare("default", reads, writes)
        fences.claim("default", reads, writes, OLD)
    assert len(captured) == 1


def test_rows_that_were_purged_are_made_again() -> None:
    write(OLD, ["a/b"])
    fresh = int(time.time() * 1_000_000)
    write(fresh, ["d"])
    assert fences.purge("default", 3600) == 1
    assert tokens() == {"a": 0, "d": fresh}
    write(NEW, ["a/b"])
    assert tokens()["a/b"] == NEW


def test_what_another_process_made_below_is_noticed() -> None:
    write(OLD, ["a"])
    remembered = {key: dict(value) for key, value in fences._deep.items()}
    write(NEW, ["a/b"])
    fences._deep.clear()
    fences._deep.update(remembered)  # as a process that does not know of a/b
    with pytest.raises(FenceRejected):
        write(OLD, ["a"])
    write(NEW + 1, ["a"])


def test_an_earlier_transaction_that_does_not_end() -> None:
    write(1, ["a"])
    claimed, go_on = threading.Event(), threading.Event()

    def stand_still() -> None:
        claimed.set()
        assert go_on.wait(PATIENCE)

    with ThreadPoolExecutor(1) as pool:
        older = in_thread(pool, OLD, ["a"], [], stand_still)
        assert claimed.wait(PATIENCE)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
            with pytest.raises(FenceRejected, match="earlier holder's transaction"):
                write(NEW, ["a"])
        finally:
            go_on.set()
        older.result(PATIENCE)  # type: ignore[attr-defined]


def test_without_the_table_it_says_what_to_run() -> None:
    with connection.cursor() as cursor:
        cursor.execute("RENAME TABLE pooling_fence TO pooling_fence_gone")
    try:
        with pytest.raises(ImproperlyConfigured, match=r"manage.py migrate pooling.*POOLING\['FENCE'\] = False"):
            write(OLD, ["a"])
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RENAME TABLE pooling_fence_gone TO pooling_fence")


def test_groups_that_a_collation_takes_for_equal_are_two() -> None:
    names = ["Book", "book", "bóok", "book "]
    for number, name in enumerate(names):
        write(OLD + number, [name])
    assert sorted(tokens()) == sorted(names)


def test_a_wide_claim_over_many() -> None:
    write(OLD, [f"g/{number}" for number in range(300)])
    assert len(tokens()) == 301
