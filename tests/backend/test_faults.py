"""What networks and servers do wrong, done to the pooled backend through a proxy, or by signals to the server.

`sound` holds after each fault: every place in the pool can be had again, and none is counted twice.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import MySQLdb
import pytest
from django.db import OperationalError

from pooling.backends.mysql.driver import MySQLDriver
from pooling.errors import PoolTimeout
from pooling.pool import ConnectionPool, PoolOptions
from pooling.pool.watcher import TRUST
from tests.proxy import Proxy

from .conftest import ask, identity, in_transaction, private, until

pytestmark = pytest.mark.django_db

FOUR = {"max_size": 4, "timeout": 20}


def works(wrapper: Any) -> bool:
    try:
        return bool(ask(wrapper, "SELECT 1") == ((1,),))
    except OperationalError:
        return False
    finally:
        wrapper.close()


def sound(pool: Any, wrappers: list[Any]) -> None:
    """With nobody using it: all places can be had at once, and not one more."""
    until(lambda: not pool._attempts)
    stats = pool.get_stats()
    assert stats["pool_size"] == stats["pool_available"] <= stats["pool_max"]
    assert not pool._busy
    assert not pool._waiters
    assert len(wrappers) == stats["pool_max"]
    try:
        assert len({identity(wrapper) for wrapper in wrappers}) == len(wrappers)
        with pytest.raises(PoolTimeout, match=f"busy {len(wrappers)}"):
            pool.getconn(timeout=0)
    finally:
        for wrapper in wrappers:
            wrapper.close()
    assert pool.get_stats()["pool_available"] == len(wrappers)


class Asking(threading.Thread):
    """Asks one statement in a thread of its own, closes, and keeps what came of it."""

    def __init__(self, wrapper: Any, statement: str = "SELECT CONNECTION_ID()") -> None:
        super().__init__(daemon=True)
        self.wrapper, self.statement = wrapper, statement
        self.rows: Any = None
        self.error: OperationalError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.rows = ask(self.wrapper, self.statement)
        except OperationalError as error:
            self.error = error
        finally:
            self.wrapper.close()

    def end(self) -> None:
        self.join(30)
        assert not self.is_alive(), "the thread hangs"


# ----- idle connections die -----


@pytest.mark.parametrize("how", ["end", "reset", "half"])
def test_idle_links_that_were_cut_are_not_handed_out(make: Any, proxy: Proxy, how: str) -> None:
    wrappers = private(make, proxy, FOUR)
    pool = wrappers[0].pool
    before = {identity(wrapper) for wrapper in wrappers}
    for wrapper in wrappers:
        wrapper.close()
    if how == "half":
        proxy.half_close()
    else:
        proxy.cut(reset=how == "reset")
        until(lambda: not proxy.links)
    # Cut in the very moment of their return, one may still be lent: see `TRUST` in pooling/pool/watcher.py.
    until(lambda: all(pool._clock() - slot.since > 2 * TRUST for slot in list(pool._idle)))
    assert identity(wrappers[0]) not in before
    assert pool.get_stats()["connections_num"] == 5  # all stale ones went at once
    wrappers[0].close()
    sound(pool, wrappers)
    assert pool.get_stats()["requests_errors"] == 1  # the one that `sound` provokes


# ----- connects fail -----


def test_a_connect_that_is_cut_after_any_byte(make: Any, proxy: Proxy) -> None:
    """In the greeting, the login, the settings of the session: no place is lost, no socket, no thread."""
    wrapper = private(make, proxy, FOUR)[0]
    identity(wrapper)
    whole = proxy.links[0].down
    wrapper.close()
    pool = wrapper.pool
    threads = threading.active_count()
    for bytes_down in range(0, whole, 16):
        pool.close()
        proxy.drop_after = bytes_down
        with pytest.raises(OperationalError):
            identity(wrapper)
        wrapper.close()
        assert len(pool._slots) == 0
        proxy.drop_after = None
        until(lambda: works(wrapper))
    sound(pool, private(make, proxy, FOUR))
    pool.close()
    until(lambda: not proxy.links)
    until(lambda: threading.active_count() <= threads)


def test_a_connect_that_stalls_after_any_byte(make: Any, proxy: Proxy) -> None:
    """In the greeting, the login, or the settings of the session: the user hears of it, and his thread goes on."""
    wrapper = private(make, proxy, {"max_size": 1, "timeout": 20}, OPTIONS={"connect_timeout": 1})[0]
    wrapper.ensure_connection()
    whole = proxy.links[0].down
    pool = wrapper.pool
    # Each answer to one of the settings has eleven bytes, as has that to the login. Before them comes the greeting.
    for bytes_down in (0, 40, *range(whole - 38, whole, 11)):
        wrapper.close()
        pool.close()
        proxy.stall_after = bytes_down
        with pytest.raises(OperationalError) as caught:
            wrapper.ensure_connection()
        assert not isinstance(caught.value.__cause__, MySQLdb.OperationalError)  # the pool says it, not a statement
        until(lambda: not pool._attempts)
        assert len(pool._slots) == 0
        proxy.stall_after = None
        until(lambda: works(wrapper))
    sound(pool, [wrapper])


def test_a_checkout_tries_again_within_its_timeout(make: Any, proxy: Proxy) -> None:
    """Connects that are cut before the server knew of them are nobody's business, if one succeeds in time."""
    wrapper = private(make, proxy, {"max_size": 1, "timeout": 20})[0]
    identity(wrapper)
    wrapper.close()
    proxy.cut()
    until(lambda: not proxy.links)
    pool = wrapper.pool
    # For a moment after its return a connection is lent without a look.
    until(lambda: all(pool._clock() - slot.since > slot.trust for slot in list(pool._idle)))
    assert works(wrapper)  # the idle one was dead: another was made without a word
    assert proxy.accepted == 2


