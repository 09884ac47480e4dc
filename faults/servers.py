"""The servers of a run: a database, and a Redis with a replica to which it can fail over."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import MySQLdb
import redis

from demo_site.servers import PrivateDatabase, PrivateRedis

from .bank import TABLES, Audit

TAG = "{pooling}:"
DATABASE_OPTIONS = ("--innodb-lock-wait-timeout=5",)
_REDIS_OPTIONS = ("--repl-diskless-sync-delay", "0")


class Stores:
    """Two Redises: ``current``, and a replica of it. They change places in `fail_over`."""

    def __init__(self, folder: Path) -> None:
        self.current = PrivateRedis(folder / "redis-1", options=_REDIS_OPTIONS)
        self._replica = PrivateRedis(folder / "redis-2", options=_REDIS_OPTIONS)

    def __enter__(self) -> Stores:
        self.current.start()
        self._replica.start()
        self._follow()
        return self

    def __exit__(self, *error: object) -> None:
        self.current.stop()
        self._replica.stop()

    def client(self) -> redis.Redis:
        """To the current one, past the proxy."""
        return redis.Redis.from_url(self.current.url)

    def last_token(self) -> int:
        return int(self.client().get(f"{TAG}seq") or 0)

    def freeze(self) -> None:
        """The replica follows no more, and keeps what it has."""
        client = redis.Redis.from_url(self._replica.url)
        deadline = time.monotonic() + 30
        while client.info("replication")["master_link_status"] != "up":
            if time.monotonic() > deadline:
                raise TimeoutError("The replica does not follow.")
            time.sleep(0.01)
        client.replicaof("NO", "ONE")

    def fail_over(self) -> tuple[str, int]:
        """The replica takes over as it is, and the other one follows it; where it is."""
        self.current, self._replica = self._replica, self.current
        self._follow()
        return self.current.host, self.current.port

    def lasting_keys(self) -> set[str]:
        """Keys that do not expire; a mailbox to which a killed process came no more does."""
        client = self.client()
        return {key.decode().removeprefix(TAG) for key in client.scan_iter(count=1000) if client.ttl(key) == -1}

    def _follow(self) -> None:
        redis.Redis.from_url(self._replica.url).replicaof(self.current.host, str(self.current.port))


def make_tables(database: PrivateDatabase, env: Mapping[str, str], statements: Sequence[str] = TABLES) -> None:
    """A new database with these tables, without them the bank's, and the table of fences."""
    with _connected(database) as connection:
        cursor = connection.cursor()
        cursor.execute("DROP DATABASE IF EXISTS faults")
        cursor.execute("CREATE DATABASE faults")
        cursor.execute("USE faults")
        for statement in statements:
            cursor.execute(statement)
    command = [sys.executable, "-m", "django", "migrate", "pooling", "-v0", "--skip-checks"]
    subprocess.run(command, env={**os.environ, **env}, check=True)


def read_bank(database: PrivateDatabase) -> tuple[dict[int, tuple[int, int]], list[Audit]]:
    """Balance and version of each account, and the audit."""
    accounts = rows(database, "SELECT id, balance, version FROM account")
    audit = rows(database, f"SELECT {', '.join(field.name for field in fields(Audit))} FROM audit")
    return {number: (balance, version) for number, balance, version in accounts}, [Audit(*row) for row in audit]


def rows(database: PrivateDatabase, query: str) -> list[Any]:
    """What the query finds in the workers' database."""
    with _connected(database) as connection:
        cursor = connection.cursor()
        cursor.execute("USE faults")
        cursor.execute(query)
        return list(cursor.fetchall())


def kill_connections(database: PrivateDatabase) -> int:
    """KILL every connection of the workers; how many there were."""
    with _connected(database) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT id FROM information_schema.processlist WHERE db = 'faults'")
        killed = 0
        for (number,) in cursor.fetchall():
            try:
                cursor.execute(f"KILL {number}")
            except MySQLdb.OperationalError as error:
                if error.args[0] != 1094:  # it was gone already
                    raise
            else:
                killed += 1
        return killed


def _connected(database: PrivateDatabase) -> Any:
    return MySQLdb.connect(
        host=database.host, port=database.port, user=database.user, password=database.password, autocommit=True
    )
