"""Accounts with a password, as each server authenticates them by default: MySQL by caching_sha2_password.

That one proves the password in full, over TLS, a socket file or with the server's public key, unless the server
remembers the account; it forgets all of them at FLUSH PRIVILEGES. A reset proves it again each time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import MySQLdb
import pytest
from django.db import OperationalError, ProgrammingError

from pooling.pool import Failure
from tests.servers import private_database

from .conftest import ask, in_transaction, until

pytestmark = pytest.mark.django_db

ONE = {"max_size": 1, "timeout": 5}
SECRET = "it's 100 % \\secret\\, ü"


def identity(wrapper: Any) -> int:
    return int(ask(wrapper, "SELECT CONNECTION_ID()")[0][0])


@pytest.fixture
def account(observer: Any) -> Iterator[dict[str, str]]:
    """USER and PASSWORD of a new account that may do everything."""
    password = MySQLdb.string_literal(SECRET.encode()).decode()
    for host in ("localhost", "127.0.0.1"):
        ask(observer, f"CREATE USER visitor@'{host}' IDENTIFIED BY {password}")
        ask(observer, f"GRANT ALL PRIVILEGES ON *.* TO visitor@'{host}'")
    yield {"USER": "visitor", "PASSWORD": SECRET}
    for host in ("localhost", "127.0.0.1"):
        ask(observer, f"DROP USER visitor@'{host}'")


@pytest.fixture(params=["address", "socket file", "tls"])
def way(request: Any, observer: Any) -> dict[str, Any]:
    """How to get to the server: settings. Over TLS where it has a certificate by itself, as MySQL has."""
    if request.param == "socket file":
        return {"HOST": ask(observer, "SELECT @@socket")[0][0], "PORT": ""}
    secured = bool(dict(ask(observer, "SHOW STATUS LIKE 'Ssl_server_not_after'"))["Ssl_server_not_after"])
    if request.param == "tls" and secured:
        return {"OPTIONS": {"ssl_mode": "REQUIRED"}}
    return {"OPTIONS": {"ssl_mode": "DISABLED"}}


def test_the_server_is_told_the_password_at_a_reset_too(make: Any, account: Any, way: Any, observer: Any) -> None:
    wrapper = make(ONE, **account, **way)
    ask(observer, "FLUSH PRIVILEGES")
    number = identity(wrapper)
    expected = ask(wrapper, "SELECT @@collation_connection, @@sql_mode, DATABASE(), CURRENT_USER()")
    assert bool(ask(wrapper, "SHOW STATUS LIKE 'Ssl_cipher'")[0][1]) == (way.get("OPTIONS") == {"ssl_mode": "REQUIRED"})
    for remembered in (False, True):
        ask(wrapper, "SET @x = 1")
        ask(wrapper, "SET NAMES latin1")
        ask(wrapper, "BEGIN")
        if not remembered:
            ask(observer, "FLUSH PRIVILEGES")
        wrapper.close()
        assert identity(wrapper) == number
        assert ask(wrapper, "SELECT @x") == ((None,),)
        assert not in_transaction(wrapper)
        assert ask(wrapper, "SELECT @@collation_connection, @@sql_mode, DATABASE(), CURRENT_USER()") == expected
        wrapper.close()


def test_strings_are_escaped_for_the_charset_of_the_new_session(make: Any, account: Any) -> None:
    """gbk takes the backslash before a quote for the second byte of a letter, if one side does not know of it."""
    wrapper = make(ONE, **account)
    number = identity(wrapper)
    ask(wrapper, "SET NAMES gbk")
    wrapper.connection.set_character_set("gbk")
    wrapper.close()
    assert identity(wrapper) == number
    assert wrapper.connection.character_set_name() == "utf8mb4"
    tricky = "\u0101' OR 1 = 1 -- ü€😀"
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT %s, HEX(%s)", [tricky, tricky])
        assert cursor.fetchall() == ((tricky, tricky.encode().hex().upper()),)


def test_a_wrong_password_is_said_in_the_servers_own_words(make: Any, account: Any, way: Any) -> None:
    wrapper = make({"max_size": 2, "timeout": 60}, **{**account, **way, "PASSWORD": "wrong"})
    for _ in range(2):
        with pytest.raises(OperationalError, match=r"1045.*Access denied for user 'visitor'@"):
            wrapper.ensure_connection()
        assert wrapper.connection is None
    assert wrapper.pool.get_stats()["pool_size"] == 0


def test_a_password_changed_meanwhile_costs_the_connection(make: Any, account: Any, observer: Any) -> None:
    wrapper = make(ONE, **account)
    number = identity(wrapper)
    ask(wrapper, "SET @x = 1")
    ask(observer, "ALTER USER visitor@'127.0.0.1' IDENTIFIED BY 'another'")
    wrapper.close()
    assert wrapper.pool.get_stats()["pool_size"] == 0
    with pytest.raises(OperationalError, match="1045"):
        wrapper.ensure_connection()
    fresh = make(ONE, **{**account, "PASSWORD": "another"})
    assert identity(fresh) != number


def test_a_reset_without_a_database(make: Any, account: Any) -> None:
    wrapper = make(ONE, **account, NAME="")
    number = identity(wrapper)
    ask(wrapper, "USE mysql")
    wrapper.close()
    assert ask(wrapper, "SELECT CONNECTION_ID(), DATABASE()") == ((number, None),)


@pytest.mark.parametrize("statement", ["XA START 'accounts'", "SET RESOURCE GROUP USR_default"])
def test_what_outlives_a_reset_costs_the_connection(make: Any, statement: str) -> None:
    """A resource group stays with the server's thread through every reset; MariaDB has none, and says so."""
    wrapper = make(ONE)
    number = identity(wrapper)
    with contextlib.suppress(ProgrammingError):
        ask(wrapper, statement)
    wrapper.close()
    assert identity(wrapper) != number


