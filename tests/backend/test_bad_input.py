"""Whatever is wrong: the server's own words reach the user in time, and nothing stays behind."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

from pooling.backends.mysql.options import BackendOptions

from .conftest import until

pytestmark = pytest.mark.django_db

SHORT = {"max_size": 2, "timeout": 1}


def connecting() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "pooling-connect"]


def nothing_stays(wrapper: Any) -> None:
    """No slot, no waiter, no thread. The client library counts whole seconds, so a connect may end a little late."""
    pool = wrapper.pool
    until(lambda: not connecting() and not pool._attempts)
    stats = pool.get_stats()
    assert (stats["pool_size"], stats["pool_available"], stats["requests_waiting"]) == (0, 0, 0)
    assert pool._busy == {}
    assert wrapper.connection is None


# ----- a server that says no -----


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"USER": "nobody", "PASSWORD": "wrong"}, r"1045.*Access denied for user 'nobody'"),
        ({"NAME": "no_such_database"}, r"1049.*Unknown database 'no_such_database'"),
        ({"HOST": "127.0.0.1", "PORT": "1"}, r"2002.*Can't connect to server on '127\.0\.0\.1'"),
        ({"HOST": "/no/such/socket"}, r"2002.*'/no/such/socket'"),
        ({"HOST": "no-such-host.invalid"}, r"2005.*no-such-host\.invalid"),
        ({"OPTIONS": {"init_command": "SET no_such_variable = 1"}}, r"1193.*no_such_variable"),
    ],
)
def test_the_servers_own_words(make: Any, changes: Any, words: str) -> None:
    wrapper = make(SHORT, **changes)
    for _ in range(2):
        with pytest.raises(OperationalError, match=words):
            wrapper.ensure_connection()
        nothing_stays(wrapper)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"no_such_option": 1}, "no_such_option"),
        ({"charset": 5}, "charset|str"),
        ({"isolation_level": "chaos"}, "Invalid transaction isolation level 'chaos'"),
        ({"ssl_mode": "SOMETIMES"}, "Unknown ssl_mode"),
    ],
)
def test_options_of_the_drivers(make: Any, options: Any, words: str) -> None:
    wrapper = make(SHORT, OPTIONS=options)
    with pytest.raises(Exception, match=words):
        wrapper.ensure_connection()
    assert not connecting()
    assert wrapper.connection is None


# ----- something at the address that is no server -----


@pytest.fixture
def answering() -> Iterator[Callable[[Callable[[socket.socket], None]], tuple[int, list[socket.socket]]]]:
    """A function that listens at a port and treats each connection as it is told; the port, and what has come in."""
    with contextlib.ExitStack() as stack:

        def listen(treat: Callable[[socket.socket], None]) -> tuple[int, list[socket.socket]]:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            came: list[socket.socket] = []

            def serve() -> None:
                with contextlib.suppress(OSError):  # the end: the socket is shut down
                    while True:
                        connection, _ = server.accept()
                        came.append(stack.enter_context(connection))
                        treat(connection)

            thread = threading.Thread(target=serve)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown, socket.SHUT_RDWR)
            return server.getsockname()[1], came

        yield listen


def hung_up(connection: socket.socket) -> bool:
    """Has the other end closed its socket?"""
    connection.settimeout(20)
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        return True
    return True


def test_a_host_that_accepts_and_never_answers(make: Any, answering: Any) -> None:
    port, came = answering(lambda connection: None)
    wrapper = make(SHORT, PORT=str(port))
    with pytest.raises(OperationalError, match=r"no connection within|cannot reach its server"):
        wrapper.ensure_connection()
    nothing_stays(wrapper)
    assert came
    assert all(hung_up(connection) for connection in came)
    with pytest.raises(OperationalError, match=r"The last connect failed: OperationalError: \(20\d\d"):
        wrapper.ensure_connection()
    nothing_stays(wrapper)
    assert all(hung_up(connection) for connection in came)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x05\x00\x00\x00\x09junk"])
def test_a_host_that_is_something_else(make: Any, answering: Any, said: bytes) -> None:
    def treat(connection: socket.socket) -> None:
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)

    port, came = answering(treat)
    wrapper = make(SHORT, PORT=str(port))
    with pytest.raises(OperationalError, match=r"\(20\d\d, "):
        wrapper.ensure_connection()
    nothing_stays(wrapper)
    assert came
    assert all(hung_up(connection) for connection in came)


def test_thirty_two_who_meet_a_host_that_never_answers(make: Any, answering: Any) -> None:
    port, came = answering(lambda connection: None)
    wrappers = [make(SHORT, PORT=str(port)) for _ in range(32)]
    refused: list[str] = []

    def work(wrapper: Any) -> None:
        try:
            wrapper.ensure_connection()
        except OperationalError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=work, args=[wrapper]) for wrapper in wrappers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(refused) == 32
    nothing_stays(wrappers[0])
    assert all(hung_up(connection) for connection in came)


# ----- pool options, through the settings -----

WRONG: dict[str, list[tuple[Any, str]]] = {
    "min_size": [("2", "whole number"), (-1, "at least 0"), (11, "smaller than 'min_size'")],
    "max_size": [(None, "whole number"), (0, "at least 1"), ("all", 'a whole number or "auto"')],
    "timeout": [("5", "number of seconds"), (0, "more than 0"), (1e20, "at most 1000000000")],
    "max_waiting": [(1.5, "whole number"), (-1, "at least 0")],
    "max_lifetime": [(None, "number of seconds"), (float("inf"), "finite")],
    "max_idle": [(True, "number of seconds"), (-5, "more than 0")],
    "reconnect_timeout": [([], "number of seconds"), (0, "more than 0")],
    "leak_after": [("5", "number of seconds"), (0, "more than 0")],
    "keepalive": [("5", "number of seconds"), (-1, "more than 0")],
    "release": [("statement", "must be 'request' or 'transaction'"), (True, "must be 'request' or 'transaction'")],
    "start_transaction": [(1, "must be True or False")],
    "reserve": [("5", "whole number"), (-1, "at least 0")],
    "budget_dir": [(5, "path of a folder"), ("", "path of a folder")],
    "credentials": [
        (5, "a function without arguments, or the dotted path of one, not 5"),
        ("nowhere", "cannot be imported"),
    ],
    "tcp_keepalive": [(5, "must be True, None or a dict"), ({"idle": 0}, "from 1 to 32767")],
}


def test_no_option_is_left_out_here() -> None:
    assert sorted(WRONG) == sorted(field.name for field in dataclasses.fields(BackendOptions))


@pytest.mark.parametrize(("name", "value", "words"), [(name, *one) for name, some in WRONG.items() for one in some])
def test_a_wrong_value_is_told_with_its_name_and_the_database(make: Any, name: str, value: Any, words: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=words) as caught:
        make({name: value}).ensure_connection()
    assert f"'{name}'" in str(caught.value)
    assert "OPTIONS['pool'] of the database 'default'" in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("credential", "credentials"),
        ("tcp_keep_alive", "tcp_keepalive"),
        ("budgetdir", "budget_dir"),
        ("max", "max_size"),
    ],
)
def test_an_unknown_name_is_told_the_nearest(make: Any, wrong: str, near: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"no pool option '{wrong}'. Did you mean '{near}'"):
        make({wrong: 1}).ensure_connection()
