"""How a wrapper gets its pooled connection: what Django's `cursor` and `connect` do, by a shorter way.

Django's are made for connections that are opened now and then; a pooled one is checked out in every request. What is
written out here is what Django 5.2 to 6.1 do; a test compares it with the Django that is installed.
`ensure_connection` stays Django's: what is put in its place in `BaseDatabaseWrapper` commonly calls the one of the
wrapper, and would call itself.
"""

from __future__ import annotations

import time
from asyncio import _get_running_loop
from typing import Any

from django.db.backends.base import base
from django.db.backends.mysql import base as mysql
from django.db.backends.signals import connection_created

from .connection import Error
from .release import Releasing, djangos

_CONNECT, _CURSOR, _ENSURE = djangos("connect"), djangos("cursor"), djangos("ensure_connection")


class CheckingOut(Releasing):
    """The half of `DatabaseWrapper` that is about getting a connection."""

    def cursor(self) -> Any:
        if _get_running_loop() is None and mysql.DatabaseWrapper.cursor is _CURSOR:
            return self._cursor()
        return super().cursor()

    def _cursor(self, name: Any = None) -> Any:
        # Not past an `ensure_connection` of somebody else's: by one pytest-django keeps tests off the database.
        if type(self).ensure_connection is not _ENSURE or "ensure_connection" in self.__dict__:
            return super()._cursor(name)  # type: ignore[misc]
        self.close_if_health_check_failed()
        if self.connection is None:
            if self.in_atomic_block and self.closed_in_transaction:
                self.ensure_connection()  # which refuses
            try:
                self.connect()
            except Error:
                with self.wrap_database_errors:
                    raise
        with self.wrap_database_errors:
            return self._prepare_cursor(self.create_cursor(name))  # type: ignore[attr-defined]

    def connect(self) -> None:
        if (
            self._pool_option is None
            or _get_running_loop() is not None
            or mysql.DatabaseWrapper.connect is not _CONNECT
        ):
            self._connect_as_django_does()
            return
        settings, before = self.settings_dict, self.__dict__.get("connection")
        if settings["TIME_ZONE"] is not None:
            self.check_settings()
        self.in_atomic_block = self.needs_rollback = self.closed_in_transaction = self.errors_occurred = False
        self.savepoint_ids: list[str] = []
        self.atomic_blocks: list[Any] = []
        self.health_check_enabled = settings["CONN_HEALTH_CHECKS"]
        max_age = settings["CONN_MAX_AGE"]
        self.close_at = None if max_age is None else time.monotonic() + max_age
        self.health_check_done = self._checking_out = True
        try:
            self.connection = connection = self.get_new_connection(self.get_connection_params())
            autocommit = settings["AUTOCOMMIT"]
            if connection.autocommits is autocommit and not self.run_commit_hooks_on_set_autocommit_on:
                self.autocommit = autocommit  # the pool has seen to it
            else:
                self.set_autocommit(autocommit)
            self.init_connection_state()
            if connection_created.receivers:  # most often nobody listens, and to find that costs more inside
                connection_created.send(sender=self.__class__, connection=self)
            self.run_on_commit = []
        except BaseException:
            self._drop_half(before)
            raise
        finally:
            self._checking_out = False

    def _connect_as_django_does(self) -> None:
        before = self.__dict__.get("connection")
        self._checking_out = self._pool_option is not None
        try:
            super().connect()
        except BaseException:
            if self._checking_out:
                self._drop_half(before)
            raise
        finally:
            self._checking_out = False

    def _drop_half(self, before: Any) -> None:
        # Half a checkout would hold its connection until the thread asks for the next one. ``before``: what there was
        # already, for somebody may call `connect` although it is open; he may be in the middle of a transaction.
        if self.__dict__.get("connection") is not before:
            self._give_back(discard=True)

    def init_connection_state(self) -> None:
        """Send the session's settings; at a checkout they stand already, and only the version is checked, once."""
        if not self._checking_out:
            super().init_connection_state()
        elif self.alias not in base.RAN_DB_VERSION_CHECK:
            base.BaseDatabaseWrapper.init_connection_state(self)
