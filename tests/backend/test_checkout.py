"""The short ways in and out: that they do what Django's own methods do, and step aside for those who replace these."""

from __future__ import annotations

import ast
import asyncio
import inspect
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.db import DatabaseError, IntegrityError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.mysql import base as mysql
from django.db.backends.signals import connection_created

from pooling.backends.mysql import checkout, release
from pooling.backends.mysql.base import DatabaseWrapper
from pooling.backends.mysql.connection import Connection

from .conftest import ask

pytestmark = pytest.mark.django_db

# What the backend does in its own words, as Django's own methods do it.
DJANGOS: list[tuple[type, str]] = [
    (
        BaseDatabaseWrapper,
        """
        @async_unsafe
        def connect(self):
            self.check_settings()
            self.in_atomic_block = False
            self.savepoint_ids = []
            self.atomic_blocks = []
            self.needs_rollback = False
            self.health_check_enabled = self.settings_dict["CONN_HEALTH_CHECKS"]
            max_age = self.settings_dict["CONN_MAX_AGE"]
            self.close_at = None if max_age is None else time.monotonic() + max_age
            self.closed_in_transaction = False
            self.errors_occurred = False
            self.health_check_done = True
            conn_params = self.get_connection_params()
            self.connection = self.get_new_connection(conn_params)
            self.set_autocommit(self.settings_dict["AUTOCOMMIT"])
            self.init_connection_state()
            connection_created.send(sender=self.__class__, connection=self)
            self.run_on_commit = []
        """,
    ),
    (
        BaseDatabaseWrapper,
        """
        def check_settings(self):
            if self.settings_dict["TIME_ZONE"] is not None and not settings.USE_TZ:
                raise ImproperlyConfigured(
                    "Connection '%s' cannot set TIME_ZONE because USE_TZ is False." % self.alias
                )
        """,
    ),
    (
        BaseDatabaseWrapper,
        """
        def init_connection_state(self):
            if self.alias not in RAN_DB_VERSION_CHECK:
                self.check_database_version_supported()
                RAN_DB_VERSION_CHECK.add(self.alias)
        """,
    ),
    (
        BaseDatabaseWrapper,
        """
        @async_unsafe
        def ensure_connection(self):
            if self.connection is None:
                if self.in_atomic_block and self.closed_in_transaction:
                    raise ProgrammingError("Cannot open a new connection in an atomic block.")
                with self.wrap_database_errors:
                    self.connect()
        """,
    ),
    (
        BaseDatabaseWrapper,
        """
        @async_unsafe
        def cursor(self):
            return self._cursor()
        """,
    ),
    (
        BaseDatabaseWrapper,
        """
        def _cursor(self, name=None):
            self.close_if_health_check_failed()
            self.ensure_connection()
            with self.wrap_database_errors:
                return self._prepare_cursor(self.create_cursor(name))
        """,
    ),
    (
        BaseDatabaseWrapper,
        """
        @async_unsafe
        def close(self):
            self.validate_thread_sharing()
            self.run_on_commit = []
            if self.closed_in_transaction or self.connection is None:
                return
            try:
                self._close()
            finally:
                if self.in_atomic_block:
                    self.closed_in_transaction = True
                    self.needs_rollback = True
                else:
                    self.connection = None
        """,
    ),
    (
        BaseDatabaseWrapper,
        """
        def close_if_health_check_failed(self):
            if self.connection is None or not self.health_check_enabled or self.health_check_done:
                return
            if not self.is_usable():
                self.close()
            self.health_check_done = True
        """,
    ),
    (
        BaseDatabaseWrapper,
        """
        def close_if_unusable_or_obsolete(self):
            if self.connection is not None:
                self.health_check_done = False
                if self.get_autocommit() != self.settings_dict["AUTOCOMMIT"]:
                    self.close()
                    return
                if self.errors_occurred:
                    if self.is_usable():
                        self.errors_occurred = False
                        self.health_check_done = True
                    else:
                        self.close()
                        return
                if self.close_at is not None and time.monotonic() >= self.close_at:
                    self.close()
                    return
        """,
    ),
    (
        mysql.CursorWrapper,
        """
        def execute(self, query, args=None):
            try:
                return self.cursor.execute(query, args)
            except Database.OperationalError as e:
                if e.args[0] in self.codes_for_integrityerror:
                    raise IntegrityError(*tuple(e.args))
                raise
        """,
    ),
    (
        mysql.CursorWrapper,
        """
        def executemany(self, query, args):
            try:
                return self.cursor.executemany(query, args)
            except Database.OperationalError as e:
                if e.args[0] in self.codes_for_integrityerror:
                    raise IntegrityError(*tuple(e.args))
                raise
        """,
    ),
]


def methods(source: str) -> dict[str, str]:
    """The code of each function, by its name, without comments, docstrings and layout."""
    found = {}
    for node in ast.walk(ast.parse(textwrap.dedent(source))):
        if isinstance(node, ast.FunctionDef):
            if ast.get_docstring(node) is not None:
                del node.body[0]
            found[node.name] = ast.unparse(node)
    return found


