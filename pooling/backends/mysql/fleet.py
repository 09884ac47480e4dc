"""``max_size="auto"``: which processes share a server, and what it allows them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pooling.pool import Budget, HostLedger, PoolOptions, usual_folder

from .driver import Connection, limits

_ALL = "max_connections"


def budget(params: Mapping[str, Any], options: PoolOptions) -> Budget[Connection] | None:
    """What a pool with ``params`` needs to find its share; None if it has a ``max_size`` of its own.

    Everybody who writes the server's address alike divides its ``max_connections``, less ``reserve``; those with the
    same user divide that user's ``max_user_connections`` besides. Raises ValueError or OSError for a folder that will
    not do.
    """
    if options.max_size != "auto":
        return None
    address = repr([params.get(name) for name in ("host", "port", "unix_socket")])
    parent = usual_folder() if options.budget_dir is None else Path(options.budget_dir)
    folder = parent / hashlib.sha256(address.encode()).hexdigest()[:16]
    of_the_user = f"max_user_connections of {params.get('user')!r}"
    return Budget(HostLedger(folder, (_ALL, of_the_user)), _asking(of_the_user, options.reserve))


def _asking(of_the_user: str, reserve: int) -> Callable[[Connection], Mapping[str, int | None]]:
    def ask(connection: Connection) -> Mapping[str, int | None]:
        most, users = limits(connection)
        return {_ALL: max(0, most - reserve), of_the_user: users}

    return ask
