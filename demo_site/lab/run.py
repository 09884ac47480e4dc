"""A run of the lab. `start` gives it a folder and a process of its own, which carries out ``plan.json`` in there and
writes what happens to ``events.jsonl`` as it happens.

Everything in there was measured: the site under gunicorn, over HTTP, in a database of its own, which is dropped
afterwards. The process ends when whoever started it has gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any

from demo_site import own_servers, people
from demo_site.client import Visitor
from demo_site.lab.plan import Plan

EVENTS = "events.jsonl"
OUTPUT = "output.log"
_DATABASE = "database"  # the name of the run's own, for as long as there is one
STOPPING = "stopping"  # is there when somebody has asked for its end
_ALIVE = "alive"  # locked for as long as the run's process lives
NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
Say = Callable[[dict[str, Any]], None]


class Busy(RuntimeError):
    """Another run is under way; two at once would measure each other."""


def _take(folder: Path) -> IO[str]:
    """The lock of the only run in ``folder``: held until all who have inherited the file have closed it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = open(folder / "lock", "a+")  # noqa: SIM115 - the caller's
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise Busy("Another run is under way. Start yours when it has ended.") from None
    return lock


def start(plan: Plan, folder: Path) -> tuple[Path, subprocess.Popen[bytes]]:
    """Begin a run in a new folder inside ``folder``; that one, and its process. Busy if there is a run already.

    The process inherits the locks, so that there is no moment at which a second run could slip in between.
    """
    with _take(folder) as lock:
        name = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"
        making = folder / f".{name}"
        making.mkdir()
        (making / "plan.json").write_text(json.dumps(plan.to_json()))
        with open(making / _ALIVE, "w") as alive, open(making / OUTPUT, "wb") as out:
            fcntl.flock(alive, fcntl.LOCK_EX)
            mine = making.rename(folder / name)  # whole or not at all: others list the folder meanwhile
            process = subprocess.Popen(
                [sys.executable, "-m", "demo_site.lab.run", str(mine)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=[lock.fileno(), alive.fileno()],
                start_new_session=True,  # Ctrl-C is not for it: it ends with us, by itself, and cleans up before
            )
        lock.truncate(0)
        lock.write(str(process.pid))
    return mine, process


def alive(run: Path) -> bool:
    """Whether the process of the run in this folder lives."""
    with open(run / _ALIVE) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def cancel(run: Path) -> bool:
    """Ask the run in this folder to end: it cleans up, and says so as its last event. False if it is over already."""
    pid = (run.parent / "lock").read_text()  # of the newest run; if this one lives, it is the newest
    if not alive(run) or not pid.isdigit():
        return False
    (run / STOPPING).touch()
    try:
        os.kill(int(pid), signal.SIGTERM)
    except ProcessLookupError:
        return False  # it has just ended
    return True


def stop(folder: Path, seconds: float = 30.0) -> None:
    """End the run in ``folder``, if there is one, and wait until it has cleaned up. TimeoutError when it has not."""
    asked = ""
    end = time.monotonic() + seconds
    while True:
        try:
            _take(folder).close()
            return
        except Busy:
            pid = (folder / "lock").read_text()
        if pid.isdigit() and pid != asked:
            asked = pid
            try:
                os.kill(int(pid), signal.SIGTERM)
            except ProcessLookupError:
                continue  # it has just ended
        if time.monotonic() > end:
            raise TimeoutError(f"The lab's run (process {pid}) has not ended within {seconds:g} s.")
        time.sleep(0.05)


@contextmanager
def _database(folder: Path) -> Iterator[str]:
    """A new database, dropped afterwards with what Redis has under its name, and by the next run where a run was killed
    before it could."""
    from django.core.cache import caches
    from django.db import connection

    from demo_site.run import create_database

    def drop(note: Path) -> None:
        name = note.read_text()
        if name.startswith(own_servers.WORKLOAD):
            with connection._nodb_cursor() as cursor:
                cursor.execute(f"DROP DATABASE IF EXISTS {connection.ops.quote_name(name)}")
            redis = caches["default"].client.get_client()
            for key in redis.scan_iter(match=f"*{name}*", count=1000):
                redis.unlink(key)
        note.unlink()

    for left in folder.parent.glob(f"*/{_DATABASE}"):
        drop(left)
    note = folder / _DATABASE
    note.write_text(connection.settings_dict["NAME"])
    try:
        create_database(connection.settings_dict["NAME"], new=True)
        yield connection.settings_dict["NAME"]
    finally:
        connection.close()
        drop(note)


def carry_out(plan: Plan, folder: Path, say: Say) -> None:
    """Run ``plan`` in a database of its own. Django must not be set up yet: its settings are made here."""
    name = f"{own_servers.WORKLOAD}{secrets.token_hex(4)}"
    os.environ.update(DEMO_DB_NAME=name, DEMO_SCHEME="thread", DJANGO_SETTINGS_MODULE="demo_site.settings")
    os.environ["DEMO_CONNECTIONS"] = str(plan.connections)
    import django

    django.setup()
    with _database(folder):
        _measure_all(plan, folder, name, say)


def _measure_all(plan: Plan, folder: Path, database: str, say: Say) -> None:
    from django.core.management import call_command
    from django.db import connection

    from demo_site.boxoffice import demo_data
    from demo_site.lab.delay import Delay
    from demo_site.lab.watch import Watch
    from demo_site.workload import measure

    call_command("migrate", verbosity=0)
    demo_data.load()
    hot = people.PEOPLE[:6]
    visitors = [Visitor(hot[i % len(hot)], people.PASSWORD, seed=i, mix=plan.mix) for i in range(plan.visitors)]
    settings = connection.settings_dict
    with ExitStack() as stack:
        env = {"DEMO_LAB": "1"}
        if plan.latency:
            way = Delay(settings["HOST"] or "127.0.0.1", int(settings["PORT"] or 3306), plan.latency / 1000)
            env["DEMO_DB_VIA"] = str(stack.enter_context(way).port)
        for scheme in plan.schemes:
            for i, visitor in enumerate(visitors):
                visitor.random.seed(i)  # the same dice for every scheme
            say({"kind": "begins", "scheme": scheme})

            def tick(found: dict[str, Any], scheme: str = scheme) -> None:
                say({"kind": "tick", "scheme": scheme, **found})

            result = measure(
                scheme,
                visitors,
                plan.seconds,
                folder / f"{scheme}.log",
                env=env,
                threads=plan.visitors + 2,  # one for those who look on
                beside=lambda port: Watch(port, visitors, database, tick),
            )
            times = sorted(result.times)
            say(
                {
                    "kind": "result",
                    "scheme": scheme,
                    "rate": len(times) / result.seconds,
                    "p50": times[len(times) // 2] if times else None,
                    "p99": times[len(times) * 99 // 100] if times else None,
                    "connections": result.connections,
                    "errors": dict(result.errors),
                    "done": dict(result.done),
                    "deadlocks": result.deadlocks,
                    "sold_twice": result.sold_twice,
                    "money_lost": str(result.money_lost),
                    "money_astray": str(result.money_astray),
                }
            )


def _end_with(parent: int) -> None:
    """Nobody is left who would look at it, or stop it."""
    while os.getppid() == parent:
        threading.Event().wait(1)
    os.kill(os.getpid(), signal.SIGTERM)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt what the first one stops
    sys.exit(128 + number)


def main() -> int:
    """The exit status: 0, or 1 when the run failed (its last event says why)."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    folder = Path(sys.argv[1])
    plan = Plan.from_json(json.loads((folder / "plan.json").read_text()))
    with open(folder / EVENTS, "a", buffering=1) as out:

        def say(event: dict[str, Any]) -> None:
            out.write(json.dumps(event) + "\n")

        try:
            carry_out(plan, folder, say)
        except SystemExit:
            say({"kind": "failed", "why": "It was stopped."})
            raise
        except Exception as error:
            say({"kind": "failed", "why": f"{type(error).__name__}: {error}"})
            raise
        say({"kind": "ended"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
