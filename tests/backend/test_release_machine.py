"""Several users of one or two connections under release="transaction", against a plain model of what each must see.

Nobody sees another's session; a connection that somebody needs is lent to nobody else; the pool loses none.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, ProgrammingError, connections, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from pooling.errors import PoolTimeout
from tests.app.models import Note

from .conftest import ask

pytestmark = pytest.mark.django_db(transaction=True)

USERS = 3
NOTES = Note._meta.db_table
PRIVATE = "SELECT COUNT({}) FROM private_to_one"
DEFAULT = 28800  # seconds, the server's wait_timeout

users = st.integers(0, USERS - 1)


class Undo(Exception):
    pass


@dataclass
class User:
    """What one user has done since he has had his connection, as far as it keeps the connection his."""

    wrapper: Any
    timeout: int = DEFAULT
    private: int | None = None
    blocks: list[Any] = field(default_factory=list)
    written: list[list[str]] = field(default_factory=list)  # by block
    cursor: Any = None
    driver: Any = None
    kept: bool = False
    latest: bool = False  # his last statement was the open cursor's
    began: bool = False  # a statement of his was the connection's last
    number: int = 0  # of his last INSERT
    messages: bool = False  # a statement of his had some

    @property
    def needs_it(self) -> bool:
        held = self.blocks or self.cursor is not None or self.driver is not None
        return bool(held or self.kept or self.timeout != DEFAULT or self.private is not None)

    def forget(self) -> None:
        """What goes with the connection."""
        if not self.needs_it:
            self.began, self.number, self.messages = False, 0, False

    def said(self, *, kept: bool = False) -> None:
        """A statement of his is over."""
        self.kept, self.began, self.latest = kept, True, False
        self.forget()


class Multiplexed(RuleBasedStateMachine):
    make: Callable[..., Any]
    observer: Any
    size = 2

    def __init__(self) -> None:
        super().__init__()
        option = {"min_size": self.size, "max_size": self.size, "timeout": 0.01, "release": "transaction"}
        self.users = [User(self.make(option)) for _ in range(USERS)]
        self.pool = self.users[0].wrapper.pool
        self.pool.open()
        self.pool.wait(30.0)
        self.committed: set[str] = set()
        self.texts = (f"text {number}" for number in itertools.count())

    # ----- helpers -----

    def has_one(self, user: User) -> bool:
        """Whether ``user`` has a connection or can get one; if not, he is refused, and nothing happens."""
        connections["default"] = user.wrapper
        if user.needs_it or sum(other.needs_it for other in self.users) < self.size:
            return True
        with pytest.raises(OperationalError) as caught:
            ask(user.wrapper, "SELECT 1")
        assert isinstance(caught.value.__cause__, PoolTimeout)
        return False

    def number_of(self, text: str) -> int:
        return int(ask(self.observer, f"SELECT id FROM {NOTES} WHERE text = '{text}'")[0][0])

    # ----- statements -----

    @rule(at=users)
    def looks(self, at: int) -> None:
        user = self.users[at]
        if self.has_one(user):
            seen = ask(user.wrapper, "SELECT @@wait_timeout, @@autocommit")
            assert seen == ((user.timeout, int(not user.blocks)),)
            user.said()

    @rule(at=users)
    def reads(self, at: int) -> None:
        user = self.users[at]
        if self.has_one(user):
            seen = {text for [text] in ask(user.wrapper, f"SELECT text FROM {NOTES}")}
            assert seen == self.committed.union(*user.written)
            user.said()

    @rule(at=users)
    def reads_what_is_private(self, at: int) -> None:
        user = self.users[at]
        if not self.has_one(user):
            return
        if user.private is not None:
            assert ask(user.wrapper, PRIVATE.format(f"a{user.private}")) == ((0,),)
            user.said()
        else:
            with pytest.raises(DatabaseError, match="private_to_one"):
                ask(user.wrapper, PRIVATE.format("*"))
            user.messages = True
            user.said(kept=True)  # he may want to see them

    @rule(at=users, orm=st.booleans())
    def writes(self, at: int, orm: bool) -> None:
        user = self.users[at]
        if not self.has_one(user):
            return
        text = next(self.texts)
        if orm:
            number = Note.objects.create(text=text).pk
            assert number == self.number_of(text)
        else:
            ask(user.wrapper, f"INSERT INTO {NOTES} (text) VALUES ('{text}')")
        (user.written[-1].append if user.blocks else self.committed.add)(text)
        user.number = self.number_of(text)
        user.said(kept=not orm)

    @rule(at=users)
    def asks_for_his_number(self, at: int) -> None:
        user = self.users[at]
        if not self.has_one(user):
            return
        if user.began:
            assert ask(user.wrapper, "SELECT LAST_INSERT_ID()") == ((user.number,),)
            user.said(kept=True)
        else:
            with pytest.raises(ProgrammingError, match="gone back"):
                ask(user.wrapper, "SELECT LAST_INSERT_ID()")
            user.kept = True

    @rule(at=users)
    def asks_for_messages(self, at: int) -> None:
        user = self.users[at]
        if self.has_one(user):
            seen = ask(user.wrapper, "SHOW WARNINGS")
            assert not seen or user.messages
            user.said(kept=True)

    # ----- what keeps a connection -----

    @rule(at=users, seconds=st.integers(100, 120))
    def sets(self, at: int, seconds: int) -> None:
        user = self.users[at]
        if self.has_one(user):
            ask(user.wrapper, f"SET SESSION wait_timeout = {seconds}")
            user.timeout = seconds
            user.said(kept=True)

    @rule(at=users)
    def makes_something_private(self, at: int) -> None:
        user = self.users[at]
        if user.private is None and self.has_one(user):
            ask(user.wrapper, f"CREATE TEMPORARY TABLE private_to_one (a{at} INT)")
            user.private = at
            user.said(kept=True)

    @rule(at=users)
    def opens_a_cursor(self, at: int) -> None:
        user = self.users[at]
        if user.cursor is None and self.has_one(user):
            user.cursor = user.wrapper.cursor()
            user.cursor.execute("SELECT 1 UNION SELECT 2")
            user.said(kept=user.kept)
            user.latest = True

    @precondition(lambda self: any(user.cursor for user in self.users))
    @rule(at=users)
    def closes_the_cursor(self, at: int) -> None:
        user = self.users[at]
        if user.cursor is not None:
            assert user.cursor.fetchall() == ((1,), (2,))
            user.cursor.close()
            user.cursor = None
            user.kept = user.kept and not user.latest
            user.forget()

    @rule(at=users)
    def takes_the_drivers_connection(self, at: int) -> None:
        user = self.users[at]
        if user.driver is None and self.has_one(user):
            user.driver = user.wrapper.connection

    @precondition(lambda self: any(user.driver for user in self.users))
    @rule(at=users)
    def drops_the_drivers_connection(self, at: int) -> None:
        user = self.users[at]
        if user.driver is not None:
            assert user.driver is user.wrapper.connection
            user.driver = None
            ask(user.wrapper, "SELECT 1")
            user.said()

    # ----- transactions -----

    @rule(at=users)
    def begins(self, at: int) -> None:
        user = self.users[at]
        if len(user.blocks) < 3 and self.has_one(user):
            block = transaction.atomic()
            block.__enter__()
            if user.blocks:
                user.said(kept=True)  # SAVEPOINT; what switches autocommit off is none
            user.blocks.append(block)
            user.written.append([])

    @precondition(lambda self: any(user.blocks for user in self.users))
    @rule(at=users, fails=st.booleans())
    def ends(self, at: int, fails: bool) -> None:
        user = self.users[at]
        if not user.blocks:
            return
        connections["default"] = user.wrapper
        block, texts = user.blocks.pop(), user.written.pop()
        if fails:
            user.messages = user.messages or user.private is not None  # a temporary table is not rolled back
            block.__exit__(Undo, Undo(), None)
        else:
            block.__exit__(None, None, None)
            (user.written[-1].extend if user.blocks else self.committed.update)(texts)
        if user.blocks:
            user.said(kept=True)
        else:
            user.kept = False
            user.forget()

    # ----- the request -----

    @rule(at=users)
    def ends_the_request(self, at: int) -> None:
        user = self.users[at]
        if not user.blocks:
            user.driver = None
            user.wrapper.close()
            self.users[at] = User(user.wrapper)

    @invariant()
    def nothing_is_lost_and_nothing_is_held_for_nothing(self) -> None:
        stats = self.pool.get_stats()
        assert stats["pool_size"] == self.size
        assert stats["pool_size"] - stats["pool_available"] == sum(user.needs_it for user in self.users)

    @invariant()
    def nobody_shares(self) -> None:
        lent = [user.wrapper.connection for user in self.users if user.needs_it]
        assert len({id(connection) for connection in lent}) == len(lent)

    def teardown(self) -> None:
        for user in self.users:
            connections["default"] = user.wrapper
            while user.blocks:
                user.blocks.pop().__exit__(Undo, Undo(), None)
            user.driver = user.cursor = None
            user.wrapper.close()
        ask(self.observer, f"DELETE FROM {NOTES}")


@pytest.fixture
def default() -> Iterator[None]:
    before = connections["default"]
    yield
    connections["default"] = before


@pytest.mark.parametrize("size", [1, 2])
def test_each_sees_his_own_and_nobody_elses(make: Any, observer: Any, default: None, size: int) -> None:
    ask(observer, "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
    machine = type("Machine", (Multiplexed,), {"make": staticmethod(make), "observer": observer, "size": size})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
