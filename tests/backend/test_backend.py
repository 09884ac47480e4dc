"""The pooled backend against a real server."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from MySQLdb.cursors import SSCursor

from pooling.backends.mysql import base
from pooling.errors import PoolTimeout

from .conftest import ask, in_transaction, until

# The test database is only made when a test asks for it.
pytestmark = pytest.mark.django_db

LOOK = """SELECT @x, @@sql_mode, @@foreign_key_checks, @@character_set_client, @@character_set_results,
    @@character_set_connection, @@collation_connection, @@autocommit, @@unique_checks, @@time_zone, @@sql_auto_is_null,
    @@lock_wait_timeout, @@max_join_size, @@sql_select_limit, DATABASE(), IS_USED_LOCK('backend-test')"""


def state(wrapper: Any) -> list[Any]:
    """What a user can see of the session. The isolation level has one name, the other, or both."""
    return [ask(wrapper, LOOK), ask(wrapper, "SHOW SESSION VARIABLES LIKE 't%\\_isolation'"), in_transaction(wrapper)]


def questions(wrapper: Any) -> tuple[int, int]:
    """The session's number and the statements it has had. The server's total would count other tests' as well."""
    with wrapper.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Questions'")
        return wrapper.connection.thread_id(), int(cursor.fetchall()[0][1])


def test_one_statement_for_a_one_query_request(make: Any) -> None:
    wrapper = make()
    session, before = questions(wrapper)
    wrapper.close()
    for _ in range(5):
        ask(wrapper, "SELECT 1")
        wrapper.close()
    assert questions(wrapper) == (session, before + 5 + 1)


@pytest.mark.parametrize(
    "statement",
    [
        "SET @x = 1",
        "SELECT @x := 1",
        "SET sql_mode = ''",
        "SET @@session.sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
        "SET SESSION sql_select_limit = 1",
        "SET time_zone = '+03:00'",
        "SET @@unique_checks = 0",
        "SET foreign_key_checks = 0",
        "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET NAMES latin1",
        "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
        "SET CHARACTER SET latin1",
        "SET autocommit = 0",
        "SELECT GET_LOCK('backend-test', 0)",
        "USE mysql",
        "BEGIN",
        "START TRANSACTION",
        "PREPARE p FROM 'SELECT 1'",
        "CREATE TEMPORARY TABLE leak (a int)",
        "LOCK TABLES django_content_type READ",
    ],
)
@pytest.mark.parametrize("raw", [False, True])
def test_the_next_user_sees_nothing(make: Any, statement: str, raw: bool) -> None:
    wrapper = make({"max_size": 1, "timeout": 5})
    expected = state(wrapper)
    wrapper.close()
    wrapper.ensure_connection()
    if raw:
        cursor = wrapper.connection.cursor()
        cursor.execute(statement)
        cursor.close()
    else:
        ask(wrapper, statement)
    wrapper.close()
    assert state(wrapper) == expected
    with pytest.raises(Exception, match=r"leak|doesn't exist|Unknown"):
        ask(wrapper, "SELECT * FROM leak")
    with pytest.raises(Exception, match="Unknown prepared statement"):
        ask(wrapper, "EXECUTE p")
    ask(wrapper, "SELECT * FROM django_migrations")  # refused while another table is locked


def test_the_number_of_the_last_insert_stays_and_primary_keys_are_right(make: Any) -> None:
    """What the backend's docstring says about LAST_INSERT_ID(): whoever changes it changes the docstring."""
    wrapper = make({"max_size": 1, "timeout": 5})
    [[session]] = ask(wrapper, "SELECT CONNECTION_ID()")
    ask(wrapper, "SELECT LAST_INSERT_ID(4711)")
    wrapper.close()
    assert ask(wrapper, "SELECT CONNECTION_ID(), LAST_INSERT_ID()") == ((session, 4711),)
    assert "LAST_INSERT_ID()" in (base.__doc__ or "")
    with wrapper.cursor() as cursor:
        cursor.execute("INSERT INTO django_content_type (app_label, model) VALUES ('number', 'number')")
        number = cursor.lastrowid
    try:
        assert ask(wrapper, "SELECT id FROM django_content_type WHERE app_label = 'number'") == ((number,),)
    finally:
        ask(wrapper, "DELETE FROM django_content_type WHERE app_label = 'number'")


def test_a_transaction_left_open_is_rolled_back(make: Any, observer: Any) -> None:
    wrapper = make()
    wrapper.set_autocommit(False)
    ask(wrapper, "INSERT INTO django_content_type (app_label, model) VALUES ('leak', 'leak')")
    wrapper.close()
    assert ask(wrapper, "SELECT @@autocommit") == ((1,),)
    assert ask(observer, "SELECT COUNT(*) FROM django_content_type WHERE app_label = 'leak'") == ((0,),)


def test_a_killed_idle_connection_is_not_handed_out(make: Any, observer: Any) -> None:
    wrapper = make()
    [[number]] = ask(wrapper, "SELECT CONNECTION_ID()")
    wrapper.close()
    ask(observer, f"KILL {number}")
    until(lambda: wrapper.pool.get_stats()["pool_size"] == 0)  # it learns of it by itself
    [[other]] = ask(wrapper, "SELECT CONNECTION_ID()")
    assert other != number