def test_a_hanging_connect_counts_and_delays_nobody(make: Any, proxy: Proxy) -> None:
    holder, first, second, late = private(make, proxy, {"max_size": 2, "timeout": 20})
    number = identity(holder)
    pool = holder.pool
    proxy.hang()
    waiters = [Asking(first)]
    until(lambda: len(pool._waiters) == 1 and proxy.accepted == 2)
    waiters.append(Asking(second))
    until(lambda: len(pool._waiters) == 2)
    with pytest.raises(PoolTimeout, match=r"size 1 .*busy 1, connecting 1"):
        pool.getconn(timeout=0.05)
    holder.close()
    for waiter in waiters:  # one after the other, on the one that was returned
        waiter.end()
        assert waiter.rows == ((number,),)
    assert proxy.accepted == 2  # one each is all that may ever be opened
    assert works(late)
    proxy.go_on()
    until(lambda: pool.get_stats()["pool_size"] == 2)
    sound(pool, [holder, first])


def test_overflow_after_failed_connects(make: Any, proxy: Proxy) -> None:
    """Connects that fail give their places back: not one is missing afterwards, and not one too many there."""
    wrappers = private(make, proxy, FOUR)
    pool = wrappers[0].pool
    proxy.refuse()
    for wrapper in wrappers * 3:
        with pytest.raises(OperationalError):
            wrapper.ensure_connection()
    proxy.listen()
    until(lambda: works(wrappers[0]))
    sound(pool, wrappers)
    assert len(proxy.links) == 4


# ----- outages -----


@pytest.mark.parametrize("how", ["refuse", "hang"])
def test_an_outage_is_known_and_probed_by_one(make: Any, proxy: Proxy, how: str) -> None:
    wrappers = private(make, proxy, {"max_size": 4, "timeout": 60}, 8, OPTIONS={"connect_timeout": 1})
    pool = wrappers[0].pool
    for wrapper in wrappers[:4]:
        wrapper.ensure_connection()
    for wrapper in wrappers[:4]:
        wrapper.close()
    getattr(proxy, how)()
    proxy.cut()
    until(lambda: not proxy.links)
    asking = [Asking(wrapper) for wrapper in wrappers]
    for one in asking:
        one.end()
        assert isinstance(one.error and one.error.__cause__, PoolTimeout)
        assert isinstance(one.error and one.error.__cause__ and one.error.__cause__.__cause__, MySQLdb.Error)
    assert pool._outage.down
    until(lambda: not pool._attempts)
    probes = proxy.accepted  # the first round may have begun several before the outage was known
    for _ in range(3):
        asking = [Asking(wrapper) for wrapper in wrappers]
        while any(one.is_alive() for one in asking):
            assert len(pool._attempts) <= 1
        for one in asking:
            one.end()
            assert one.rows is None
    assert proxy.accepted - probes <= 3
    proxy.listen()
    proxy.go_on()
    until(lambda: works(wrappers[0]))
    until(lambda: not pool._attempts)
    sound(pool, wrappers[:4])


