"""TLS, TCP keepalive, and the driver's time limits, against a real server."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

from pooling.backends.mysql.tcp import TcpKeepalive
from tests.servers import PrivateDatabase, private_database

from .conftest import ask, in_transaction

pytestmark = pytest.mark.django_db

ONE = {"max_size": 1, "timeout": 5}


def number(wrapper: Any) -> int:
    return int(ask(wrapper, "SELECT CONNECTION_ID()")[0][0])


def cipher(wrapper: Any) -> str:
    return str(ask(wrapper, "SHOW SESSION STATUS LIKE 'Ssl_cipher'")[0][1])


def nothing_is_left(wrapper: Any) -> None:
    pool = wrapper.pool
    stats = pool.get_stats()
    assert (stats["pool_size"], stats["requests_waiting"], len(pool._attempts), pool._busy) == (0, 0, 0, {})


# ----- TLS -----


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_encrypted_connections_are_pooled_like_others(there: Any, signed: Any, version: str) -> None:
    """In TLS 1.3 a server sends tickets of its own accord: they must not pass for something left unread."""
    ciphers = {"cipher": "ECDHE-RSA-AES256-GCM-SHA384"} if version == "TLSv1.2" else {}
    wrapper = there(ONE, OPTIONS={"ssl": {"ca": str(signed.ca), **ciphers}, "ssl_mode": "VERIFY_CA"})
    assert cipher(wrapper)
    first = number(wrapper)
    for statement in ("SELECT 1", "SET @x = 1", "BEGIN"):  # clean, reset, rolled back
        ask(wrapper, statement)
        wrapper.close()
        wrapper.pool.check()  # pinged as well
        assert ask(wrapper, "SELECT CONNECTION_ID(), @x") == ((first, None),)
        assert not in_transaction(wrapper)
        assert cipher(wrapper)


@pytest.mark.parametrize(
    ("options", "encrypted"),
    [({"ssl_mode": "DISABLED"}, False), ({"ssl_mode": "REQUIRED"}, True), ({"ssl": True}, True)],
)
def test_ssl_mode_is_passed_on(there: Any, options: Any, encrypted: bool) -> None:
    assert bool(cipher(there(ONE, OPTIONS=options))) is encrypted


def test_pools_are_keyed_by_it(there: Any, signed: Any) -> None:
    with_tls = there(ONE, OPTIONS={"ssl": {"ca": str(signed.ca)}})
    assert with_tls.pool is there(ONE, OPTIONS={"ssl": {"ca": str(signed.ca)}}).pool
    assert with_tls.pool is not there(ONE, OPTIONS={"ssl": {"ca": str(signed.other_ca)}}).pool
    assert with_tls.pool is not there(ONE).pool


def test_a_server_that_somebody_else_has_signed(there: Any, signed: Any) -> None:
    wrapper = there(ONE, OPTIONS={"ssl": {"ca": str(signed.other_ca)}, "ssl_mode": "VERIFY_CA"})
    with pytest.raises(OperationalError, match=r"2026.*TLS/SSL error.*certificate"):
        wrapper.ensure_connection()
    nothing_is_left(wrapper)


@pytest.fixture(scope="module")
def plain_mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateDatabase]:
    server = private_database(tmp_path_factory.mktemp("plain"))
    server.options = ("--tls-version=",) if server.label == "MySQL" else ("--skip-ssl",)
    with server:
        yield server


@pytest.mark.parametrize("options", [{"ssl_mode": "REQUIRED"}, {"ssl": True}, {"ssl_mode": "VERIFY_CA"}])
def test_a_server_without_tls(make: Any, plain_mariadb: PrivateDatabase, options: Any) -> None:
    wrapper = make(ONE, HOST=plain_mariadb.host, PORT=str(plain_mariadb.port), NAME="mysql", OPTIONS=options)
    with pytest.raises(OperationalError, match=r"2026.*SSL is required, but the server does not support it"):
        wrapper.ensure_connection()
    nothing_is_left(wrapper)


def test_a_user_who_must_come_with_tls(there: Any, root: Any) -> None:
    ask(root, "CREATE USER careful@'127.0.0.1' IDENTIFIED BY 'x' REQUIRE SSL")
    try:
        ask(root, "GRANT SELECT ON *.* TO careful@'127.0.0.1'")
        plain = there(ONE, USER="careful", PASSWORD="x", OPTIONS={"ssl_mode": "DISABLED"})
        with pytest.raises(OperationalError, match=r"1045.*Access denied for user 'careful'"):
            plain.ensure_connection()
        nothing_is_left(plain)
        assert cipher(there(ONE, USER="careful", PASSWORD="x", OPTIONS={"ssl_mode": "REQUIRED"}))
    finally:
        ask(root, "DROP USER careful@'127.0.0.1'")


def test_a_file_that_is_not_there(there: Any, tmp_path: Any) -> None:
    wrapper = there(ONE, OPTIONS={"ssl": {"ca": str(tmp_path / "none.pem")}})
    with pytest.raises(OperationalError, match="2026"):
        wrapper.ensure_connection()
    nothing_is_left(wrapper)


def test_a_forked_child_harms_nobody_over_tls(there: Any) -> None:
    wrapper = there(ONE, OPTIONS={"ssl_mode": "REQUIRED"})
    mine = number(wrapper)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if number(wrapper) != mine and cipher(wrapper) else 2
            wrapper.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert number(wrapper) == mine


# ----- TCP keepalive -----


def kernel(fd: int) -> tuple[int, ...]:
    with socket.socket(fileno=os.dup(fd)) as same:
        on = same.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        return (int(bool(on)), *(same.getsockopt(socket.IPPROTO_TCP, name) for name in names))


@pytest.mark.parametrize(
    ("option", "expected"),
    [(True, (1, 60, 10, 3)), ({"idle": 7}, (1, 7, 10, 3)), ({"idle": 7, "interval": 5, "count": 2}, (1, 7, 5, 2))],
)
def test_tcp_keepalive_is_set_on_the_socket(there: Any, option: Any, expected: Any) -> None:
    wrapper = there({**ONE, "tcp_keepalive": option})
    wrapper.ensure_connection()
    assert kernel(wrapper.connection.fd) == expected


@pytest.mark.parametrize("option", [None, False])
def test_otherwise_the_systems_times_stay(there: Any, option: Any) -> None:
    wrapper = there({**ONE, "tcp_keepalive": option})
    wrapper.ensure_connection()
    with socket.socket() as fresh:
        assert kernel(wrapper.connection.fd)[1:] == kernel(fresh.fileno())[1:]


def test_a_socket_file_needs_none(there: Any, tls_mariadb: Any) -> None:
    wrapper = there({**ONE, "tcp_keepalive": True}, HOST=tls_mariadb.socket, PORT="")
    assert ask(wrapper, "SELECT 1") == ((1,),)
    assert TcpKeepalive().apply(wrapper.connection.fd) is False


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (5, "must be True, None or a dict"),
        ("yes", "must be True, None or a dict"),
        ({"idel": 5}, "no 'idel'. Did you mean 'idle'"),
        ({"idle": 0}, "from 1 to 32767, not 0"),
        ({"idle": 40000}, "from 1 to 32767, not 40000"),
        ({"interval": 1.5}, "'interval'.*whole number"),
        ({"count": 128}, "from 1 to 127, not 128"),
        ({"count": True}, "'count'.*not True"),
    ],
)
def test_keepalive_options_that_are_none(make: Any, option: Any, words: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=words):
        _ = make({**ONE, "tcp_keepalive": option}).pool


# ----- the driver's time limits -----


def test_a_read_that_takes_too_long_costs_the_connection(there: Any) -> None:
    wrapper = there(ONE, OPTIONS={"read_timeout": 1, "write_timeout": 7})
    first = number(wrapper)
    connection = wrapper.connection
    with pytest.raises(OperationalError, match="2013"):
        ask(wrapper, "SELECT SLEEP(30)")
    assert connection.broken
    assert connection.fd == -1  # the socket is closed, its number may be anybody's
    wrapper.close()
    nothing_is_left(wrapper)
    # The server goes on with the statement until it notices; the answer to it is nobody's.
    assert ask(wrapper, f"SELECT CONNECTION_ID() = {first}") == ((0,),)


@pytest.mark.parametrize("name", ["read_timeout", "write_timeout"])
def test_time_limits_are_part_of_the_key(make: Any, name: str) -> None:
    assert make(ONE, OPTIONS={name: 3}).pool is not make(ONE, OPTIONS={name: 4}).pool


@pytest.mark.parametrize("name", ["read_timeout", "write_timeout", "connect_timeout"])
@pytest.mark.parametrize(
    ("value", "must"),
    [*((value, "a whole number") for value in ("soon", 1.5, True, None, -1)), (10**10, "at most 1000000000 seconds")],
)
def test_a_time_limit_that_is_none(make: Any, name: str, value: Any, must: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"OPTIONS of the database 'default': '{name}' must be {must}"):
        _ = make(ONE, OPTIONS={name: value}).pool