@pytest.mark.parametrize(
    "statement", ["FLUSH TABLES WITH READ LOCK", "LOCK INSTANCE FOR BACKUP", "BACKUP STAGE START", "SET ROLE NONE"]
)
def test_the_servers_own_locks_are_let_go(make: Any, observer: Any, statement: str) -> None:
    """One of the two ways to lock for a backup is a syntax error on each server."""
    wrapper = make(ONE)
    number = identity(wrapper)
    with contextlib.suppress(ProgrammingError):
        ask(wrapper, statement)
    wrapper.close()
    ask(observer, "SET SESSION lock_wait_timeout = 20")
    ask(observer, "CREATE TABLE unlocked (a int)")
    ask(observer, "ALTER TABLE unlocked ADD COLUMN b int")
    ask(observer, "DROP TABLE unlocked")
    assert identity(wrapper) == number


# ----- the server ends the session -----


def has_gone(observer: Any, number: int) -> bool:
    return not [row for row in ask(observer, "SHOW PROCESSLIST") if row[0] == number]


def test_a_session_that_its_owner_left_idle_for_too_long(make: Any, observer: Any) -> None:
    """MariaDB hangs up (2006); MySQL says why (4031), and with the answer's arrival the connection still looks open."""
    wrapper = make(ONE)
    number = identity(wrapper)
    ask(wrapper, "SET SESSION wait_timeout = 1")
    until(lambda: has_gone(observer, number))
    connection = wrapper.connection
    with pytest.raises(OperationalError, match=r"2006|4031"):
        ask(wrapper, "SELECT 1")
    assert connection.broken
    assert not wrapper.is_usable()
    wrapper.close()
    assert identity(wrapper) != number


@pytest.mark.parametrize("statement", ["SELECT GET_LOCK('accounts', 30)", "SELECT 1"])
def test_a_session_killed_under_its_owner(make: Any, observer: Any, statement: str) -> None:
    wrapper = make(ONE)
    number = identity(wrapper)
    ask(observer, f"KILL {number}")
    until(lambda: has_gone(observer, number))
    with pytest.raises(OperationalError, match=r"2006|2013"):
        ask(wrapper, statement)
    assert wrapper.connection.broken
    wrapper.close()
    assert identity(wrapper) != number


# ----- what the server says when it takes nobody -----


def test_refusals_are_told_apart(make: Any, tmp_path: Any) -> None:
    """Each code comes from a real server, since their numbers and their occasions differ."""
    with private_database(tmp_path) as server:
        root = MySQLdb.connect(host=server.host, port=server.port, user=server.user, autocommit=True)
        asking = root.cursor()
        asking.execute("CREATE USER few@'127.0.0.1' WITH MAX_USER_CONNECTIONS 1")
        asking.execute("CREATE USER many@'127.0.0.1'")
        driver = make(ONE, HOST=server.host, PORT=str(server.port), USER="many", NAME="").pool._driver

        def refusal(user: str = "many", **changes: Any) -> tuple[int, Failure]:
            """Code and kind of the error at the latest when 12 sessions are there."""
            sessions = []
            try:
                for _ in range(12):
                    sessions.append(
                        MySQLdb.connect(**{"host": server.host, "port": server.port, "user": user, **changes})
                    )
            except MySQLdb.Error as error:
                return error.args[0], driver.classify(error)
            finally:
                for session in sessions:
                    session.close()
            raise AssertionError("nobody was refused")

        assert refusal("few") == (1226, Failure.CAPACITY)
        asking.execute("SET GLOBAL max_connections = 10")
        assert refusal() == (1040, Failure.CAPACITY)
        asking.execute("SET GLOBAL max_connections = 100")
        if server.label == "MySQL":
            asking.execute("SET GLOBAL max_user_connections = 2")  # MariaDB wants it at the start
            assert refusal() == (1203, Failure.CAPACITY)
            asking.execute("SET GLOBAL max_user_connections = 0")
            asking.execute("SET GLOBAL offline_mode = 1")
            assert refusal() == (3032, Failure.DOWN)
            asking.execute("SET GLOBAL offline_mode = 0")
        assert refusal(password="wrong") == (1045, Failure.OTHER)
        assert refusal(database="nowhere")[1] is Failure.OTHER
        root.close()
        server.stop()
        assert refusal()[1] is Failure.DOWN
