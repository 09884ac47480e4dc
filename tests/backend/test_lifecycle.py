"""From checkout to return: restarts, hung servers, transactions, signals, requests, threads, test clones."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import MySQLdb
import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.db import OperationalError, ProgrammingError, connection, connections, transaction
from django.db.backends.signals import connection_created
from django.test import RequestFactory

from pooling.backends.mysql.base import DatabaseWrapper
from pooling.errors import PoolTimeout
from tests.app.models import Note

from .conftest import ask, identity, in_transaction, private, until

pytestmark = pytest.mark.django_db

ONE = {"max_size": 1, "timeout": 5}


def in_thread(function: Callable[[], Any]) -> Any:
    """What ``function`` returns in a thread that ends with it."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(function).result(60)


# ----- the server goes away -----


@pytest.mark.parametrize(("how", "stale"), [(signal.SIGTERM, 8), (signal.SIGKILL, 1), (signal.SIGKILL, 32)])
def test_the_first_checkout_after_a_restart_works(make: Any, mariadb: Any, how: int, stale: int) -> None:
    wrappers = private(make, mariadb, {"max_size": stale, "timeout": 10}, number=stale)
    for wrapper in wrappers:
        wrapper.ensure_connection()
    pool = wrappers[0].pool
    before = {wrapper.connection.thread_id() for wrapper in wrappers}
    slots = list(pool._slots.values())
    for wrapper in wrappers:
        wrapper.close()
    assert len(before) == pool.get_stats()["pool_available"] == stale
    mariadb.kill(how)
    mariadb.start()

    assert ask(wrappers[0], "SELECT 1") == ((1,),)  # no stale one was handed out, and nothing failed on the way
    assert not set(slots) & set(pool._slots.values())  # all of them went at the first dead one
    stats = pool.get_stats()
    assert stats["connections_num"] == stale + 1  # and one connect was all that it took
    for wrapper in wrappers:
        assert ask(wrapper, "SELECT 1") == ((1,),)
    stats = pool.get_stats()
    assert stats["connections_errors"] == stats["requests_errors"] == 0


def test_down_is_said_at_once_and_recovery_is_noticed(make: Any, mariadb: Any) -> None:
    wrapper = private(make, mariadb, {"max_size": 4, "timeout": 60})[0]
    ask(wrapper, "SELECT 1")
    wrapper.close()
    mariadb.stop()
    with pytest.raises(OperationalError, match="onnect") as caught:
        wrapper.ensure_connection()
    assert isinstance(caught.value.__cause__, PoolTimeout)
    assert isinstance(caught.value.__cause__.__cause__, MySQLdb.OperationalError)
    mariadb.start()

    def works() -> bool:
        try:
            return bool(ask(wrapper, "SELECT 1") == ((1,),))
        except OperationalError:
            return False

    until(works)


def test_a_server_lost_while_a_connection_is_out(make: Any, mariadb: Any) -> None:
    wrapper = private(make, mariadb, ONE)[0]
    ask(wrapper, "SELECT 1")
    mariadb.restart()
    with pytest.raises(OperationalError):
        ask(wrapper, "SELECT 1")
    wrapper.close()
    assert ask(wrapper, "SELECT 1") == ((1,),)


def test_connect_timeout_ends_the_wait_for_a_server_that_hangs(make: Any, mariadb: Any) -> None:
    wrapper = private(make, mariadb, {"max_size": 1, "timeout": 100}, OPTIONS={"connect_timeout": 1})[0]
    mariadb.kill(signal.SIGSTOP)  # the kernel still accepts connections, and nobody says a word
    try:
        with pytest.raises(OperationalError) as caught:
            wrapper.ensure_connection()
    finally:
        mariadb.kill(signal.SIGCONT)
    refused = caught.value.__cause__.__cause__  # type: ignore[union-attr]
    assert isinstance(refused, MySQLdb.OperationalError)
    assert refused.args[0] in (2002, 2003, 2013)