def test_fork_connects_anew_and_harms_nobody(make: Any) -> None:
    wrapper = make()
    [[number]] = ask(wrapper, "SELECT CONNECTION_ID()")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if ask(wrapper, "SELECT CONNECTION_ID()") != ((number,),) else 2
            wrapper.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ask(wrapper, "SELECT CONNECTION_ID()") == ((number,),)


def test_exhaustion_is_an_operational_error_with_its_cause(make: Any) -> None:
    option = {"max_size": 1, "timeout": 0.05}
    first, second = make(option), make(option)
    first.ensure_connection()
    with pytest.raises(OperationalError) as caught:
        second.ensure_connection()
    assert isinstance(caught.value.__cause__, PoolTimeout)
    first.close()
    second.ensure_connection()


def test_more_threads_than_connections(make: Any) -> None:
    wrappers = [make({"max_size": 2, "timeout": 10}) for _ in range(8)]
    seen: list[int] = []

    def work(wrapper: Any) -> None:
        for _ in range(10):
            seen.append(ask(wrapper, "SELECT CONNECTION_ID()")[0][0])
            wrapper.close()

    threads = [threading.Thread(target=work, args=[wrapper]) for wrapper in wrappers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 80
    assert len(set(seen)) <= 2


def test_an_unread_result_is_never_handed_on(make: Any) -> None:
    wrapper = make({"max_size": 1, "timeout": 5})
    wrapper.ensure_connection()
    cursor = wrapper.connection.cursor(SSCursor)
    cursor.execute("SELECT 1 UNION SELECT 2")
    assert cursor.fetchone() == (1,)
    wrapper.close()
    assert ask(wrapper, "SELECT 3") == ((3,),)


def test_pools_are_keyed_by_what_they_connect_to(make: Any) -> None:
    assert make().pool is make().pool
    assert make().pool is not make(NAME="mysql").pool
    wrapper = make()
    before = wrapper.pool
    wrapper.settings_dict["NAME"] = "mysql"
    assert wrapper.pool is not before
    assert ask(wrapper, "SELECT DATABASE()") == (("mysql",),)


def test_close_pool_is_idempotent_and_reopens(make: Any) -> None:
    wrapper = make()
    ask(wrapper, "SELECT 1")
    wrapper.close()
    wrapper.close_pool()
    wrapper.close_pool()
    assert ask(wrapper, "SELECT 1") == ((1,),)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"USER": "nobody", "PASSWORD": "wrong"}, "Access denied"),
        ({"NAME": "no_such_database"}, "Unknown database"),
        ({"HOST": "127.0.0.1", "PORT": "1"}, "connect to"),
    ],
)
def test_the_servers_own_words(make: Any, changes: dict[str, str], words: str) -> None:
    with pytest.raises(OperationalError, match=words):
        make({"timeout": 1}, **changes).ensure_connection()


@pytest.mark.parametrize(
    ("option", "words"), [({"max_sise": 2}, "max_size"), (3, "True, False or a dict"), ({"max_size": 0}, "max_size")]
)
def test_bad_options(make: Any, option: Any, words: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=words):
        make(option).ensure_connection()


def test_persistent_connections_are_refused_when_the_pool_is_made(make: Any) -> None:
    wrapper = make({"max_size": 1, "timeout": 4}, CONN_MAX_AGE=5)
    with pytest.raises(ImproperlyConfigured, match="persistent connections"):
        wrapper.ensure_connection()


def test_without_the_option_it_is_djangos_own(make: Any) -> None:
    wrapper = make(False)
    assert wrapper.pool is None
    assert ask(wrapper, "SELECT 1") == ((1,),)
    assert type(wrapper.connection).__module__ == "MySQLdb.connections"


def test_a_failed_health_check_destroys_the_connection(make: Any, observer: Any) -> None:
    wrapper = make(CONN_HEALTH_CHECKS=True)
    assert wrapper.is_usable() is False
    [[number]] = ask(wrapper, "SELECT CONNECTION_ID()")
    ask(observer, f"KILL {number}")
    assert wrapper.is_usable() is False
    wrapper.close()
    assert ask(wrapper, "SELECT CONNECTION_ID()") != ((number,),)


def test_release_if_clean(make: Any) -> None:
    wrapper = make()
    ask(wrapper, "SELECT 1")
    assert wrapper.release_if_clean()
    assert wrapper.connection is None
    ask(wrapper, "SET @x = 1")
    assert not wrapper.release_if_clean()


def test_an_interrupt_between_a_statement_and_its_result_costs_the_connection(make: Any) -> None:
    wrapper = make({"max_size": 1, "timeout": 5})
    [[number]] = ask(wrapper, "SELECT CONNECTION_ID()")
    wrapper.connection.query(b"SELECT 1")  # as far as a KeyboardInterrupt let it come
    wrapper.close()
    assert ask(wrapper, "SELECT CONNECTION_ID()") != ((number,),)


def test_autocommit_off_by_setting(make: Any, observer: Any) -> None:
    wrapper = make({"max_size": 1, "timeout": 5}, AUTOCOMMIT=False)
    assert ask(wrapper, "SELECT @@autocommit") == ((0,),)
    ask(wrapper, "INSERT INTO django_content_type (app_label, model) VALUES ('leak', 'leak')")
    wrapper.close()
    assert not in_transaction(wrapper)
    assert ask(wrapper, "SELECT @@autocommit") == ((0,),)
    assert ask(observer, "SELECT COUNT(*) FROM django_content_type WHERE app_label = 'leak'") == ((0,),)
