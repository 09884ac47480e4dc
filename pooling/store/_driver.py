"""Opens connections as the site's django-redis client does. The only import of the Redis library.

What the site set there (address, database, user, password, TLS, Sentinel) is taken over; time-outs, retries and health
checks are not, since `pooling.store._wire` has a budget and a breaker of its own.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from ._wire import Lost, Moved, NoScript, Refused, Slow, Stream

_OWN = {
    *("retry", "retry_on_error", "retry_on_timeout", "health_check_interval", "socket_timeout"),
    *("socket_connect_timeout", "protocol", "parser_class", "decode_responses", "himport_registry"),
    "event_dispatcher",
}
_OWN_PREFIXES = ("maint_", "orig_", "oss_")  # how the library's pool tells its connections of a server's maintenance


class RedisLine:
    """One connection of the library, with its errors translated."""

    def __init__(self, connection: Any, where: str) -> None:
        self._connection = connection
        self._where = where

    def connect(self) -> None:
        try:
            self._connection.connect()
        except (redis.RedisError, OSError) as error:
            raise translated(error, self._where) from error

    def ask(self, request: bytes) -> Any:
        connection = self._connection
        try:
            connection.send_packed_command((request,), check_health=False)
            return connection.read_response(disable_decoding=True)
        except (redis.RedisError, OSError) as error:
            raise translated(error, self._where) from error

    def settimeout(self, seconds: float) -> None:
        sock = self._connection._sock
        if sock is not None:
            sock.settimeout(seconds)

    def interrupt(self) -> None:
        sock = self._connection._sock
        if sock is not None:
            with contextlib.suppress(OSError):  # it is closed already
                sock.shutdown(socket.SHUT_RDWR)

    def take_over(self) -> Stream:
        stream: Stream = self._connection._sock
        return stream

    def close(self) -> None:
        self._connection.disconnect()


class RedisDriver:
    """`pooling.store._wire.Driver` for a client of redis-py: ``client`` is what django-redis made of its settings.

    Nothing is asked of the client and none of its connections is used; it only tells how to connect. TypeError for a
    client of another kind.
    """

    def __init__(self, client: Any) -> None:
        if not isinstance(client, redis.Redis):
            raise TypeError(
                f"its client is a {type(client).__name__}, not a redis.Redis. For a Redis Cluster use the ordinary "
                f"client with the URL of one node; the node that has the keys is found from there."
            )
        pool = client.connection_pool
        self._class = pool.connection_class
        self._kwargs = {
            key: value
            for key, value in pool.connection_kwargs.items()
            if key not in _OWN and not key.startswith(_OWN_PREFIXES)
        }
        self._sentinels = pool if isinstance(pool, SentinelConnectionPool) else None
        self._moved: tuple[str, int] | None = None

    def name(self) -> str:
        kwargs = self._kwargs
        if self._sentinels is not None:
            address = f"Sentinel's {self._sentinels.service_name!r}"
        elif self._moved is not None:
            address = f"{self._moved[0]}:{self._moved[1]}"
        elif "path" in kwargs:
            address = kwargs["path"]
        else:
            address = f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
        return f"{address}/{kwargs.get('db') or 0}"

    def connect(self, timeout: float) -> RedisLine:
        deadline = time.monotonic() + timeout
        if self._moved is not None:
            try:
                return self._connect(timeout / 2, {"host": self._moved[0], "port": self._moved[1]})
            except (Lost, Slow):
                self._moved = None  # that node has failed: the first one knows who has the keys now
        return self._connect(max(deadline - time.monotonic(), 0.001), self._through_sentinel(timeout))

    def redirect(self, host: str, port: int) -> None:
        # A node that was not told its own name leaves the host empty: the one that was asked.
        self._moved = (host or str(self._kwargs.get("host", "localhost")), port)

    def _connect(self, timeout: float, address: dict[str, Any]) -> RedisLine:
        kwargs = {
            **self._kwargs,
            **address,
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        if "path" in kwargs:
            del kwargs["socket_connect_timeout"]
        line = RedisLine(self._class(**kwargs), self.name())
        try:
            line.connect()
        except BaseException:
            line.close()
            raise
        return line

    def _through_sentinel(self, timeout: float) -> dict[str, Any]:
        """The pool through which a connection of Sentinel's kind finds the master: one with time-outs of our own."""
        theirs = self._sentinels
        if theirs is None:
            return {}
        known = theirs.sentinel_manager
        addresses = [
            (sentinel.connection_pool.connection_kwargs["host"], sentinel.connection_pool.connection_kwargs["port"])
            for sentinel in known.sentinels
        ]
        each = timeout / (len(addresses) + 1)  # those that hang must leave time for one that answers
        options = {**known.sentinel_kwargs, "socket_timeout": each, "socket_connect_timeout": each}
        options["retry"] = Retry(NoBackoff(), 0)
        options.pop("retry_on_timeout", None)
        finder = Sentinel(addresses, min_other_sentinels=known.min_other_sentinels, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        pool = SentinelConnectionPool(theirs.service_name, finder)  # type: ignore[no-untyped-call]
        self._finder = pool  # connections have a weak reference to it
        return {"connection_pool": pool.proxy}


def translated(error: Exception, where: str) -> Lost | Slow | Refused:
    """An error of the library as the `Trouble` that it is."""
    if isinstance(error, redis.exceptions.NoScriptError):
        return NoScript(str(error))
    if isinstance(error, redis.exceptions.MovedError):
        return Moved(error.host, int(error.port))
    if isinstance(error, (redis.exceptions.AuthenticationError, redis.exceptions.NoPermissionError)):
        return Refused(
            f"it refuses the user or the password, or the user may not do this ({error}). Correct the user and the "
            f"password in CACHES, or the user's rights in Redis.",
            down=isinstance(error, redis.exceptions.AuthenticationError),
        )
    if isinstance(error, redis.TimeoutError):
        return Slow(f"no answer in time ({error}). POOLING['STORE_BUDGET'] is what a call may take.")
    if isinstance(error, (redis.exceptions.ReadOnlyError, redis.exceptions.BusyLoadingError)):
        return Refused(f"{error}", down=True)
    if isinstance(error, (redis.exceptions.ClusterDownError, redis.exceptions.MasterDownError)):
        return Refused(f"{error}", down=True)
    if isinstance(error, (redis.ConnectionError, OSError)):
        return Lost(f"{error}")
    return Refused(f"it answered {str(error)!r}.")
