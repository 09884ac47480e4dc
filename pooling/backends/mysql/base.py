"""Django's MySQL backend with a connection pool behind ``OPTIONS["pool"]``.

Without that option every method here hands over to Django's own.

What a user changed in the session is undone before the next one gets it. What merely stands there about the last
statement is not, since that would cost a round trip each time: ``LAST_INSERT_ID()``, ``ROW_COUNT()``,
``FOUND_ROWS()``, ``@@warning_count`` and ``SHOW WARNINGS`` tell the next user about a statement of the last one. Ask
for them only after a statement of your own in the same checkout; Django takes its primary keys from the answer to the
INSERT itself and is not concerned. (``release="transaction"`` has more users and its own rule: see `release`.)
What stored functions and triggers do to the session is not seen either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.mysql import base as mysql
from django.utils.functional import cached_property

from pooling import moments
from pooling.errors import PoolTimeout
from pooling.pool import ConnectionPool

from .checkout import CheckingOut
from .client import DatabaseClient
from .connection import Connection
from .creation import DatabaseCreation
from .driver import MySQLDriver
from .fleet import budget
from .identity import frozen, snapshot
from .options import BackendOptions, credentials_of
from .validation import DatabaseValidation
from .watched import plain

Key = tuple[Any, ...]


class DatabaseWrapper(CheckingOut):
    """A connection of one thread; pooled when ``OPTIONS["pool"]`` is True or a dict of pool options."""

    client_class = DatabaseClient
    creation_class = DatabaseCreation
    validation_class = DatabaseValidation
    # What its transactions write can be told to others: see `writes`.
    tells_writes = True

    # One pool for each set of effective parameters: never by alias, which a test run points to another database.
    _connection_pools: ClassVar[dict[Key, ConnectionPool[Connection]]] = {}
    # How many were dropped: until it is one more, who has found a pool there need not look for it again.
    _dropped: ClassVar[int] = 0
    # What the server said about itself, for each pool: asked once, not by every thread's wrapper.
    _server_facts: ClassVar[dict[Key, dict[str, Any]]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Settings, and the parameters and the isolation level that come of them; what makes a key, and the key;
        # parameters, and their pool, as long as these settings stay and no pool is dropped.
        self._params_memo: tuple[dict[str, Any], dict[str, Any], str | None] | None = None
        self._key_memo: tuple[Any, Key] | None = None
        self._pool_memo: tuple[dict[str, Any], int, ConnectionPool[Connection]] | None = None

    # ----- the pool -----

    @property
    def _pool_option(self) -> Any:
        option = self.settings_dict["OPTIONS"].get("pool")
        return None if option is None or option is False or self.alias == NO_DB_ALIAS else option

    def get_connection_params(self) -> dict[str, Any]:
        """Django's parameters without the pool's, worked out again when the settings have changed, be it in place."""
        memo = self._params_memo
        if memo is None or memo[0] != self.settings_dict:
            params: dict[str, Any] = super().get_connection_params()
            params.pop("pool", None)
            settings = {**self.settings_dict, "OPTIONS": snapshot(self.settings_dict["OPTIONS"])}
            self._params_memo = memo = settings, params, self.isolation_level
            self._pool_memo = None
        self.isolation_level = memo[2]
        return memo[1].copy()

    def _pool_key(self, params: dict[str, Any]) -> Key:
        """The identity of the pool for ``params``, remembered as long as nothing of it changes."""
        # Django's own converters are the same for all: left out, they make every lookup of the key cheaper.
        named = {name: value for name, value in params.items() if value is not mysql.django_conversions}
        settings = self.settings_dict
        asked = (settings["NAME"], named, self._pool_option, settings["AUTOCOMMIT"], self.isolation_level)
        memo = self._key_memo
        if memo is None or memo[0] != asked:
            key = (asked[0], *(frozen(part) for part in asked[1:]))
            self._key_memo = memo = snapshot(asked), key
        return memo[1]

    @property
    def pool(self) -> ConnectionPool[Connection] | None:
        """The pool that a checkout would use now, made if need be; None without ``OPTIONS["pool"]``.

        Raises ImproperlyConfigured for bad pool options and for ``CONN_MAX_AGE``.
        """
        return None if self._pool_option is None else self._pool_for(self.get_connection_params())

    def _pool_for(self, params: dict[str, Any]) -> ConnectionPool[Connection]:
        memo, dropped = self._pool_memo, self._dropped
        # Only in a checkout, which has just seen to it that the settings are those of the memo: it saves comparing
        # what else makes the key, and hashing all of it.
        if self._checking_out and memo is not None and memo[0] == params and memo[1] == dropped:
            return memo[2]
        key = self._pool_key(params)
        pool = self._connection_pools.get(key)
        if pool is None:
            pool = self._make_pool(key, params)
        if self._checking_out:
            self._pool_memo = params.copy(), dropped, pool
        return pool

    def _make_pool(self, key: Key, params: dict[str, Any]) -> ConnectionPool[Connection]:
        if self.settings_dict.get("CONN_MAX_AGE", 0) != 0:
            raise ImproperlyConfigured(
                "Pooling doesn't support persistent connections. Set CONN_MAX_AGE to 0, or leave it out, for the "
                f"database {self.alias!r}: the pool keeps the connections."
            )
        option = self._pool_option
        if option is not True and not isinstance(option, Mapping):
            raise ImproperlyConfigured(
                f"OPTIONS['pool'] of the database {self.alias!r} must be True, False or a dict of pool options, "
                f"not {option!r}."
            )
        try:
            options = BackendOptions.parse(option)
        except (ValueError, TypeError) as error:
            raise ImproperlyConfigured(f"OPTIONS['pool'] of the database {self.alias!r}: {error}") from error
        try:
            driver = MySQLDriver(
                params,
                autocommit=self.settings_dict["AUTOCOMMIT"],
                isolation=self.isolation_level,
                options=options,
            )
            share = budget(params, options)
        except ValueError as error:
            raise ImproperlyConfigured(f"OPTIONS of the database {self.alias!r}: {error}") from error
        pool: ConnectionPool[Connection] = ConnectionPool(driver, options, name=self.alias, budget=share)
        # Threads may get here together. No pool has connected yet, so the losers' are simply dropped.
        return self._connection_pools.setdefault(key, pool)

    def close_pool(self) -> None:
        """Close this database's pool, if there is one; the next use opens it again. May be called after every task.

        Idle connections are closed now and lent ones when they come back. Checkouts that wait in other threads are
        not refused: they get new connections.
        """
        if self._pool_option is not None:
            # The pool stays where it is found: it goes on counting what is lent, and a second one beside it would
            # open as many again.
            pool = self._connection_pools.get(self._pool_key(self.get_connection_params()))
            if pool is not None:
                pool.close_gently()

    @classmethod
    def _drop_pool(cls, key: Key) -> None:
        cls._server_facts.pop(key, None)
        pool = cls._connection_pools.pop(key, None)
        DatabaseWrapper._dropped += 1
        if pool is not None:
            pool.close()

    @classmethod
    def _close_pools_of(cls, name: str | None) -> None:
        """Close and forget every pool that is connected to the database ``name``."""
        for key in [key for key in list(cls._connection_pools) if key[0] == name]:
            cls._drop_pool(key)

    # ----- checkout -----

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        if not self._checking_out and self._pool_option is None:
            # What makes and drops test databases is not pooled, but needs the same credentials.
            params = {**conn_params, **credentials_of(self.settings_dict)}
            connection = plain(params) if self.alias != NO_DB_ALIAS else None
            return super().get_new_connection(params) if connection is None else connection
        pool = self._pool_for(conn_params)
        try:
            connection = moments.checkout(pool) if moments.listeners else pool.getconn()
        except PoolTimeout as error:
            raise OperationalError(str(error)) from error
        connection.pool = pool
        if connection.multiplexed:
            connection.lent()
        return connection

    @cached_property
    def mysql_server_data(self) -> dict[str, Any]:
        if self._pool_option is None:
            return super().mysql_server_data
        try:
            _ = self.pool
        except ImproperlyConfigured:
            # The checks of models ask about the server: `manage.py check` shall report the fault, not end with it.
            return self._server_data_without_pool()
        key = self._pool_key(self.get_connection_params())
        facts = self._server_facts.get(key)
        if facts is None:
            facts = self._server_facts[key] = super().mysql_server_data
        return facts

    def _server_data_without_pool(self) -> dict[str, Any]:
        options = {name: value for name, value in self.settings_dict["OPTIONS"].items() if name != "pool"}
        plain = mysql.DatabaseWrapper({**self.settings_dict, "OPTIONS": options}, alias=self.alias)
        try:
            data: dict[str, Any] = plain.mysql_server_data
        finally:
            plain.close()
        return data
