"""What is run with what: each server, each Python and each Django at least once, not all with all."""

from __future__ import annotations

from dataclasses import dataclass

# Django's labels that have to do with connections and transactions.
LABELS = ("backends", "basic", "transactions", "transaction_hooks")


@dataclass(frozen=True)
class Server:
    """A server program: of this machine, or with ``release`` out of ``packages`` of that release of Debian."""

    name: str
    program: str
    release: str = ""
    packages: tuple[str, ...] = ()


DATABASES = (
    Server("mariadb", "mariadbd"),
    Server("mariadb-11.8", "usr/sbin/mariadbd", "trixie", ("mariadb-server-core", "mariadb-client")),
    Server("mysql-9", "usr/sbin/mysqld", "sid", ("mysql-server-core",)),
)
STORES = (
    Server("redis", "redis-server"),
    Server("redis-8", "usr/bin/redis-server", "trixie", ("redis-server",)),
    Server("valkey-9", "usr/bin/valkey-server", "sid", ("valkey-server",)),
)
SERVERS = {server.name: server for server in (*DATABASES, *STORES)}


@dataclass(frozen=True)
class Combination:
    """Names of two of the `SERVERS`, and versions by their first two numbers."""

    database: str
    store: str
    python: str
    django: str

    @property
    def name(self) -> str:
        return f"{self.database}+{self.store}+py{self.python}+django{self.django}"


# Django 6 wants Python 3.12.
COMBINATIONS = (
    Combination("mysql-9", "valkey-9", "3.11", "5.2"),
    Combination("mariadb-11.8", "redis-8", "3.12", "6.0"),
    Combination("mysql-9", "redis-8", "3.13", "6.1"),
    Combination("mariadb-11.8", "valkey-9", "3.13", "6.1"),
    Combination("mariadb", "redis", "3.11", "5.2"),
)


def chosen(words: list[str]) -> list[Combination]:
    """Those whose name has all of the words in it; without words all."""
    return [one for one in COMBINATIONS if all(word in one.name for word in words)]
