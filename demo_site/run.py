"""``python -m demo_site.run``: private servers, the workload's table, and then the site until Ctrl-C.

PORT (8000) is where it serves; SERVE=0 ends after the table; WORKLOAD=0 leaves the table out. DATABASE_URL and
REDIS_URL name servers of your own instead of private ones. The workload gets a new database there, dropped afterwards.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from demo_site.servers import PrivateMariaDB, PrivateRedis, ServerError
from demo_site.web import HOST, WebError, WebServer, listen


class Stop(SystemExit):
    """SIGTERM."""


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    raise Stop(128 + number)


def _port() -> int:
    text = os.environ.get("PORT") or "8000"
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise WebError(f"PORT must be a number from 1 to 65535, not {text!r}.")
    return int(text)


def _start_servers(stack: contextlib.ExitStack, run_dir: Path) -> None:
    if not os.environ.get("DATABASE_URL"):
        database = stack.enter_context(PrivateMariaDB(run_dir / "mariadb"))
        os.environ.update(
            POOLING_DB_HOST=database.host,
            POOLING_DB_PORT=str(database.port),
            POOLING_DB_USER=database.user,
            POOLING_DB_PASSWORD=database.password,
        )
        print(f"MariaDB on {database.host}:{database.port}", flush=True)
    if not os.environ.get("REDIS_URL"):
        redis = stack.enter_context(PrivateRedis(run_dir / "redis"))
        os.environ["POOLING_REDIS_URL"] = redis.url
        print(f"Redis on {redis.host}:{redis.port}", flush=True)


def _create(name: str, *, new: bool) -> None:
    from django.db import connection

    with connection._nodb_cursor() as cursor:
        quoted = connection.ops.quote_name(name)
        cursor.execute(f"CREATE DATABASE {'' if new else 'IF NOT EXISTS '}{quoted} CHARACTER SET utf8mb4")


@contextlib.contextmanager
def _new_database() -> Iterator[str]:
    """A database that did not exist before and does not afterwards."""
    from django.db import connection

    name = f"boxoffice_workload_{secrets.token_hex(4)}"
    _create(name, new=True)
    try:
        yield name
    finally:
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"DROP DATABASE {connection.ops.quote_name(name)}")


def _workload() -> int:
    with _new_database() as name:
        process = subprocess.Popen(
            [sys.executable, "-m", "demo_site.workload"],
            env={**os.environ, "DEMO_DB_NAME": name},
            start_new_session=True,  # Ctrl-C is for us alone: we stop it, and wait until it has stopped its own
        )
        try:
            return process.wait()
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def _prepare_site() -> None:
    from django.core.management import call_command
    from django.db import connection
    from django.db.utils import DatabaseError

    try:
        connection.ensure_connection()
    except DatabaseError:
        _create(connection.settings_dict["NAME"], new=False)
    call_command("migrate", verbosity=0)
    call_command("load_demo")
    connection.close()


def run() -> int:
    serve = os.environ.get("SERVE", "1") != "0"
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(listen(_port())) if serve else None  # before anything slow: the port may be in use
        run_dir = Path(os.environ.get("DEMO_RUN_DIR") or Path(__file__).resolve().parent.parent / ".run")
        _start_servers(stack, run_dir)
        scheme = os.environ.pop("DEMO_SCHEME", "pooling")
        os.environ.update(DJANGO_SETTINGS_MODULE="demo_site.settings", DEMO_SCHEME="thread")  # for this process
        import django

        django.setup()
        _prepare_site()
        status = _workload() if os.environ.get("WORKLOAD", "1") != "0" else 0
        if sock is None:
            return status
        with WebServer(sock, scheme, env={}) as web:
            print(f"\nThe box office is open at http://{HOST}:{web.port}/ – Ctrl-C ends it.", flush=True)
            assert web.process is not None
            ended = web.process.wait()
        raise WebError(f"The site ended by itself with status {ended}. Its messages are above.")


def main() -> int:
    signal.signal(signal.SIGTERM, _on_sigterm)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with it ignored
    try:
        return run()
    except KeyboardInterrupt:
        print("\nStopped.", flush=True)
        return 0
    except (ServerError, WebError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