def test_the_pools_timeout_ends_the_wait_for_a_server_that_hangs(make: Any, mariadb: Any) -> None:
    wrapper = private(make, mariadb, {"max_size": 1, "timeout": 0.2}, OPTIONS={"connect_timeout": 100})[0]
    mariadb.kill(signal.SIGSTOP)
    try:
        with pytest.raises(OperationalError) as caught:
            wrapper.ensure_connection()
        assert isinstance(caught.value.__cause__, PoolTimeout)
    finally:
        mariadb.kill(signal.SIGCONT)


@pytest.mark.parametrize("left", ["nothing", "a variable", "a transaction"])
def test_a_server_that_hangs_costs_a_connection_and_not_the_thread(make: Any, mariadb: Any, left: str) -> None:
    """The pool's own questions are answered in time or given up; users' statements have all the time they need."""
    wrapper = private(make, mariadb, ONE, OPTIONS={"connect_timeout": 1})[0]
    ask(wrapper, {"nothing": "SELECT 1", "a variable": "SET @x = 1", "a transaction": "BEGIN"}[left])
    connection = wrapper.connection
    driver = wrapper.pool._driver
    mariadb.kill(signal.SIGSTOP)
    try:
        said: list[bool] = []
        question = driver.ping if left == "nothing" else driver.reset
        thread = threading.Thread(target=lambda: said.append(question(connection)))
        thread.start()
        until(lambda: said)
        assert said == [False]
        assert connection.broken
        assert not driver.alive(connection)
    finally:
        mariadb.kill(signal.SIGCONT)
        thread.join()
    assert not driver.reset(connection)  # the answer that comes late is nobody's
    wrapper.close()
    assert ask(wrapper, "SELECT 1") == ((1,),)


def test_a_ping_leaves_nothing_behind(make: Any) -> None:
    wrapper = make(ONE)
    number = identity(wrapper)
    for _ in range(3):
        assert wrapper.pool._driver.ping(wrapper.connection)
    assert wrapper.connection.clean
    assert identity(wrapper) == number
    wrapper.close()
    wrapper.pool.check()
    assert identity(wrapper) == number


def test_an_unknown_host_is_an_outage(make: Any) -> None:
    wrapper = make({"max_size": 1, "timeout": 60}, HOST="no-such-host.invalid", PORT="3306")
    with pytest.raises(OperationalError, match=r"2005.*no-such-host\.invalid") as caught:
        wrapper.ensure_connection()
    assert isinstance(caught.value.__cause__, PoolTimeout)
    assert isinstance(caught.value.__cause__.__cause__, MySQLdb.OperationalError)


# ----- transactions -----


class Undo(Exception):
    pass


def undone(callback: Callable[[], Any]) -> None:
    with transaction.atomic():
        Note.objects.create(text="undone")
        transaction.on_commit(callback)
        raise Undo


def closed_inside() -> None:
    with transaction.atomic():
        Note.objects.create(text="lost")
        connection.close()
        Note.objects.create(text="lost as well")


@pytest.mark.django_db(transaction=True)
def test_atomic_savepoint_and_on_commit(observer: Any) -> None:
    count = f"SELECT text FROM {Note._meta.db_table}"
    connection.close()  # it may be of a pool that another test closed
    number = identity(connection)
    seen: list[Any] = []
    with transaction.atomic():
        Note.objects.create(text="kept")
        transaction.on_commit(lambda: seen.append(ask(observer, count)))
        with pytest.raises(Undo):
            undone(lambda: seen.append("never"))
        assert ask(connection, count) == (("kept",),)
        assert ask(observer, count) == ()
    assert seen == [(("kept",),)]
    with pytest.raises(Undo):
        undone(lambda: seen.append("never"))
    assert ask(observer, count) == (("kept",),)
    assert len(seen) == 1
    connection.close()
    assert identity(connection) == number  # nothing of it cost the connection
    assert ask(connection, "SELECT @@autocommit") == ((1,),)
    assert not in_transaction(connection)


