"""The servers of a test run: one private database server and one private Redis, started before Django is set up.

`ensure` is called by tests/settings.py, which pytest-django imports before any conftest. It starts what the
environment does not name already and puts the addresses there, so that the workers of pytest-xdist, which inherit the
environment, share the servers of the process that started them, while two runs side by side have their own.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from demo_site.servers import PrivateDatabase, PrivateMariaDB, PrivateRedis, PrivateServer, private_database

__all__ = [
    "PrivateDatabase",
    "PrivateMariaDB",
    "PrivateRedis",
    "database",
    "ensure",
    "private_database",
    "redis",
    "stop",
]

database: PrivateDatabase | None = None
redis: PrivateRedis | None = None
_folder: Path | None = None
_set: list[str] = []
_owner = 0


def _new(name: str) -> Path:
    global _folder, _owner
    if _folder is None:
        _owner = os.getpid()
        atexit.register(stop)  # for a run that ends before its session begins, for instance at a wrong option
        _folder = Path(tempfile.mkdtemp(prefix="pooling-tests-"))
    return _folder / name


def _export(**values: str) -> None:
    os.environ.update(values)
    _set.extend(values)


def ensure() -> None:
    """Start what is not there yet. Idempotent."""
    global database, redis
    try:
        if "POOLING_DB_PORT" not in os.environ:
            database = private_database(_new("database")).start()
            _export(
                POOLING_DB_HOST=database.host,
                POOLING_DB_PORT=str(database.port),
                POOLING_DB_USER=database.user,
                POOLING_DB_PASSWORD=database.password,
            )
        if "POOLING_REDIS_URL" not in os.environ:
            redis = PrivateRedis(_new("redis")).start()
            _export(POOLING_REDIS_URL=redis.url)
    except BaseException:
        stop()
        raise


def stop() -> None:
    """Stop what `ensure` started in this process, and remove its data. Idempotent."""
    global database, redis, _folder
    if _owner != os.getpid():  # nothing was started, or this is a forked child of the process that did it
        return
    servers: list[PrivateServer | None] = [database, redis]
    database = redis = None
    for server in servers:
        if server is not None:
            server.stop()
    for name in _set:
        os.environ.pop(name, None)
    _set.clear()
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)
        _folder = None