def test_a_probe_that_hangs_does_not_hide_the_recovery(make: Any, proxy: Proxy) -> None:
    """The probe that began in the outage never gets an answer, though the server is back; nor does anybody wait."""
    wrapper = private(make, proxy, {"max_size": 2, "timeout": 60})[0]
    pool = wrapper.pool
    assert works(wrapper)
    proxy.refuse()
    proxy.cut()
    until(lambda: not works(wrapper) and pool._outage.down)  # and not only that a query was cut off
    proxy.hang()
    proxy.listen()
    until(lambda: not works(wrapper) and pool._attempts and proxy.links)
    proxy.links[0].forgotten = True
    proxy.go_on()
    assert pool._attempts  # the one whose probe it is was told that the server is down, and did not wait for the end
    until(lambda: works(wrapper))
    sound(pool, private(make, proxy, {"max_size": 2, "timeout": 60}, 2))


def test_reconnect_failed_is_called_once_in_each_outage(mariadb: Any, proxy: Proxy) -> None:
    called: list[str] = []
    driver = MySQLDriver(
        {"host": proxy.host, "port": proxy.port, "user": mariadb.user}, autocommit=True, isolation=None
    )
    pool = ConnectionPool(
        driver,
        PoolOptions(max_size=2, reconnect_timeout=0.05),
        name="reported",
        reconnect_failed=lambda pool: called.append(repr(pool)),
    )

    def serves() -> bool:
        try:
            with pool.connection():
                return True
        except PoolTimeout:
            return False

    def refused() -> bool:
        return not serves() and bool(called)

    try:
        for _ in range(2):
            assert serves()
            proxy.refuse()
            proxy.cut()
            until(refused)
            failed = pool.get_stats()["connections_errors"]
            until(lambda known=failed: not serves() and pool.get_stats()["connections_errors"] > known + 2)
            assert len(called) == 1
            assert "'reported'" in called.pop()
            proxy.listen()
            until(serves)
    finally:
        pool.close()


# ----- servers that hang -----


def test_read_timeout_ends_a_statement_on_a_server_that_stalls(make: Any, proxy: Proxy) -> None:
    wrappers = private(make, proxy, {"max_size": 1, "timeout": 20}, 1, OPTIONS={"read_timeout": 1})
    wrapper = wrappers[0]
    number = identity(wrapper)
    proxy.stall(up=False)  # the statement arrives, the answer does not
    with pytest.raises(OperationalError) as caught:
        ask(wrapper, "SELECT 'late'")
    assert caught.value.args[0] == 2013
    wrapper.close()
    assert wrapper.pool.get_stats()["pool_size"] == 0  # the late answer has no reader
    proxy.go_on()
    assert identity(wrapper) != number
    wrapper.close()
    sound(wrapper.pool, wrappers)


def test_recovery_from_saturation_by_a_stalled_network(make: Any, proxy: Proxy) -> None:
    """All connections hang in statements and everybody else gives up waiting; then the network is back."""
    holders = private(make, proxy, FOUR)
    others = private(make, proxy, FOUR, 12)
    pool = holders[0].pool
    numbers = {identity(wrapper) for wrapper in holders}
    proxy.stall()
    holding = [Asking(wrapper) for wrapper in holders]
    for _ in others:
        with pytest.raises(PoolTimeout, match="busy 4"):
            pool.getconn(timeout=0.01)
    waiting = [Asking(wrapper) for wrapper in others]
    until(lambda: len(pool._waiters) == len(others))
    proxy.go_on()
    for one in [*holding, *waiting]:
        one.end()
        assert one.rows[0][0] in numbers
    assert proxy.accepted == 4
    sound(pool, holders)


