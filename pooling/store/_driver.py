"""Opens connections as the site's django-redis client does. The only import of the Redis library.

What the site set there (address, database, user, password, TLS, Sentinel) is taken over; time-outs, retries and health
checks are not, since `pooling.store._wire` has a budget and a breaker of its own.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import time
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from ._answers import Answers, Ended
from ._bounded import Bounded
from ._resp3 import Failure
from ._wire import Lost, Moved, NoScript, Refused, Slow, Stream

_OWN = {
    *("retry", "retry_on_error", "retry_on_timeout", "health_check_interval", "socket_timeout"),
    *("socket_connect_timeout", "protocol", "parser_class", "decode_responses", "himport_registry"),
    "event_dispatcher",
}
_OWN_PREFIXES = ("maint_", "orig_", "oss_")  # how the library's pool tells its connections of a server's maintenance


class RedisLine:
    """One connection that the library has made and signed in. From then on its socket is asked without the library."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._seconds = 0.0

    def connect(self) -> None:
        try:
            self._connection.connect()
        except (redis.RedisError, OSError) as error:
            raise translated(error) from error
        self._sock: Bounded = self._connection._sock
        self._answers = Answers(self._sock)

    def ask(self, request: bytes) -> Any:
        sock = self._sock
        try:
            sock.begin(self._seconds)
            sock.sendall(request)
            answer = self._answers.next()
        except OSError as error:
            raise translated(error) from error
        except (Ended, ValueError) as error:
            raise Lost(f"{error}") from error
        if isinstance(answer, Failure):
            raise translated(self._connection._parser.parse_error(answer.text))
        return answer

    def settimeout(self, seconds: float) -> None:
        self._seconds = seconds

    def interrupt(self) -> None:
        with contextlib.suppress(OSError):  # it is closed already
            self._sock.shutdown(socket.SHUT_RDWR)

    def take_over(self) -> Stream:
        stream: Stream = self._sock.sock
        return stream

    def close(self) -> None:
        self._connection.disconnect()


@functools.cache
def _bounded(kind: Any) -> Any:
    """A class of connections of the library's that connects, greets and signs in until the moment ``end``."""

    class BoundedConnection(kind):  # type: ignore[misc]
        def __init__(self, *, end: float, **options: Any) -> None:
            self._end = end
            super().__init__(**options)

        def _connect(self) -> Bounded:
            return Bounded(super()._connect(), self._end)

        # The library asks for them before each step: for each address that a name has, and for TLS.
        @property
        def socket_timeout(self) -> float:
            return max(self._end - time.monotonic(), 0.001)

        @socket_timeout.setter
        def socket_timeout(self, seconds: float) -> None:
            pass

        socket_connect_timeout = socket_timeout

    return BoundedConnection


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
        self._class = _bounded(pool.connection_class)
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
            "end": time.monotonic() + timeout,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        line = RedisLine(self._class(**kwargs))
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
        options = {**known.sentinel_kwargs, "retry": Retry(NoBackoff(), 0)}
        options.pop("retry_on_timeout", None)
        finder = Sentinel(addresses, min_other_sentinels=known.min_other_sentinels, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        end, each = time.monotonic(), timeout / (len(addresses) + 1)
        for sentinel in finder.sentinels:  # asked in turn: those that hang must leave time for one that answers
            end += each
            one = sentinel.connection_pool
            one.connection_class, one.connection_kwargs["end"] = _bounded(one.connection_class), end
        pool = SentinelConnectionPool(theirs.service_name, finder)  # type: ignore[no-untyped-call]
        self._finder = pool  # connections have a weak reference to it
        return {"connection_pool": pool.proxy}


def translated(error: Exception) -> Lost | Slow | Refused:
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
    if isinstance(error, (redis.TimeoutError, TimeoutError)):
        return Slow(f"no answer in time ({error}). POOLING['STORE_BUDGET'] is what a call may take.")
    if isinstance(error, redis.exceptions.ReadOnlyError):
        # It has become a replica: whoever connects anew may be led to the master.
        return Lost("it is a replica, which takes no writes. Name the master in CACHES, or the sentinels that know it.")
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return Refused(
            "its memory is full, and its maxmemory-policy lets it drop nothing. Raise its maxmemory, or set the policy "
            "to 'volatile-lru', which drops pages and spares locks."
        )
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return Refused(f"{error}", down=True)
    if isinstance(error, (redis.exceptions.ClusterDownError, redis.exceptions.MasterDownError)):
        return Refused(f"{error}", down=True)
    if isinstance(error, (redis.ConnectionError, OSError)):
        return Lost(f"{error}")
    return Refused(f"it answered {str(error)!r}.")
