"""Shares of one server: how they are dealt, who keeps them, and what a pool makes of its own."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pooling.errors import PoolTimeout
from pooling.pool import Budget, ConnectionPool, HostLedger, PoolOptions, Standing
from pooling.pool.budget import Record, settle

from .scripted import Caller, Conn, ScriptedDriver, until

ALL = ("all",)


# ----- how shares are dealt -----


@settings(max_examples=300, deadline=None)
@given(
    limit=st.integers(0, 40),
    own=st.integers(0, 12),
    steps=st.lists(st.tuples(st.sampled_from(["join", "die", "bury", "turn"]), st.integers(0, 7), st.integers(0, 40))),
)
def test_shares_never_exceed_a_bound_and_come_to_be_equal(limit: int, own: int, steps: list[Any]) -> None:
    """Two kinds of members: all under one bound, and every other one under one of its own as well."""
    members: list[Record] = []
    limits = {"all": limit, "own": own}

    def turn(me: int, used: int) -> Standing:
        standing = settle(members, me, used, limits)
        members[me] = Record(standing.share, members[me].bounds)
        return standing

    def check() -> None:
        for name in limits:
            assert sum(record.share for record in members if name in record.bounds) <= limits[name]

    for what, who, used in steps:
        if what == "join":
            members.append(Record(0, ALL if who % 2 else ("all", "own")))
        elif members:
            me = who % len(members)
            if what == "turn" and not members[me].gone:
                before = members[me].share
                standing = turn(me, used)
                assert standing.share >= min(before, used)  # nothing that is in use is taken away
            elif what == "die":
                members[me] = Record(members[me].share, members[me].bounds, gone=True)
            elif members[me].gone:
                del members[me]
        check()
    members = [record for record in members if not record.gone]
    for _ in range(2 * len(members) + 2):
        for me in range(len(members)):
            turn(me, 0)
            check()
    for me in range(len(members)):
        standing = turn(me, 0)
        assert standing.share == standing.target
        assert standing.target >= min(limits[name] // len(members) for name in members[me].bounds)


def test_who_may_ask_for_a_bound_that_nobody_knows() -> None:
    members = [Record(0, ALL), Record(0, ALL)]
    assert settle(members, 0, 0, {}) == Standing(1, 1, 2, None)
    assert settle([Record(1, ALL), Record(0, ALL)], 1, 0, {}) == Standing(0, 0, 2, None)


def test_a_bound_that_does_not_count_is_left_out() -> None:
    members = [Record(0, ("all", "mine"))]
    assert settle(members, 0, 0, {"all": 7, "mine": None}) == Standing(7, 7, 1, 7)
    assert settle(members, 0, 0, {"all": 7, "mine": 2}) == Standing(2, 2, 1, 2)
    with pytest.raises(ValueError, match="None of the bounds all"):
        settle([Record(0, ALL)], 0, 0, {"all": None})


def test_a_limit_that_was_lowered_lets_nobody_grow() -> None:
    members = [Record(5, ALL), Record(5, ALL)]
    assert settle(members, 0, 5, {"all": 4}) == Standing(5, 2, 2, 4)
    assert settle(members, 0, 0, {"all": 4}) == Standing(2, 2, 2, 4)
    assert settle([Record(2, ALL), Record(5, ALL), Record(0, ALL)], 2, 0, {"all": 4}) == Standing(0, 1, 3, 4)


# ----- the folder of a host -----


class Now:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    clock = Now()
    monkeypatch.setattr("pooling.pool.hostledger.time", clock)
    return clock


def share(ledger: HostLedger, used: int = 0) -> int:
    return ledger.turn(used, {"all": 8}).share


@pytest.fixture
def ledgers(tmp_path: Path) -> Callable[[], HostLedger]:
    return lambda: HostLedger(tmp_path / "ledgers" / "one", ALL)


def test_members_divide_and_leave(ledgers: Callable[[], HostLedger]) -> None:
    first, second = ledgers(), ledgers()
    assert share(first) == 8
    assert second.turn(0, {}) == Standing(0, 4, 2, 8)  # told by the first; nothing is free yet
    assert share(first, used=6) == 6
    assert share(second) == 2
    assert share(first) == 4
    assert share(second) == 4
    first.leave()
    first.leave()
    assert share(second) == 8
    assert share(first) == 0  # joins anew, as the youngest
    second.leave()
    assert share(first) == 8


def test_what_the_server_allows_is_remembered_when_all_are_gone(ledgers: Callable[[], HostLedger]) -> None:
    first = ledgers()
    share(first)
    first.leave()
    assert ledgers().turn(0, {}) == Standing(8, 8, 1, 8)


def in_child(work: Callable[[], object]) -> int:
    """Fork, do it, and wait to be killed; the child's process id once it is done."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
            os.write(write, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(write)
    assert os.read(read, 1) == b"x"
    os.close(read)
    return child


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_the_kernel_frees_a_dead_ones_place(ledgers: Callable[[], HostLedger], now: Now) -> None:
    first = ledgers()
    share(first)
    child = in_child(lambda: share(ledgers()))
    try:
        assert share(first) == 4
        assert share(first, used=4) == 4
    finally:
        kill(child)
    # The server may not have noticed yet: the dead one has nothing here, but nobody else has it either.
    standing = first.turn(4, {})
    assert (standing.members, standing.target) == (1, 8)
    now.now += 0.3
    assert share(first) == 8
    assert sorted(path.name for path in first.folder.iterdir()) == ["1.alive", "lock", "members.json"]


def test_a_dead_ones_share_waits_for_the_server_to_notice(ledgers: Callable[[], HostLedger], now: Now) -> None:
    first, second = ledgers(), ledgers()
    share(first)
    second.turn(0, {})
    share(first)
    assert share(second) == 4
    second.forked()  # closes what keeps it alive, as the kernel does
    assert share(first) == 4
    now.now += 0.1
    assert share(first) == 4
    now.now += 0.15
    assert share(first) == 8


def test_a_forked_child_does_not_keep_its_parents_place(ledgers: Callable[[], HostLedger], now: Now) -> None:
    """A parent that is killed while its children live on, as the master of a prefork server."""
    observer = ledgers()
    share(observer)
    parents: dict[str, int] = {}
    read, write = os.pipe()

    def parent() -> None:
        mine = ledgers()
        driver = ScriptedDriver()
        pool: ConnectionPool[Conn] = ConnectionPool(
            driver, PoolOptions(max_size="auto"), budget=Budget(mine, lambda conn: {"all": 8})
        )
        mine.turn(0, {})
        os.write(write, b"%d" % in_child(lambda: pool._closed))

    child = in_child(parent)
    parents["grandchild"] = int(os.read(read, 20))
    os.close(read)
    os.close(write)
    assert observer.turn(0, {}).members == 2
    kill(child)
    try:
        assert observer.turn(0, {}).members == 1
    finally:
        os.kill(parents["grandchild"], signal.SIGKILL)


def test_a_fork_in_the_middle_of_a_turn_does_not_keep_the_ledger_locked(ledgers: Callable[[], HostLedger]) -> None:
    first, second = ledgers(), ledgers()
    driver = ScriptedDriver()
    pool: ConnectionPool[Conn] = ConnectionPool(
        driver, PoolOptions(max_size="auto"), budget=Budget(first, lambda conn: {"all": 8})
    )
    with first._locked():
        child = in_child(lambda: pool._closed)
    try:
        thread = Caller(share, second)
        assert thread.result() == 8
    finally:
        kill(child)


def test_a_child_that_python_knows_nothing_of_does_not_either(ledgers: Callable[[], HostLedger]) -> None:
    first, second = ledgers(), ledgers()
    with first._locked():
        child_has = os.dup(first._lock)  # as after a fork by somebody else's C code
    try:
        assert Caller(share, second).result() == 8
    finally:
        os.close(child_has)


def test_a_folder_that_was_emptied_is_filled_again(ledgers: Callable[[], HostLedger]) -> None:
    first, second = ledgers(), ledgers()
    share(first)
    for path in first.folder.iterdir():
        path.unlink()
    assert share(second) == 8  # it cannot know better
    assert share(first, used=8) == 8
    assert share(second) == 4
    assert share(first) == 4
    assert json.loads((first.folder / "members.json").read_text())["limits"] == {"all": 8}


@pytest.mark.parametrize("obstacle", ["deleted", "cannot be written"])
def test_a_living_member_that_the_file_does_not_name_is_not_waited_for(
    ledgers: Callable[[], HostLedger], obstacle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = ledgers(), ledgers()
    if obstacle == "deleted":
        share(one)
        (one.folder / "members.json").unlink()
    else:
        with monkeypatch.context() as patch:
            patch.setattr(HostLedger, "_write", full)
            with pytest.raises(OSError, match="No space"):
                share(one)
    # Its number is not in the file: whoever waited for the lock on its place would keep the ledger from everybody.
    Caller(share, other).result()
    assert share(one) + share(other) <= 8
    assert (share(one), share(other)) == (4, 4)
    assert len(json.loads((one.folder / "members.json").read_text())["members"]) == 2


def full(ledger: HostLedger, state: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_damaged_ledger_is_not_guessed_at(ledgers: Callable[[], HostLedger]) -> None:
    first = ledgers()
    share(first)
    (first.folder / "members.json").write_text("{")
    with pytest.raises(ValueError, match=r"members\.json is damaged\. Remove it"):
        share(first)


def test_a_folder_that_others_may_change_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ValueError, match=r"open is not a folder that belongs to this user alone.*'budget_dir'"):
        HostLedger(folder, ALL)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises((ValueError, OSError)):
        HostLedger(link, ALL)


def test_the_folder_is_private(ledgers: Callable[[], HostLedger]) -> None:
    before = os.umask(0)
    try:
        first = ledgers()
        share(first)
    finally:
        os.umask(before)
    for path in [first.folder.parent, first.folder, *first.folder.glob("*.alive"), first.folder / "lock"]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


# ----- the pool -----


class Dealer:
    """A ledger whose answers are set by the test."""

    def __init__(self) -> None:
        self.standing = Standing(3, 3, 2, 6)
        self.told: list[tuple[int, Mapping[str, int | None]]] = []
        self.error: Exception | None = None
        self.left = 0

    def turn(self, used: int, limits: Mapping[str, int | None]) -> Standing:
        self.told.append((used, limits))
        if self.error is not None:
            raise self.error
        return self.standing

    def leave(self) -> None:
        self.left += 1

    def forked(self) -> None:
        """Nothing to close: pools of earlier tests may still be there when a later one forks."""


@pytest.fixture
def dealer() -> Dealer:
    return Dealer()


@pytest.fixture
def auto(driver: ScriptedDriver, dealer: Dealer) -> Iterator[Callable[..., ConnectionPool[Conn]]]:
    pools: list[ConnectionPool[Conn]] = []

    def build(**options: Any) -> ConnectionPool[Conn]:
        chosen = PoolOptions(**{"timeout": 10.0, "max_size": "auto", **options})
        budget: Budget[Conn] = Budget(dealer, lambda conn: {"all": 6})
        pools.append(ConnectionPool(driver, chosen, name="test", budget=budget))
        return pools[-1]

    yield build
    for pool in pools:
        pool.close()


def turns(dealer: Dealer, more: int = 2) -> None:
    """Wait for so many turns that began after now, less one."""
    seen = len(dealer.told)
    until(lambda: len(dealer.told) >= seen + more, "a turn")


def test_the_share_is_the_size(auto: Any, dealer: Dealer, driver: ScriptedDriver) -> None:
    pool = auto()
    assert driver.connects == 0
    conns = [pool.getconn() for _ in range(3)]
    with pytest.raises(PoolTimeout, match="max 3: share 3 of budget 6 among 2 processes"):
        pool.getconn(timeout=0)
    turns(dealer)
    assert dealer.told[-1] == (3, {"all": 6})
    stats = pool.get_stats()
    assert (stats["pool_max"], stats["budget_size"], stats["budget_members"]) == (3, 6, 2)
    assert "share 3 of budget 6 among 2 processes" in repr(pool)
    waiting = Caller(pool.getconn)
    until(lambda: pool.get_stats()["requests_waiting"] == 1)
    dealer.standing = Standing(4, 4, 1, 4)
    conns.append(waiting.result())  # type: ignore[arg-type]
    assert "share 4 of budget 4 among 1 process)" in repr(pool)
    for conn in conns:
        pool.putconn(conn)


def test_what_is_lent_is_given_up_when_it_is_back(auto: Any, dealer: Dealer, driver: ScriptedDriver) -> None:
    pool = auto()
    conns = [pool.getconn() for _ in range(3)]
    pool.putconn(conns.pop())
    dealer.standing = Standing(3, 1, 2, 2)
    until(lambda: driver.open == 2)  # the idle one goes at once
    turns(dealer)
    assert dealer.told[-1][0] == 2
    assert "share 3 of budget 2 among 2 processes, 1 to come" in repr(pool)
    pool.putconn(conns.pop())
    assert driver.open == 1
    until(lambda: dealer.told[-1][0] == 1)
    pool.putconn(conns.pop())
    assert driver.open == 1


def test_a_closed_connection_counts_for_one_more_turn(auto: Any, dealer: Dealer) -> None:
    pool = auto()
    conns = [pool.getconn() for _ in range(3)]
    budget = pool._budget
    until(lambda: budget.standing is not None)
    pool._budget._running = False
    with pool._lock:  # the pool's own turns stand still meanwhile
        dealer.standing = Standing(3, 1, 2, 2)
        budget._turn(pool)
        for conn in conns[:2]:
            pool.putconn(conn)
        told = len(dealer.told)
        budget._turn(pool)
        budget._turn(pool)
        assert [used for used, _ in dealer.told[told:]] == [3, 1]
        budget._running = True
    pool.putconn(conns[2])


def test_what_it_might_open_counts_until_it_is_told_less(auto: Any, dealer: Dealer) -> None:
    pool = auto()
    conn = pool.getconn()
    until(lambda: len(dealer.told) >= 2)
    assert {used for used, _ in dealer.told[1:]} == {3}  # of which one is open
    pool.putconn(conn)


def test_min_size_yields_to_the_share(auto: Any, dealer: Dealer, driver: ScriptedDriver) -> None:
    pool = auto(min_size=5)
    pool.wait(20.0)
    assert pool.get_stats()["pool_size"] == 3
    assert pool.get_stats()["pool_min"] == 3
    dealer.standing = Standing(6, 6, 1, 6)
    until(lambda: pool.get_stats()["pool_size"] == 5)
    dealer.standing = Standing(6, 2, 3, 6)
    until(lambda: driver.open == 2)
    assert pool.get_stats()["pool_min"] == 2
    pool.resize(1)
    assert pool.get_stats()["pool_min"] == 1
    pool.resize(9)
    assert pool.get_stats()["pool_min"] == 2
    with pytest.raises(ValueError, match='max_size="auto"'):
        pool.resize(1, 4)


def test_no_share_at_all(auto: Any, dealer: Dealer, driver: ScriptedDriver) -> None:
    dealer.standing = Standing(0, 0, 12, 10)
    pool = auto(min_size=1)
    words = r"share 0 of budget 10 among 12 processes\).*divided among others: raise its limits, or run fewer processes"
    with pytest.raises(PoolTimeout, match=words):
        pool.getconn(timeout=0.5)
    with pytest.raises(PoolTimeout, match="min_size"):
        pool.wait(0.01)
    assert driver.connects == 0
    dealer.standing = Standing(1, 1, 10, 10)
    pool.putconn(pool.getconn())


def test_no_share_while_nobody_knows_what_the_server_allows(auto: Any, dealer: Dealer) -> None:
    dealer.standing = Standing(0, 0, 3, None)
    pool = auto()
    words = r"share 0 of a budget that is not known yet among 3 processes\).*look at whether the server runs"
    with pytest.raises(PoolTimeout, match=words):
        pool.getconn(timeout=0.5)


def test_no_share_yet(auto: Any, dealer: Dealer) -> None:
    dealer.error = PermissionError("not yours")
    with pytest.raises(PoolTimeout, match=r"no share yet; it cannot change: PermissionError.*what keeps the ledger"):
        auto().getconn(timeout=0.5)


def test_a_ledger_that_fails_leaves_the_share_as_it_is(auto: Any, dealer: Dealer, caplog: Any) -> None:
    pool = auto()
    conn = pool.getconn()
    with caplog.at_level(logging.WARNING, "pooling.pool"):
        dealer.error = PermissionError("not yours")
        turns(dealer, 3)
    assert caplog.text.count("cannot change: PermissionError") == 1
    others = [pool.getconn() for _ in range(2)]
    with pytest.raises(PoolTimeout, match="it cannot change: PermissionError: not yours"):
        pool.getconn(timeout=0)
    dealer.error = None
    turns(dealer)
    assert "cannot change" not in repr(pool)
    for one in [conn, *others]:
        pool.putconn(one)


@pytest.mark.parametrize("how", ["closed", "unused"])
def test_a_pool_that_is_empty_leaves_and_comes_back(auto: Any, dealer: Dealer, how: str) -> None:
    pool = auto()
    conn = pool.getconn()
    if how == "closed":
        pool.close()
        pool.putconn(conn)
    else:
        pool.discard(conn)
    until(lambda: dealer.left == 1)
    until(lambda: not pool._budget._running)
    assert pool.get_stats()["pool_max"] == 0
    pool.putconn(pool.getconn())
    assert pool.get_stats()["pool_max"] == 3


def test_at_the_end_of_the_process_a_share_that_is_free_is_given_up(auto: Any, dealer: Dealer) -> None:
    pool = auto()
    conn = pool.getconn()
    pool._budget.end(pool)
    assert dealer.left == 0  # the server counts this one still
    pool.putconn(conn)
    pool._budget.end(pool)
    assert dealer.left == 1
    told = len(dealer.told)
    assert pool._budget.turn(pool) is None
    assert (len(dealer.told), pool.get_stats()["pool_max"]) == (told, 0)  # it does not come back


def test_a_pool_that_nobody_has_any_more_leaves(driver: ScriptedDriver, dealer: Dealer) -> None:
    pool: ConnectionPool[Conn] = ConnectionPool(
        driver, PoolOptions(max_size="auto"), budget=Budget(dealer, lambda conn: {"all": 6})
    )
    pool.putconn(pool.getconn())
    del pool
    until(lambda: dealer.left == 1)


def test_an_answer_about_the_limits_that_fails_is_one_of_the_connect(driver: ScriptedDriver, dealer: Dealer) -> None:
    def ask(conn: Conn) -> Mapping[str, int | None]:
        raise RuntimeError("no such variable")

    pool: ConnectionPool[Conn] = ConnectionPool(driver, PoolOptions(max_size="auto"), budget=Budget(dealer, ask))
    with pytest.raises(RuntimeError, match="no such variable"):
        pool.getconn()
    assert driver.open == 0
    pool.close()


def test_auto_and_a_budget_go_together(driver: ScriptedDriver, dealer: Dealer) -> None:
    with pytest.raises(ValueError, match="or neither"):
        ConnectionPool(driver, PoolOptions(max_size="auto"))
    with pytest.raises(ValueError, match="or neither"):
        ConnectionPool(driver, PoolOptions(), budget=Budget(dealer, lambda conn: {}))


def test_a_forked_child_is_another_member(tmp_path: Path) -> None:
    driver = ScriptedDriver()
    budget: Budget[Conn] = Budget(HostLedger(tmp_path / "a" / "b", ALL), lambda conn: {"all": 6})
    pool: ConnectionPool[Conn] = ConnectionPool(driver, PoolOptions(max_size="auto"), budget=budget)
    pool.putconn(pool.getconn())
    until(lambda: pool.get_stats()["pool_max"] == 6)
    child = in_child(lambda: pool.getconn())
    try:
        until(lambda: pool.get_stats()["pool_max"] == 3)
        assert pool.get_stats()["budget_members"] == 2
    finally:
        kill(child)
    until(lambda: pool.get_stats()["pool_max"] == 6)
    pool.close()