# ----- connections are lost while they are lent -----


def test_cut_in_mid_query(make: Any, proxy: Proxy, mariadb: Any) -> None:
    wrappers = private(make, proxy, FOUR)
    pool = wrappers[0].pool
    for wrapper in wrappers:
        wrapper.ensure_connection()
    asking = [Asking(wrapper, "SELECT SLEEP(60)") for wrapper in wrappers]
    watcher = private(make, mariadb, {"max_size": 1}, 1)[0]
    sleeping = "SELECT COUNT(*) FROM information_schema.processlist WHERE info = 'SELECT SLEEP(60)'"
    until(lambda: ask(watcher, sleeping) == ((4,),))
    proxy.cut()
    for one in asking:
        one.end()
        assert one.error is not None
        assert one.error.args[0] in (2006, 2013)
    assert pool.get_stats()["pool_size"] == 0
    sound(pool, wrappers)


@pytest.mark.parametrize("left", ["BEGIN", "SET @x = 1", "SET autocommit = 0"])
def test_cleaning_up_on_return_fails(make: Any, proxy: Proxy, left: str) -> None:
    """The rollback, or what else a return has to ask for, finds no server: that is no error of the user's."""
    wrappers = private(make, proxy, {"max_size": 1, "timeout": 20}, 1)
    wrapper = wrappers[0]
    number = identity(wrapper)
    ask(wrapper, left)
    proxy.cut(reset=True)
    until(lambda: not proxy.links)
    wrapper.close()
    stats = wrapper.pool.get_stats()
    assert (stats["pool_size"], stats["returns_bad"]) == (0, 1)
    assert identity(wrapper) != number
    assert ask(wrapper, "SELECT @x, @@autocommit") == ((None, 1),)
    assert not in_transaction(wrapper)
    wrapper.close()
    sound(wrapper.pool, wrappers)


@pytest.mark.parametrize("how", ["kill", "stop", "cut"])
def test_faults_under_load(make: Any, mariadb: Any, proxy: Proxy, how: str) -> None:
    """Threads that never stop asking, and a server that dies, hangs, or is cut off: errors meanwhile, none after."""
    wrappers = private(make, proxy, FOUR, 12)
    pool = wrappers[0].pool
    over = threading.Event()
    good = [0] * len(wrappers)
    unexpected: list[BaseException] = []

    def work(number: int) -> None:
        while not over.is_set():
            try:
                if identity(wrappers[number]):
                    good[number] += 1
            except OperationalError:
                pass
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                unexpected.append(error)
                return
            finally:
                wrappers[number].close()

    threads = [threading.Thread(target=work, args=[number], daemon=True) for number in range(len(wrappers))]
    for thread in threads:
        thread.start()

    def everybody_is_served() -> None:
        before = list(good)
        until(lambda: unexpected or all(now > then for now, then in zip(good, before, strict=True)))
        assert not unexpected

    everybody_is_served()
    for _ in range(2):
        if how == "kill":
            mariadb.kill()
            mariadb.start()
        elif how == "stop":
            mariadb.kill(signal.SIGSTOP)
            until(lambda: len(pool._waiters) >= 8)
            mariadb.kill(signal.SIGCONT)
        else:
            for _ in range(10):
                proxy.cut(reset=True)
        everybody_is_served()
    over.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a thread hangs"
    sound(pool, wrappers[:4])


def test_fork_under_load(make: Any, mariadb: Any) -> None:
    """Children that come into being in the middle of others' statements speak on sessions of their own, and the
    parent's threads never notice."""
    wrappers = private(make, mariadb, FOUR, 5)
    own, busy = wrappers[0], wrappers[1:]
    pool = own.pool
    over = threading.Event()
    asked = [0] * len(busy)
    unexpected: list[BaseException] = []

    def work(number: int) -> None:
        try:
            while not over.is_set():
                assert ask(busy[number], f"SELECT {number}, SLEEP(0.001)") == ((number, 0),)
                busy[number].close()
                asked[number] += 1
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            unexpected.append(error)

    threads = [threading.Thread(target=work, args=[number], daemon=True) for number in range(len(busy))]
    for thread in threads:
        thread.start()
    for _ in range(8):
        before = list(asked)
        until(lambda: unexpected or all(now > then for now, then in zip(asked, before, strict=True)))  # noqa: B023
        [[newest]] = ask(own, "SELECT MAX(id) FROM information_schema.processlist")
        own.close()
        child = os.fork()
        if child == 0:
            signal.alarm(30)  # a child that hangs ends by itself
            code = 1
            try:
                code = 0 if identity(own) > newest else 2  # the server counts them
                own.close()
                pool.close()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
    over.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a thread hangs"
    assert not unexpected
    sound(pool, busy)


