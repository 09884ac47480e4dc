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
