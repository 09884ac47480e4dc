"""What ``OPTIONS["pool"]`` may say: the pool's own options, and those about connections that only the backend knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pooling.pool import PoolOptions

from .credentials import Credentials
from .tcp import TcpKeepalive


@dataclass(frozen=True, slots=True)
class BackendOptions(PoolOptions):
    """`PoolOptions` with some more. Any fault raises ValueError and says what to change.

    ``credentials``        a function, or the dotted path of one, that is asked for the password, or for user and
                           password, before each connect and whenever a session is made clean: see `Credentials`.
                           None: the settings'.
    ``tcp_keepalive``      True, or a dict with some of ``idle``, ``interval`` (seconds) and ``count``: see
                           `TcpKeepalive`. None: as the system does it. Connections through a socket file need none.
    """

    credentials: str | Callable[[], Any] | None = None
    tcp_keepalive: bool | Mapping[str, int] | TcpKeepalive | None = None

    def __post_init__(self) -> None:
        PoolOptions.__post_init__(self)  # `super()` does not find its class, which slots have made anew
        if self.credentials is not None and not isinstance(self.credentials, Credentials):
            object.__setattr__(self, "credentials", Credentials(self.credentials))
        object.__setattr__(self, "tcp_keepalive", TcpKeepalive.parse(self.tcp_keepalive))


def credentials_of(settings_dict: Mapping[str, Any]) -> dict[str, str]:
    """What the database's ``credentials`` say now, for whoever connects without the pool; {} if it has none."""
    option = settings_dict["OPTIONS"].get("pool")
    source = option.get("credentials") if isinstance(option, Mapping) else None
    return {} if source is None else Credentials(source)()