@pytest.mark.django_db(transaction=True)
def test_closed_inside_atomic(observer: Any) -> None:
    with pytest.raises(ProgrammingError, match="new connection in an atomic block"):
        closed_inside()
    assert ask(observer, f"SELECT * FROM {Note._meta.db_table}") == ()
    assert ask(connection, "SELECT @@autocommit") == ((1,),)
    assert not in_transaction(connection)


# ----- signals -----


def test_connection_created_comes_at_every_checkout(make: Any) -> None:
    wrapper, other = make(ONE), make(ONE)
    told: list[Any] = []

    def receiver(connection: Any, **kwargs: Any) -> None:
        told.append(connection)
        if connection is wrapper:
            ask(connection, "SET @mine = 1")

    connection_created.connect(receiver)
    try:
        for _ in range(2):
            assert ask(wrapper, "SELECT @mine") == ((1,),)
            wrapper.close()
            assert ask(other, "SELECT @mine") == ((None,),)
            other.close()
    finally:
        connection_created.disconnect(receiver)
    assert told == [wrapper, other, wrapper, other]


def test_a_failing_receiver_does_not_keep_the_connection(make: Any) -> None:
    wrapper = make(ONE)

    def receiver(**kwargs: Any) -> None:
        raise Undo

    connection_created.connect(receiver)
    try:
        with pytest.raises(Undo):
            wrapper.ensure_connection()
    finally:
        connection_created.disconnect(receiver)
    assert wrapper.connection is None
    assert ask(make(ONE), "SELECT 1") == ((1,),)


# ----- requests and threads -----


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/number", "/broken"])
def test_the_end_of_a_request_gives_the_connection_back(settings: Any, path: str) -> None:
    # Not with the test client: it takes the receiver that closes connections off the signal.
    settings.ROOT_URLCONF = "tests.backend.urls"
    handler = WSGIHandler()
    numbers = set()

    def request() -> None:
        wrapper = connections["default"]
        response = handler(RequestFactory().get(path).environ, lambda status, headers: None)
        assert wrapper.connection is not None
        numbers.add(wrapper.connection.thread_id())
        response.close()
        assert wrapper.connection is None

    connection.close()
    for _ in range(4):
        in_thread(request)
    assert len(numbers) == 1
    stats = connection.pool.get_stats()
    assert stats["pool_available"] == stats["pool_size"]


def test_a_thread_that_ends_without_close_costs_nobody_anything(make: Any, caplog: Any) -> None:
    first, second = make(ONE), make(ONE)
    first.inc_thread_sharing()
    number = in_thread(lambda: identity(first))
    other = identity(second)
    assert other != number
    first.close()  # far too late
    assert "reclaimed" in caplog.text
    assert identity(second) == other


# ----- the pool is closed by one of its users -----


def waits_for_a_connection(pool: Any, wrapper: Any) -> tuple[threading.Thread, list[Any]]:
    """A thread that waits in the pool's queue, and where it leaves its session's number or its error."""
    came: list[Any] = []

    def work() -> None:
        try:
            came.append(identity(wrapper))
        except OperationalError as error:
            came.append(error)
        finally:
            wrapper.close()

    waiting = pool.get_stats()["requests_waiting"]
    thread = threading.Thread(target=work)
    thread.start()
    until(lambda: came or pool.get_stats()["requests_waiting"] > waiting)
    return thread, came


def test_lent_connections_count_after_close_pool(make: Any) -> None:
    option = {"max_size": 2, "timeout": 0.05}
    holders = [make(option), make(option)]
    late = make(option)
    for holder in holders:
        holder.ensure_connection()
    pool = late.pool
    for _ in range(2):
        late.close_pool()
        with pytest.raises(OperationalError, match="max_size"):
            late.ensure_connection()
    assert late.pool is pool
    lent = {identity(holder) for holder in holders}  # they may go on with what they have
    for holder in holders:
        holder.close()
    assert pool.get_stats()["pool_size"] == 0
    assert identity(late) not in lent


