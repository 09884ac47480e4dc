"""What ``OPTIONS["pool"]`` may say: the pool's own options, and what only the backend knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pooling.pool import PoolOptions
from pooling.pool.state import COUNTS_REFERENCES

from .credentials import Credentials
from .tcp import TcpKeepalive

RELEASES = ("request", "transaction")


@dataclass(frozen=True, slots=True)
class BackendOptions(PoolOptions):
    """`PoolOptions` with some more. Any fault raises ValueError and says what to change.

    ``release``            when a connection goes back: "request", at `close()`, which Django calls at the end of each
                           request; "transaction", as soon as no transaction, cursor or session state needs it.
    ``start_transaction``  open `atomic()` by START TRANSACTION, instead of switching autocommit off and on again: three
                           statements for a transaction of one query instead of four.
    ``credentials``        a function, or the dotted path of one, that is asked for the password, or for user and
                           password, before each connect and whenever a session is made clean: see `Credentials`.
                           None: the settings'.
    ``tcp_keepalive``      True, or a dict with some of ``idle``, ``interval`` (seconds) and ``count``: see
                           `TcpKeepalive`. None: as the system does it. Connections through a socket file need none.
    """

    release: Literal["request", "transaction"] = "request"
    start_transaction: bool = False
    credentials: str | Callable[[], Any] | None = None
    tcp_keepalive: bool | Mapping[str, int] | TcpKeepalive | None = None

    def __post_init__(self) -> None:
        PoolOptions.__post_init__(self)  # `super()` does not find its class, which slots have made anew
        if self.release not in RELEASES:
            raise ValueError(f"Pool option 'release' must be 'request' or 'transaction', not {self.release!r}.")
        if self.release == "transaction" and not COUNTS_REFERENCES:
            raise ValueError(
                "Pool option 'release' cannot be 'transaction' on this Python: only the reference counts of CPython "
                "with its GIL show that nobody holds a connection any more. Use 'request'."
            )
        if not isinstance(self.start_transaction, bool):
            raise ValueError(f"Pool option 'start_transaction' must be True or False, not {self.start_transaction!r}.")
        if self.credentials is not None and not isinstance(self.credentials, Credentials):
            object.__setattr__(self, "credentials", Credentials(self.credentials))
        object.__setattr__(self, "tcp_keepalive", TcpKeepalive.parse(self.tcp_keepalive))


def credentials_of(settings_dict: Mapping[str, Any]) -> dict[str, str]:
    """What the database's ``credentials`` say now, for whoever connects without the pool; {} if it has none."""
    option = settings_dict["OPTIONS"].get("pool")
    source = option.get("credentials") if isinstance(option, Mapping) else None
    return {} if source is None else Credentials(source)()