# ----- the server is full -----


@pytest.fixture
def crowd(mariadb: Any) -> Iterator[Callable[[], Any]]:
    """Makes the server full with sessions of a user who is nothing special; each call of it lets one go."""
    root = MySQLdb.connect(host=mariadb.host, port=mariadb.port, user=mariadb.user)
    asking = root.cursor()
    asking.execute("CREATE USER crowd@'127.0.0.1'")
    asking.execute("GRANT SELECT ON mysql.* TO crowd@'127.0.0.1'")
    asking.execute("CREATE USER few@'127.0.0.1' WITH MAX_USER_CONNECTIONS 2")
    asking.execute("GRANT SELECT ON mysql.* TO few@'127.0.0.1'")
    asking.execute("SET GLOBAL max_connections = 10")
    sessions: list[Any] = []

    def one_less() -> None:
        sessions.pop().close()

    def full() -> bool:
        """Sessions that have ended count for a moment more; so this is asked until the server refuses."""
        try:
            sessions.append(MySQLdb.connect(host=mariadb.host, port=mariadb.port, user="crowd"))
        except MySQLdb.OperationalError as error:
            return bool(error.args[0] == 1040)
        return False

    one_less.fill = full  # type: ignore[attr-defined]
    yield one_less
    for session in sessions:
        session.close()
    asking.execute("SET GLOBAL max_connections = 500")
    asking.execute("DROP USER crowd@'127.0.0.1', few@'127.0.0.1'")
    root.close()


def test_a_full_server_and_no_connection_of_our_own(make: Any, mariadb: Any, crowd: Any) -> None:
    wrapper = private(make, mariadb, {"max_size": 4, "timeout": 60}, 1, USER="crowd")[0]
    until(crowd.fill)
    with pytest.raises(OperationalError, match=r"at its capacity.*1040") as caught:
        identity(wrapper)
    assert isinstance(caught.value.__cause__, PoolTimeout)
    connects = wrapper.pool.get_stats()["connections_num"]
    assert connects == 1
    crowd()
    until(lambda: works(wrapper))


def test_a_full_server_and_connections_of_our_own(make: Any, mariadb: Any, crowd: Any) -> None:
    """Who waits gets one of ours when it comes back, and a new one when the server has room."""
    holder, first, second, third = private(make, mariadb, {"max_size": 4, "timeout": 60}, USER="crowd")
    number = identity(holder)
    pool = holder.pool
    until(crowd.fill)
    waiting = Asking(first)
    until(lambda: pool.get_stats()["connections_errors"] >= 1)
    assert waiting.is_alive()
    holder.close()
    waiting.end()
    assert waiting.rows == ((number,),)
    identity(second)
    waiting = Asking(third)
    until(lambda: len(pool._waiters) == 1)
    crowd()
    waiting.end()
    assert waiting.rows not in (None, ((number,),))
    second.close()


def test_a_users_share_of_the_server_is_used_up(make: Any, mariadb: Any, crowd: Any) -> None:
    wrappers = private(make, mariadb, {"max_size": 4, "timeout": 60}, USER="few")
    numbers = {identity(wrapper) for wrapper in wrappers[:2]}
    waiting = [Asking(wrapper) for wrapper in wrappers[2:]]
    until(lambda: wrappers[0].pool.get_stats()["connections_errors"] >= 1)
    assert all(one.is_alive() for one in waiting)
    for wrapper in wrappers[:2]:
        wrapper.close()
    for one in waiting:
        one.end()
        assert one.rows[0][0] in numbers
