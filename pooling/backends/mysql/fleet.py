"""``max_size="auto"``: which processes share a server, and what it allows them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pooling.pool import Budget, HostLedger, PoolOptions, usual_folder
from pooling.pool.budget import Ledger

from .connection import Connection
from .driver import limits

_ALL = "max_connections"

# Gives the ledger of a fleet of several hosts for a server and its bounds, or None for the host's own. Set by the app.
shared_ledger: Callable[[str, tuple[str, ...]], Ledger | None] = lambda server, bounds: None  # noqa: E731


def budget(params: Mapping[str, Any], options: PoolOptions) -> Budget[Connection] | None:
    """What a pool with ``params`` needs to find its share; None if it has a ``max_size`` of its own.

    Everybody who writes the server's address alike divides its ``max_connections``, less ``reserve``; those with the
    same user divide that user's ``max_user_connections`` besides. Everybody is all processes that share the store,
    where it is in Redis; else, and with a ``budget_dir``, those of this host. Raises ValueError for a folder that will
    not do.
    """
    if options.max_size != "auto":
        return None
    address = repr([params.get(name) for name in ("host", "port", "unix_socket")])
    of_the_user = f"max_user_connections of {params.get('user')!r}"
    bounds = (_ALL, of_the_user)
    ledger = shared_ledger(address, bounds) if options.budget_dir is None else None
    if ledger is None:
        ledger = _of_the_host(address, bounds, options)
    return Budget(ledger, _asking(of_the_user, options.reserve))


def _of_the_host(address: str, bounds: tuple[str, ...], options: PoolOptions) -> Ledger:
    parent = usual_folder() if options.budget_dir is None else Path(options.budget_dir)
    folder = parent / hashlib.sha256(address.encode()).hexdigest()[:16]
    try:
        return HostLedger(folder, bounds)
    except OSError as error:
        raise ValueError(
            f"The folder {str(folder)!r}, where processes with 'max_size' \"auto\" find each other, cannot be made: "
            f"{error.strerror}. Name another place in 'budget_dir'."
        ) from error


def _asking(of_the_user: str, reserve: int) -> Callable[[Connection], Mapping[str, int | None]]:
    def ask(connection: Connection) -> Mapping[str, int | None]:
        most, users = limits(connection)
        return {_ALL: max(0, most - reserve), of_the_user: users}

    return ask