def test_close_pool_refuses_nobody_who_waits(make: Any) -> None:
    first, second = make(ONE), make(ONE)
    number = identity(first)
    pool = first.pool
    thread, came = waits_for_a_connection(pool, second)
    first.close_pool()
    assert pool.get_stats()["requests_waiting"] == 1
    first.close()
    thread.join()
    assert came[0] != number  # closed when it came back, and a new one in its place
    assert pool.get_stats()["requests_errors"] == 0


def test_close_pool_after_every_task(make: Any) -> None:
    """Threads that each close the pool after each of their tasks, as workers of a task queue do."""
    option = {"max_size": 2, "timeout": 60}
    wrappers = [make(option) for _ in range(5)]
    barrier = threading.Barrier(5)

    def tasks(wrapper: Any) -> int:
        barrier.wait(20)
        done = 0
        for _ in range(20):
            done += ask(wrapper, "SELECT 1")[0][0]
            wrapper.close()
            wrapper.close_pool()
        return done

    pool = wrappers[0].pool
    with ThreadPoolExecutor(5) as executor:
        assert list(executor.map(tasks, wrappers)) == [20] * 5
    assert wrappers[0].pool is pool
    assert pool.get_stats()["requests_errors"] == 0
    until(lambda: pool.get_stats()["pool_size"] == 0)


# ----- databases of a test run -----


def pooled() -> set[Any]:
    """Names of the databases that there are pools for."""
    return {key[0] for key in DatabaseWrapper._connection_pools}


def test_clones_for_parallel_workers(make: Any, observer: Any) -> None:
    wrapper = make({"max_size": 2, "timeout": 5})
    name = wrapper.settings_dict["NAME"]
    original = dict(wrapper.settings_dict)
    ask(wrapper, "SELECT 1")
    suffixes = ["71", "72"]
    try:
        for suffix in suffixes:
            wrapper.creation.clone_test_db(suffix, verbosity=0, autoclobber=True)
        assert name not in pooled()  # or the workers would inherit its connections
        before = identity(wrapper)
        children = []
        for suffix in suffixes:
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    wrapper.creation.setup_worker_connection(suffix)
                    ask(wrapper, f"INSERT INTO {Note._meta.db_table} (text) VALUES (DATABASE())")
                    code = 0
                finally:
                    os._exit(code)
            children.append(child)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
        assert identity(wrapper) == before  # the workers left the parent's session alone
        for suffix in suffixes:
            clone = f"{name}_{suffix}"
            assert ask(observer, f"SELECT text FROM {clone}.{Note._meta.db_table}") == ((clone,),)
        assert ask(observer, f"SELECT * FROM {name}.{Note._meta.db_table}") == ()
        wrapper.creation.setup_worker_connection("71")
        assert ask(wrapper, "SELECT DATABASE()") == ((f"{name}_71",),)
        wrapper.close()
        assert f"{name}_71" in pooled()
    finally:
        for suffix in suffixes:
            wrapper.settings_dict.update(original)
            wrapper.creation.destroy_test_db(old_database_name=name, verbosity=0, suffix=suffix)
        wrapper.settings_dict.update(original)
    assert f"{name}_71" not in pooled()
    databases = [row[0] for row in ask(observer, "SHOW DATABASES")]
    assert name in databases
    assert not [one for one in databases if one.endswith(tuple(suffixes))]


def test_threads_of_one_pool_see_one_database(make: Any) -> None:
    wrappers = [make({"max_size": 3, "timeout": 10}) for _ in range(6)]
    barrier = threading.Barrier(6)

    def work(wrapper: Any) -> Any:
        barrier.wait(20)
        try:
            return ask(wrapper, "SELECT DATABASE()")[0][0]
        finally:
            wrapper.close()

    with ThreadPoolExecutor(6) as executor:
        assert set(executor.map(work, wrappers)) == {wrappers[0].settings_dict["NAME"]}
