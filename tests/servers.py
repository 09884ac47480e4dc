"""The servers of a test run: one private MariaDB and one private Redis, started before Django is set up.

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

from demo_site.servers import PrivateMariaDB, PrivateRedis, PrivateServer

__all__ = ["PrivateMariaDB", "PrivateRedis", "ensure", "mariadb", "redis", "stop"]

mariadb: PrivateMariaDB | None = None
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
    global mariadb, redis
    try:
        if "POOLING_DB_PORT" not in os.environ:
            mariadb = PrivateMariaDB(_new("mariadb")).start()
            _export(
                POOLING_DB_HOST=mariadb.host,
                POOLING_DB_PORT=str(mariadb.port),
                POOLING_DB_USER=mariadb.user,
                POOLING_DB_PASSWORD=mariadb.password,
            )
        if "POOLING_REDIS_URL" not in os.environ:
            redis = PrivateRedis(_new("redis")).start()
            _export(POOLING_REDIS_URL=redis.url)
    except BaseException:
        stop()
        raise


def stop() -> None:
    """Stop what `ensure` started in this process, and remove its data. Idempotent."""
    global mariadb, redis, _folder
    if _owner != os.getpid():  # nothing was started, or this is a forked child of the process that did it
        return
    servers: list[PrivateServer | None] = [mariadb, redis]
    mariadb = redis = None
    for server in servers:
        if server is not None:
            server.stop()
    for name in _set:
        os.environ.pop(name, None)
    _set.clear()
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)
        _folder = None
