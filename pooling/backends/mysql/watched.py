"""Connections that tell which tables their transactions wrote, and whether new ones are of that kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .connection import Connection, DriverConnection, every, leave_bytes_alone
from .writes import Watch, WriteRecord


class Watched(WriteRecord, Connection):
    """A connection that tells which tables its transactions wrote."""

    _query = Connection.query

    def settle(self, *, implicit: bool) -> None:
        super().settle(implicit=implicit)
        self.over()

    def start_transaction(self) -> None:
        self.begun()
        super().start_transaction()


class WatchedPlain(WriteRecord, DriverConnection):  # type: ignore[misc]
    """The same without a pool."""

    _query = DriverConnection.query


_kind: type[Connection] = Connection


def watch(by: Watch | None) -> None:
    """From here on all connections tell ``by`` what they write, or, with None, nobody: that costs a statement nothing.

    Pooled ones that are open already do so, too; without a pool the next ones.
    """
    global _kind
    _kind = Connection if by is None else Watched
    if by is not None:
        WriteRecord.watch = by
    for connection in every():
        connection.__class__ = _kind


def opened(params: Mapping[str, Any]) -> Connection:
    """A connection for a pool."""
    connection = _kind(**params)
    connection.__class__ = _kind  # `watch` does not see one that is being opened
    return connection


def plain(params: Mapping[str, Any]) -> Any:
    """A connection without a pool; None if nobody wants to know what it writes."""
    if _kind is Connection:
        return None
    connection = WatchedPlain(**params)
    leave_bytes_alone(connection)
    return connection
