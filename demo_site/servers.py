"""Private servers of a database and of Redis, without any of the machine's configuration; see `PrivateServer`.

The demo and the tests both use them. Which program serves can be chosen: ``POOLING_DB_PROGRAM`` and
``POOLING_REDIS_PROGRAM`` in the environment name one, by its path or by a name on PATH. Without them it is
the machine's mariadbd, or else its mysqld, and redis-server or else valkey-server.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from .private_server import HOST, FolderTaken, PrivateServer, ServerError, free_port, program

__all__ = [
    "FolderTaken",
    "PrivateDatabase",
    "PrivateMariaDB",
    "PrivateMySQL",
    "PrivateRedis",
    "PrivateServer",
    "ServerError",
    "free_port",
    "private_database",
    "versions",
]


def private_database(
    folder: str | os.PathLike[str],
    *,
    password: str = "",
    max_connections: int = 500,
    options: Sequence[str] = (),
    deadline: float = 60.0,
) -> PrivateDatabase:
    """A `PrivateMariaDB` or a `PrivateMySQL`, whichever the program that is chosen or found here turns out to be.

    Its data are in ``folder``/mariadb or ``folder``/mysql, since neither can read the other's.
    """
    path, version = _database_program()
    kind = PrivateMariaDB if "MariaDB" in version else PrivateMySQL
    datadir = Path(folder) / kind.label.lower()
    return kind(datadir, path, password=password, max_connections=max_connections, options=options, deadline=deadline)


def versions() -> dict[str, str]:
    """The servers that are started here, with their versions: ``{"MariaDB": "10.11.14", "Redis": "7.0.15"}``."""
    _, database = _database_program()
    redis = subprocess.run([_redis_program(), "--version"], capture_output=True, text=True).stdout
    kinds = {"MariaDB" if "MariaDB" in database else "MySQL": database, redis.split(" ", 1)[0]: redis}
    numbers = {kind: re.search(r"(?:Ver |v=)([\d.]+)", said) for kind, said in kinds.items()}
    return {kind: number[1] for kind, number in numbers.items() if number}


class PrivateDatabase(PrivateServer):
    """A database server for ``root@127.0.0.1`` with ``password`` (default: none), and the time zone tables filled.

    ``server`` is the path of its program; ``options`` are further ones of it, such as ``["--general-log=ON"]``.
    """

    user = "root"
    # For the demo and the tests: it needs little memory, and what was committed survives the server's death, not the
    # machine's. Where the disk is busy with something else, a sync can take many seconds, in which everything waits.
    _settings: ClassVar[tuple[str, ...]] = (
        "--skip-name-resolve",
        "--skip-log-bin",
        "--performance-schema=OFF",
        "--character-set-server=utf8mb4",
        "--innodb-flush-log-at-trx-commit=2",
        "--innodb-flush-method=nosync",
        "--innodb-buffer-pool-size=64M",
        "--innodb-use-native-aio=OFF",  # containers often allow only a few of these contexts
    )

    def __init__(
        self,
        datadir: str | os.PathLike[str],
        server: str | None = None,
        *,
        password: str = "",
        max_connections: int = 500,
        options: Sequence[str] = (),
        deadline: float = 60.0,
    ) -> None:
        super().__init__(datadir, deadline=deadline)
        self.server = server
        self.password = password
        self.max_connections = max_connections
        self.options = tuple(options)

    # -- what differs between the two

    def _program(self) -> str:
        raise NotImplementedError

    def _initialise(self) -> None:
        """Make the system tables, with the time zones in them."""
        raise NotImplementedError

    def _accounts(self, secret: str) -> Sequence[str]:
        """Statements that make the account, or set its password anew; ``secret`` is the password as an SQL literal."""
        raise NotImplementedError

    # -- what does not

    @property
    def data(self) -> Path:
        return self.datadir / "data"

    @property
    def _prefix(self) -> Path:
        """The folder around ``sbin`` or ``bin``, where the server finds its messages, character sets and plugins."""
        return Path(self._program()).parent.parent

    def _tool(self, *names: str) -> str:
        """A program of the same installation as the server; else of the machine."""
        folders = os.pathsep.join(str(self._prefix / folder) for folder in ("bin", "sbin", "scripts"))
        return next((found for name in names if (found := shutil.which(name, path=folders))), None) or program(*names)

    def _prepare(self) -> None:
        # A server that starts deletes the temporary tables that it finds in its tmpdir: in /tmp those of others.
        (self.datadir / "tmp").mkdir(exist_ok=True)
        done = self.datadir / "initialised"
        if not done.exists():
            shutil.rmtree(self.data, ignore_errors=True)  # left by an attempt that was interrupted
            self._initialise()
            done.touch()
        secret = "'" + self.password.replace("\\", "\\\\").replace("'", "\\'") + "'"
        init = self.datadir / "init.sql"
        init.touch(mode=0o600)
        init.write_text("".join(f"{statement};\n" for statement in self._accounts(secret)))

    def _make_system_tables(self, command: Sequence[str]) -> None:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.log.write_bytes(done.stdout)
        if done.returncode:
            raise ServerError(f"{self.label}'s data folder could not be made ({done.returncode}):\n{self.tail()}")

    def _write_zones(self, *tools: str, first: str = "") -> None:
        # Functions such as CONVERT_TZ need the time zone tables, and Django's lookups by date with them.
        source = Path("/usr/share/zoneinfo")
        if not source.is_dir():
            raise ServerError(f"{source} is missing. Install the package tzdata, or run scripts/bootstrap.sh.")
        with open(self.datadir / "zones.sql", "wb") as out:
            out.write(first.encode())
            out.flush()
            subprocess.run(
                [self._tool(*tools), str(source)],
                stdout=out,
                stderr=subprocess.DEVNULL,  # it warns of each file there that is not a zone
                check=True,
            )

    def _command(self) -> list[str]:
        return [
            self._program(),
            "--no-defaults",
            f"--basedir={self._prefix}",
            f"--datadir={self.data}",
            f"--tmpdir={self.datadir / 'tmp'}",
            f"--socket={self.socket}",
            f"--pid-file={self.datadir / 'server.pid'}",
            f"--init-file={self.datadir / 'init.sql'}",
            f"--bind-address={HOST}",
            f"--port={self.port}",
            f"--max-connections={self.max_connections}",
            *self._settings,
            *_as_current_user(),
            *self.options,
        ]

    def _answers(self, connection: socket.socket) -> bool:
        return connection.recv(5)[4:5] == b"\x0a"  # the greeting, protocol 10; sent once the server accepts


class PrivateMariaDB(PrivateDatabase):
    """MariaDB."""

    label = "MariaDB"
    _settings = (
        *PrivateDatabase._settings,
        "--collation-server=utf8mb4_general_ci",
        "--innodb-log-file-size=32M",
    )

    def _program(self) -> str:
        return self.server or program("mariadbd", "mysqld")

    def _initialise(self) -> None:
        self._write_zones("mariadb-tzinfo-to-sql", "mysql_tzinfo_to_sql")
        with tempfile.TemporaryDirectory(prefix="pooling-", dir="/tmp") as folder:
            link = Path(folder) / "it"  # the script that makes the system tables breaks at spaces in a path
            link.symlink_to(self.datadir)
            command = [
                self._tool("mariadb-install-db", "mysql_install_db"),
                "--no-defaults",
                f"--basedir={self._prefix}",
                f"--datadir={link / 'data'}",
                f"--tmpdir={link / 'tmp'}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
                "--force",  # also where the machine's own name has no address
                *_as_current_user(),
                f"--extra-file={link / 'zones.sql'}",
            ]
            self._make_system_tables(command)

    def _accounts(self, secret: str) -> Sequence[str]:
        return (
            "SET SESSION sql_mode=''",
            f"CREATE OR REPLACE USER root@'127.0.0.1' IDENTIFIED BY {secret}",
            "GRANT ALL PRIVILEGES ON *.* TO root@'127.0.0.1' WITH GRANT OPTION",
            f"SET PASSWORD FOR root@localhost = PASSWORD({secret})",
        )


class PrivateMySQL(PrivateDatabase):
    """MySQL 8.4 or newer, with its own default collation and its own way to authenticate, caching_sha2_password."""

    label = "MySQL"
    _settings = (
        *PrivateDatabase._settings,
        "--innodb-redo-log-capacity=64M",
        "--secure-file-priv=NULL",  # else a folder of Debian's that need not be there
        "--mysqlx=OFF",  # a second protocol, on a port of its own
        "--event-scheduler=OFF",  # as MariaDB's default; it counts as a session
    )

    def _program(self) -> str:
        return self.server or program("mysqld")

    def _initialise(self) -> None:
        self._write_zones("mysql_tzinfo_to_sql", "mariadb-tzinfo-to-sql", first="USE mysql;\n")
        command = [
            self._program(),
            "--no-defaults",
            f"--basedir={self._prefix}",
            f"--datadir={self.data}",
            f"--tmpdir={self.datadir / 'tmp'}",
            "--initialize-insecure",
            f"--init-file={self.datadir / 'zones.sql'}",
            *self._settings,
            *_as_current_user(),
        ]
        self._make_system_tables(command)

    def _accounts(self, secret: str) -> Sequence[str]:
        return (
            "SET SESSION sql_mode=''",
            "CREATE USER IF NOT EXISTS root@'127.0.0.1'",
            f"ALTER USER root@'127.0.0.1' IDENTIFIED BY {secret}, root@localhost IDENTIFIED BY {secret}",
            "GRANT ALL PRIVILEGES ON *.* TO root@'127.0.0.1' WITH GRANT OPTION",
        )


class PrivateRedis(PrivateServer):
    """A Redis server with persistence off. ``options`` are further ones, for instance ``["--maxmemory", "8mb"]``."""

    label = "Redis"

    def __init__(self, datadir: str | os.PathLike[str], *, options: Sequence[str] = (), deadline: float = 60.0) -> None:
        super().__init__(datadir, deadline=deadline)
        self.options = tuple(options)

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    def _command(self) -> list[str]:
        return [
            _redis_program(),
            *("--bind", HOST, "--port", str(self.port), "--unixsocket", self.socket, "--unixsocketperm", "700"),
            *("--save", "", "--appendonly", "no", "--daemonize", "no", "--databases", "64"),
            *self.options,
        ]

    def _answers(self, connection: socket.socket) -> bool:
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))


def _database_program() -> tuple[str, str]:
    """Its path, and what it says of itself: both kinds are called mysqld on some machines."""
    path = _chosen("POOLING_DB_PROGRAM", "mariadbd", "mysqld")
    return path, subprocess.run([path, "--no-defaults", "--version"], capture_output=True, text=True).stdout


def _redis_program() -> str:
    return _chosen("POOLING_REDIS_PROGRAM", "redis-server", "valkey-server")


def _chosen(variable: str, *names: str) -> str:
    """The program that the environment names, else the first of ``names`` that is installed."""
    name = os.environ.get(variable)
    if not name:
        return program(*names)
    found = shutil.which(name)
    if found is None:
        raise ServerError(f"{variable} names {name}, which is no program here. Correct it, or leave it out.")
    return found


def _as_current_user() -> list[str]:
    return ["--user=root"] if os.geteuid() == 0 else []  # both refuse to run as root unless told so
