"""An interrupt anywhere in the backend: the next user of the connection sees nothing of it. See `tests.interrupts`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections, transaction

from tests.app.models import Note
from tests.interrupts import interrupted

from .conftest import ask, in_transaction, until

pytestmark = pytest.mark.django_db


@pytest.fixture
def as_default(make: Any) -> Iterator[Callable[[Any], None]]:
    """Makes a wrapper the one that `transaction` finds."""
    before = connections["default"]
    yield lambda wrapper: connections.__setitem__("default", wrapper)
    connections["default"] = before


def switches_autocommit(wrapper: Any) -> None:
    wrapper.set_autocommit(False)
    ask(wrapper, "SELECT 1")
    wrapper.rollback()
    wrapper.set_autocommit(True)


def is_atomic(wrapper: Any) -> None:
    with transaction.atomic(), transaction.atomic():
        ask(wrapper, f"UPDATE {Note._meta.db_table} SET text = ''")


def leaves_autocommit_off(wrapper: Any) -> None:
    wrapper.set_autocommit(False)
    ask(wrapper, "SELECT 1")


@pytest.mark.parametrize("release", ["request", "transaction"])
@pytest.mark.parametrize("use", [switches_autocommit, is_atomic, leaves_autocommit_off])
def test_the_next_one_is_not_concerned(
    make: Any, as_default: Callable[[Any], None], release: str, use: Callable[[Any], None]
) -> None:
    pool = {"max_size": 1, "timeout": 5, "release": release, "start_transaction": True}
    wrapper, other = make(pool), make(pool)
    as_default(wrapper)

    def request() -> None:
        use(wrapper)
        wrapper.close()

    number = 0
    happened = True
    while happened:
        number += 1
        happened = interrupted(number, request)
        wrapper.close_if_unusable_or_obsolete()  # as Django at the end of the request
        for one in (wrapper, other):
            assert not in_transaction(one), number
            assert ask(one, "SELECT @@autocommit") == ((1,),), number
            one.close()
        until(lambda: not other.pool._attempts)
        stats = other.pool.get_stats()
        assert stats["pool_size"] == stats["pool_available"] == 1, number
        assert not other.pool._busy
    assert number > 30
