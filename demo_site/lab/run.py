"""``python -m demo_site.lab.run FOLDER``: carries out the plan in ``FOLDER/plan.json``, writes what happens to
``FOLDER/events.jsonl`` as it happens, and prints a table at the end.

Everything in there was measured: the site under gunicorn, over HTTP, in a database of its own, which is dropped
afterwards. It ends when whoever started it has gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from demo_site import own_servers, people
from demo_site.client import Visitor
from demo_site.lab.plan import Plan

EVENTS = "events.jsonl"
Say = Callable[[dict[str, Any]], None]


class Busy(RuntimeError):
    """Another run is under way on this machine; two at once would measure each other."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """The only run of this checkout. Busy if there is one already."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy("A run is under way already. Wait until it has ended.") from None
        yield


def carry_out(plan: Plan, folder: Path, say: Say) -> None:
    """Run ``plan`` in a database of its own. Django must not be set up yet: its settings are made here."""
    name = f"{own_servers.WORKLOAD}{secrets.token_hex(4)}"
    os.environ.update(DEMO_DB_NAME=name, DEMO_SCHEME="thread", DJANGO_SETTINGS_MODULE="demo_site.settings")
    os.environ["DEMO_CONNECTIONS"] = str(plan.connections)
    import django

    django.setup()
    from django.db import connection

    from demo_site.run import _create

    _create(name, new=True)
    try:
        _measure_all(plan, folder, name, say)
    finally:
        connection.close()
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"DROP DATABASE {connection.ops.quote_name(name)}")


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
    """The exit status: 0, 1 when the run failed (its last event says why), 2 when there is another one."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    folder = Path(sys.argv[1])
    plan = Plan.from_json(json.loads((folder / "plan.json").read_text()))
    with open(folder / EVENTS, "a", buffering=1) as out:

        def say(event: dict[str, Any]) -> None:
            out.write(json.dumps(event) + "\n")

        try:
            with alone(folder.parent):
                carry_out(plan, folder, say)
        except Busy as error:
            say({"kind": "failed", "why": str(error)})
            return 2
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