@pytest.mark.parametrize(("owner", "known"), DJANGOS, ids=[next(iter(methods(known))) for _, known in DJANGOS])
def test_django_does_what_we_believe(owner: type, known: str) -> None:
    written = methods(inspect.getsource(owner))  # not what somebody put there since, such as pytest-django
    for name, code in methods(known).items():
        assert written[name] == code


def test_it_is_djangos_that_is_known() -> None:
    assert None not in (checkout._CONNECT, checkout._CURSOR, checkout._ENSURE, release._CLOSE)


class Recording(DatabaseWrapper):
    """Writes down which of its attributes are set."""

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__.setdefault("names", set()).add(name)
        super().__setattr__(name, value)


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Which of Django's methods were called, each through what a library has put in its place."""
    called: list[str] = []

    def replace(name: str) -> None:
        djangos = getattr(BaseDatabaseWrapper, name)

        def own(self: Any) -> Any:
            called.append(name)
            return djangos(self)

        monkeypatch.setattr(BaseDatabaseWrapper, name, own)

    for name in ("connect", "cursor", "ensure_connection", "close"):
        replace(name)
    return called


STALE: dict[str, Any] = {
    "in_atomic_block": True,
    "savepoint_ids": ["s1"],
    "atomic_blocks": [object()],
    "needs_rollback": True,
    "health_check_enabled": True,
    "close_at": 1.0,
    "closed_in_transaction": True,
    "errors_occurred": True,
    "health_check_done": False,
    "autocommit": False,
    "run_commit_hooks_on_set_autocommit_on": True,
    "run_on_commit": [(set(), print, False)],
    "isolation_level": "serializable",
}


def left_behind(wrapper: Any, method: str) -> tuple[set[str], dict[str, Any]]:
    """The names of what ``method`` sets of a wrapper with something in all it may set, and the values afterwards."""
    for name, value in STALE.items():
        if method == "connect":
            setattr(wrapper, name, value)
    wrapper.run_on_commit = STALE["run_on_commit"]
    wrapper.names.clear()
    getattr(wrapper, method)()
    values = {name: getattr(wrapper, name) for name in [*STALE, "connection"]}
    values["connection"] = type(values["connection"])
    values["close_at"] = values["close_at"] is not None and values["close_at"] > 1.0
    return set(wrapper.names), values


@pytest.mark.parametrize("release_mode", ["request", "transaction"])
def test_what_is_set_is_what_djangos_sets(make: Any, replaced: list[str], release_mode: str) -> None:
    settings = make({"max_size": 2, "timeout": 5, "release": release_mode}).settings_dict
    ours, djangos = Recording(settings, "default"), Recording(settings, "default")
    for wrapper in (ours, djangos):
        wrapper.connect()  # memos, the version
        wrapper.close()
    replaced.clear()
    found = {}
    for method in ("connect", "close"):
        theirs = left_behind(djangos, method)
        with pytest.MonkeyPatch.context() as patch:
            for name in ("connect", "close"):
                patch.setattr(BaseDatabaseWrapper, name, {"connect": checkout._CONNECT, "close": release._CLOSE}[name])
            found[method] = left_behind(ours, method)
        assert found[method] == theirs
    assert [name for name in replaced if name != "ensure_connection"] == ["connect", "close"]
    assert found["connect"][1]["connection"] is Connection
    assert {"autocommit", "run_on_commit", "close_at"} <= found["connect"][0]


def test_what_replaces_djangos_is_called(make: Any, replaced: list[str]) -> None:
    wrapper = make()
    assert ask(wrapper, "SELECT 1") == ((1,),)
    wrapper.close()
    assert replaced == ["cursor", "ensure_connection", "connect", "close"]
    assert wrapper.pool.get_stats()["pool_available"] == 1


