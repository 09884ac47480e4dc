"""A pooled wrapper of the test's own, and an observer that is not pooled."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import DatabaseError, connections
from django.db.backends.mysql.base import DatabaseWrapper as StockWrapper

from pooling.backends.mysql.base import DatabaseWrapper
from tests import certificates
from tests.proxy import Proxy
from tests.servers import PrivateDatabase, private_database


@pytest.fixture
def make(django_db_setup: None, django_db_blocker: Any) -> Iterator[Callable[..., DatabaseWrapper]]:
    """Wrappers for the test database; ``pool`` are pool options, the rest replaces database settings."""
    made: list[DatabaseWrapper] = []

    def new(pool: Any = None, **changes: Any) -> DatabaseWrapper:
        settings = copy.deepcopy(connections["default"].settings_dict)
        settings["OPTIONS"]["pool"] = {"max_size": 2, "timeout": 5} if pool is None else pool
        settings["OPTIONS"].update(changes.pop("OPTIONS", {}))
        settings.update(changes)
        wrapper = DatabaseWrapper(settings, alias="default")
        wrapper.inc_thread_sharing()
        made.append(wrapper)
        return wrapper

    with django_db_blocker.unblock():
        yield new
        for wrapper in made:
            wrapper.close()
        for key in list(DatabaseWrapper._connection_pools):
            if any(wrapper._key_memo and wrapper._key_memo[1] == key for wrapper in made):
                DatabaseWrapper._drop_pool(key)


@pytest.fixture
def observer(django_db_setup: None, django_db_blocker: Any) -> Iterator[StockWrapper]:
    settings = copy.deepcopy(connections["default"].settings_dict)
    settings["OPTIONS"].pop("pool", None)
    with django_db_blocker.unblock():
        wrapper = StockWrapper(settings, alias="default")
        yield wrapper
        wrapper.close()


@pytest.fixture(scope="session")
def signed(tmp_path_factory: pytest.TempPathFactory) -> certificates.Certificates:
    return certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def tls_mariadb(tmp_path_factory: pytest.TempPathFactory, signed: Any) -> Iterator[PrivateDatabase]:
    """A server with TLS and with users and global settings that a test may change; it puts them back."""
    with private_database(tmp_path_factory.mktemp("tls-mariadb"), options=signed.options) as server:
        yield server


@pytest.fixture(scope="package")
def one_mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateDatabase]:
    with private_database(tmp_path_factory.mktemp("mariadb")) as server:
        yield server


@pytest.fixture
def there(make: Any, tls_mariadb: PrivateDatabase) -> Callable[..., DatabaseWrapper]:
    """As ``make``, but for the database "mysql" of `tls_mariadb`."""
    where = {"HOST": tls_mariadb.host, "PORT": str(tls_mariadb.port), "NAME": "mysql"}

    def new(pool: Any = None, **changes: Any) -> DatabaseWrapper:
        wrapper: DatabaseWrapper = make(pool, **{**where, **changes})
        return wrapper

    return new


@pytest.fixture
def root(tls_mariadb: PrivateDatabase, django_db_blocker: Any) -> Iterator[StockWrapper]:
    """Who may do everything on `tls_mariadb`; not pooled."""
    settings = copy.deepcopy(connections["default"].settings_dict)
    settings["OPTIONS"].pop("pool", None)
    settings.update(HOST=tls_mariadb.host, PORT=str(tls_mariadb.port), NAME="mysql", USER="root", PASSWORD="")
    with django_db_blocker.unblock():
        wrapper = StockWrapper(settings, alias="default")
        yield wrapper
        wrapper.close()


@pytest.fixture
def mariadb(one_mariadb: PrivateDatabase) -> PrivateDatabase:
    """A server that the tests here stop and start; making one for each test would take longer than the tests."""
    return one_mariadb.start()


@pytest.fixture
def proxy(mariadb: PrivateDatabase) -> Iterator[Proxy]:
    """A way to that server which can be cut."""
    with Proxy(mariadb.host, mariadb.port) as proxy:
        yield proxy


def private(make: Any, server: Any, pool: dict[str, Any], number: int = 4, **changes: Any) -> list[Any]:
    """So many wrappers of one pool; ``server`` is a `mariadb` or the `proxy`."""
    where = {"HOST": server.host, "PORT": str(server.port), "NAME": "mysql"}
    return [make(pool, **where, **changes) for _ in range(number)]


def identity(wrapper: Any) -> int:
    """The number of the server's session."""
    return int(ask(wrapper, "SELECT CONNECTION_ID()")[0][0])


def ask(wrapper: Any, sql: str) -> Any:
    """All rows of one statement."""
    with wrapper.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else ()


def in_transaction(wrapper: Any) -> bool:
    """Whether the server has a transaction open; asked in a way that MySQL and MariaDB both answer.

    Else this sets what the next transaction only would be.
    """
    try:
        ask(wrapper, "SET TRANSACTION READ WRITE")
    except DatabaseError as error:
        if error.args[0] == 1568:  # "can't be changed while a transaction is in progress"
            return True
        raise
    return False


def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    """Poll until ``condition`` holds; AssertionError after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.005)
