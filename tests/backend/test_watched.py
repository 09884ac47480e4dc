"""Connections that a real server ends, seen without a checkout that touches them."""

from __future__ import annotations

from typing import Any

import pytest

from pooling.pool.slots import NEVER
from pooling.pool.watcher import TRUST
from tests.servers import PrivateMariaDB

from .conftest import ask, until

pytestmark = pytest.mark.django_db


def identity(wrapper: Any) -> int:
    return int(ask(wrapper, "SELECT CONNECTION_ID()")[0][0])


def watched(pool: Any) -> bool:
    return all(slot.trust == TRUST for slot in list(pool._slots.values()))


def test_a_killed_idle_connection_leaves_the_pool_by_itself(make: Any, observer: Any) -> None:
    wrapper = make({"max_size": 1, "timeout": 5})
    killed = identity(wrapper)
    wrapper.close()
    pool = wrapper.pool
    until(lambda: watched(pool))
    ask(observer, f"KILL {killed}")
    until(lambda: pool.get_stats()["pool_size"] == 0)
    assert pool.get_stats()["connections_lost"] == 1
    assert identity(wrapper) != killed


def test_a_killed_lent_connection_is_not_lent_again(make: Any, observer: Any) -> None:
    wrapper = make({"max_size": 1, "timeout": 5})
    killed = identity(wrapper)
    pool = wrapper.pool
    (slot,) = pool._slots.values()
    until(lambda: watched(pool))
    ask(observer, f"KILL {killed}")
    until(lambda: slot.expires == NEVER)
    wrapper.close()
    assert pool.get_stats()["pool_size"] == 0
    assert identity(wrapper) != killed


@pytest.mark.parametrize("how", ["over TCP", "through a socket file"])
def test_a_server_that_goes_takes_all_idle_connections_with_it(
    make: Any, private_mariadb: PrivateMariaDB, how: str
) -> None:
    host = private_mariadb.host if how == "over TCP" else private_mariadb.socket
    where = {"HOST": host, "PORT": str(private_mariadb.port), "NAME": "mysql"}
    wrappers = [make({"max_size": 8, "timeout": 10}, **where) for _ in range(8)]
    for wrapper in wrappers:
        wrapper.ensure_connection()
    for wrapper in wrappers:
        wrapper.close()
    pool = wrappers[0].pool
    assert pool.get_stats()["pool_available"] == 8
    private_mariadb.stop()
    until(lambda: pool.get_stats()["pool_size"] == 0)
    private_mariadb.start()
    assert ask(wrappers[0], "SELECT 1") == ((1,),)


def test_statements_and_results_do_not_look_like_an_end(make: Any, observer: Any) -> None:
    wrapper = make({"max_size": 1, "timeout": 5})
    first = identity(wrapper)
    until(lambda: watched(wrapper.pool))
    for _ in range(20):
        ask(wrapper, "SELECT REPEAT('x', 100000)")
        wrapper.close()
        assert identity(wrapper) == first
    assert wrapper.pool.get_stats()["connections_num"] == 1
