"""``python -m demo_site.run``: private servers, the workload's table, and then the site until Ctrl-C.

PORT (8000) is where it serves; SERVE=0 ends after the table; WORKLOAD=0 leaves the table out. DATABASE_URL and
REDIS_URL name servers of your own instead of private ones; that database must be empty, or the demo's from before.
The workload gets a new database there, dropped afterwards. DEMO_RUN_DIR (.run) is where the data of private servers is.
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

from demo_site import database_url, own_servers
from demo_site.own_servers import UsageError
from demo_site.servers import FolderTaken, PrivateRedis, ServerError, private_database
from demo_site.web import HOST, WebError, WebServer, listen

RUN_DIR = Path(__file__).resolve().parent.parent / ".run"
MOST_DEMOS = 9  # of one checkout at the same time


class Stop(SystemExit):
    """SIGTERM."""


class Closed(KeyboardInterrupt):
    """Ctrl-C while the site was open, which is how it is meant to end."""


def _on_signal(number: int, frame: FrameType | None) -> None:
    for known in (signal.SIGINT, signal.SIGTERM):
        signal.signal(known, signal.SIG_IGN)  # a second one must not interrupt what the first one stops
    raise KeyboardInterrupt if number == signal.SIGINT else Stop(128 + number)


def _port() -> int:
    text = os.environ.get("PORT") or "8000"
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise UsageError(f"PORT must be a number from 1 to 65535, not {text!r}.")
    return int(text)


def _start_servers(stack: contextlib.ExitStack, run_dir: Path) -> None:
    with contextlib.ExitStack() as started:  # both or none
        if not os.environ.get("DATABASE_URL"):
            database = started.enter_context(private_database(run_dir))
            os.environ.update(
                POOLING_DB_HOST=database.host,
                POOLING_DB_PORT=str(database.port),
                POOLING_DB_USER=database.user,
                POOLING_DB_PASSWORD=database.password,
            )
            print(f"{database.label} on {database.host}:{database.port}", flush=True)
        if not os.environ.get("REDIS_URL"):
            redis = started.enter_context(PrivateRedis(run_dir / "redis"))
            os.environ["POOLING_REDIS_URL"] = redis.url
            print(f"Redis on {redis.host}:{redis.port}", flush=True)
        stack.enter_context(started.pop_all())


def start_in_a_folder(stack: contextlib.ExitStack) -> None:
    """In DEMO_RUN_DIR; without it in .run, or beside another demo in .run/2, .run/3, … of the same checkout."""
    if os.environ.get("DEMO_RUN_DIR"):
        try:
            return _start_servers(stack, Path(os.environ["DEMO_RUN_DIR"]))
        except FolderTaken as error:
            raise UsageError(f"{error} To choose: DEMO_RUN_DIR=/path/to/another/folder.") from None
    folders = [RUN_DIR, *(RUN_DIR / str(number) for number in range(2, MOST_DEMOS + 1))]
    for run_dir in folders:
        try:
            _start_servers(stack, run_dir)
        except FolderTaken:
            continue
        os.environ["DEMO_RUN_DIR"] = str(run_dir)
        if run_dir != RUN_DIR:
            print(f"Another demo runs here, so this one has its own data, in {run_dir}", flush=True)
        return None
    raise UsageError(f"{MOST_DEMOS} demos run here already. Stop one, or type DEMO_RUN_DIR=/path/to/another/folder.")


def create_database(name: str, *, new: bool) -> None:
    from django.db import connection

    with connection._nodb_cursor() as cursor:
        quoted = connection.ops.quote_name(name)
        cursor.execute(f"CREATE DATABASE {'' if new else 'IF NOT EXISTS '}{quoted} CHARACTER SET utf8mb4")


@contextlib.contextmanager
def _new_database() -> Iterator[str]:
    """A database that did not exist before and does not afterwards."""
    from django.db import connection

    name = f"{own_servers.WORKLOAD}{secrets.token_hex(4)}"
    create_database(name, new=True)
    try:
        yield name
    finally:
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"DROP DATABASE {connection.ops.quote_name(name)}")


def _workload(name: str) -> int:
    process = subprocess.Popen(
        [sys.executable, "-m", "demo_site.workload"],
        env={**os.environ, "DEMO_DB_NAME": name},
        start_new_session=True,  # Ctrl-C is for us alone: we stop it, and wait until it has stopped its own
    )
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
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
        create_database(connection.settings_dict["NAME"], new=False)
    call_command("migrate", verbosity=0)
    call_command("load_demo")
    connection.close()


@contextlib.contextmanager
def _said_in_one_line() -> Iterator[None]:
    """What a server of the user's own refuses is no fault of the demo: a line about DATABASE_URL, no traceback."""
    from django.db.utils import DatabaseError

    try:
        yield
    except DatabaseError as error:
        url = os.environ.get("DATABASE_URL")
        if not url:
            raise
        raise UsageError(own_servers.explain(database_url.parse(url), error)) from None


def run() -> int:
    serve = os.environ.get("SERVE", "1") != "0"
    work = os.environ.get("WORKLOAD", "1") != "0"
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(listen(_port())) if serve else None  # before anything slow: the port may be in use
        if os.environ.get("DATABASE_URL"):
            print(own_servers.check_database(os.environ["DATABASE_URL"]), flush=True)
        if os.environ.get("REDIS_URL"):
            own_servers.check_redis(os.environ["REDIS_URL"])
        start_in_a_folder(stack)
        scheme = os.environ.pop("DEMO_SCHEME", "pooling_redis")  # as a fleet would run it
        os.environ.update(DJANGO_SETTINGS_MODULE="demo_site.settings", DEMO_SCHEME="thread")  # for this process
        import django

        django.setup()
        status = 0
        with _said_in_one_line(), contextlib.ExitStack() as temporary:
            # First, so that a user who may not make it has nothing half done.
            name = temporary.enter_context(_new_database()) if work else ""
            _prepare_site()
            if work:
                status = _workload(name)
        if sock is None:
            return status
        from demo_site.lab.run import stop

        stack.callback(stop, Path(os.environ["DEMO_RUN_DIR"]) / "lab")  # while there is a server to drop its data from
        with WebServer(sock, scheme, env={}) as web:
            assert web.process is not None
            try:
                print(f"\nThe box office is open at http://{HOST}:{web.port}/ – Ctrl-C ends it.", flush=True)
                ended = web.process.wait()
            except KeyboardInterrupt:
                raise Closed from None
        raise WebError(f"The site ended by itself with status {ended}. Its messages are above.")


def main() -> int:
    """The exit status: 2 for what was given wrongly, 130 and 143 when a signal ended it before the site was open."""
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell that starts background jobs ignores SIGINT
        signal.signal(number, _on_signal)
    try:
        return run()
    except KeyboardInterrupt as stop:
        print("\nStopped.", flush=True)
        return 0 if isinstance(stop, Closed) else 128 + signal.SIGINT
    except Stop as stop:
        print("\nStopped.", flush=True)
        return int(str(stop.code))
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except (ServerError, WebError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