@pytest.mark.parametrize("method", ["connect", "cursor", "ensure_connection", "close"])
def test_not_in_an_event_loop(make: Any, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = make()
    if method == "close":
        wrapper.connect()

    async def view() -> None:
        getattr(wrapper, method)()

    with pytest.raises(SynchronousOnlyOperation):
        asyncio.run(view())
    assert (wrapper.connection is not None) == (method == "close")
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    asyncio.run(view())
    assert (wrapper.connection is None) == (method == "close")


def test_not_in_another_thread(make: Any) -> None:
    wrapper = make()
    wrapper.dec_thread_sharing()
    errors: list[BaseException] = []

    def use() -> None:
        for method in (wrapper.close, wrapper.cursor, wrapper.validate_thread_sharing):
            try:
                method()
            except DatabaseError as error:
                errors.append(error)

    wrapper.connect()
    for shared in (False, True):
        if shared:
            wrapper.inc_thread_sharing()
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        assert len(errors) == 3  # all of the first time, none of the second
    assert wrapper.connection is not None  # the last was `cursor`


def test_receivers_see_a_connection_that_is_ready(make: Any) -> None:
    wrapper = make()
    seen = []

    def receiver(sender: Any, connection: Any, **_: Any) -> None:
        seen.append((sender, connection, connection.get_autocommit(), ask(connection, "SELECT 1")))

    connection_created.connect(receiver)
    try:
        wrapper.connect()
        wrapper.close()
        wrapper.connect()
    finally:
        connection_created.disconnect(receiver)
    assert seen == [(DatabaseWrapper, wrapper, True, ((1,),))] * 2


@pytest.mark.parametrize("start", [False, True])
def test_hooks_of_a_receivers_transaction_are_called(make: Any, start: bool) -> None:
    before, wrapper = connections["default"], make({"start_transaction": start})
    called = []

    def receiver(connection: Any, **_: Any) -> None:
        with transaction.atomic():
            transaction.on_commit(lambda: called.append(connection))

    connection_created.connect(receiver)
    connections["default"] = wrapper
    try:
        wrapper.connect()
    finally:
        connections["default"] = before
        connection_created.disconnect(receiver)
    assert called == [wrapper]


@pytest.mark.parametrize("method", ["cursor", "ensure_connection"])
def test_what_the_driver_raises_is_djangos_error(make: Any, method: str) -> None:
    with pytest.raises(OperationalError):
        getattr(make(PASSWORD="wrong"), method)()


@pytest.mark.parametrize("whose", ["class", "wrapper"])
def test_no_cursor_past_who_guards_the_connection(make: Any, whose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = make()
    wrapper.connect()

    def refuse(*_: Any) -> None:
        raise RuntimeError("not here")

    monkeypatch.setattr(BaseDatabaseWrapper if whose == "class" else wrapper, "ensure_connection", refuse)
    with pytest.raises(RuntimeError, match="not here"):
        wrapper.cursor()


@pytest.mark.parametrize("mode", ["request", "transaction"])
def test_a_connect_that_fails_leaves_what_was_there(make: Any, mode: str) -> None:
    wrapper = make({"release": mode, "max_size": 1, "timeout": 0.1})

    async def view() -> None:
        wrapper.connect()

    ask(wrapper, "SET @mine = 1")
    with pytest.raises(SynchronousOnlyOperation):
        asyncio.run(view())
    with pytest.raises(OperationalError):
        wrapper.connect()
    assert ask(wrapper, "SELECT @mine") == ((1,),)


def test_a_connect_of_a_parked_wrapper_asks_the_pool_once(make: Any) -> None:
    pool = {"release": "transaction", "max_size": 1, "timeout": 0.1}
    parked, other = make(pool), make(pool)
    ask(parked, "SELECT 1")
    ask(other, "SET @kept = 1")
    with pytest.raises(OperationalError):
        parked.connect()
    assert other.pool.get_stats()["requests_errors"] == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda settings: settings.update(NAME="mysql"),
        lambda settings: settings.update(AUTOCOMMIT=False),
        lambda settings: settings["OPTIONS"].update(isolation_level="serializable"),
        lambda settings: settings["OPTIONS"].update(charset="latin1"),
        lambda settings: settings["OPTIONS"]["pool"].update(max_size=3),
        lambda settings: settings["OPTIONS"]["conv"].update({1: str}),
    ],
)
def test_settings_that_change_in_place_are_seen(make: Any, change: Callable[[dict[str, Any]], None]) -> None:
    wrapper = make(OPTIONS={"conv": dict(mysql.django_conversions)})
    wrapper.connect()
    first, key = wrapper.connection.pool, wrapper._pool_key(wrapper.get_connection_params())
    wrapper.close()
    change(wrapper.settings_dict)
    wrapper.connect()
    second = wrapper.connection.pool
    wrapper._drop_pool(key)
    assert second is not first
    assert wrapper.pool is second


def test_parameters_may_be_changed_by_who_asked(make: Any) -> None:
    wrapper = make()
    wrapper.get_connection_params()["host"] = "elsewhere"
    assert wrapper.get_connection_params()["host"] != "elsewhere"


def test_a_dropped_pool_is_not_used_again(make: Any) -> None:
    wrapper = make()
    wrapper.connect()
    first = wrapper.connection.pool
    wrapper.close()
    wrapper._drop_pool(wrapper._pool_key(wrapper.get_connection_params()))
    wrapper.connect()
    assert wrapper.connection.pool is not first
    assert wrapper.connection.pool is wrapper.pool


def test_errors_have_djangos_classes_and_no_frames_of_the_driver(make: Any) -> None:
    with make().cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE strict (a int CHECK (a > 0))")
        for send in (
            lambda: cursor.execute("INSERT INTO strict VALUES (%s)", [0]),
            lambda: cursor.executemany("INSERT INTO strict VALUES (%s)", [[0]]),
        ):
            with pytest.raises(IntegrityError) as caught:
                send()
            error: BaseException | None = caught.value
            while error is not None:
                trace = error.__traceback__
                while trace is not None:
                    assert "MySQLdb" not in trace.tb_frame.f_code.co_filename
                    trace = trace.tb_next
                error = error.__cause__ or error.__context__
