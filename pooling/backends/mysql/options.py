"""``OPTIONS["pool"]``: the pool's own options, and those about the connections that only this backend knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from pooling.pool import PoolOptions

from .credentials import Credentials
from .tcp import TcpKeepalive


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """How connections are made. Faults raise ValueError, or ImproperlyConfigured, and say what to change.

    ``credentials``    a function, or the dotted path of one, that is asked for the password, or for user and password,
                       before each connect and whenever a session is made clean: see `Credentials`. None: the settings'.
    ``tcp_keepalive``  True, or a dict with some of ``idle``, ``interval`` (seconds) and ``count``: see `TcpKeepalive`.
                       None: as the system does it. Connections through a socket file need none.
    """

    credentials: Credentials | None = None
    tcp_keepalive: TcpKeepalive | None = None

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Self:
        """From the part of the options that is not the pool's."""
        source: str | Callable[[], Any] | None = value.get("credentials")
        if source is not None and not isinstance(source, str) and not callable(source):
            raise ValueError(
                f"Pool option 'credentials' must be a function, the dotted path of one, or None, not {source!r}."
            )
        return cls(
            None if source is None else Credentials(source),
            TcpKeepalive.parse(value.get("tcp_keepalive")),
        )


def parse(value: Any) -> tuple[PoolOptions, ConnectOptions]:
    """Both halves of ``OPTIONS["pool"]``. ValueError, or ImproperlyConfigured for ``credentials`` that lead nowhere."""
    if not isinstance(value, Mapping):
        return PoolOptions.parse(value), ConnectOptions()
    ours = [field.name for field in dataclasses.fields(ConnectOptions)]
    mine = {name: value[name] for name in ours if name in value}
    rest = {name: item for name, item in value.items() if name not in mine}
    return PoolOptions.parse(rest, also=ours), ConnectOptions.parse(mine)


def credentials_of(settings_dict: Mapping[str, Any]) -> dict[str, str]:
    """What the database's ``credentials`` say now, for whoever connects without the pool; {} if it has none."""
    option = settings_dict["OPTIONS"].get("pool")
    if not isinstance(option, Mapping):
        return {}
    credentials = ConnectOptions.parse(option).credentials
    return {} if credentials is None else credentials()
