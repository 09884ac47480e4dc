"""``manage.py lab``: a run of the lab at a terminal, on private servers, or on those that DATABASE_URL and REDIS_URL
name."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from argparse import ArgumentParser
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from demo_site import run as demo
from demo_site.client import MIX
from demo_site.lab import records
from demo_site.lab.plan import Plan, known
from demo_site.lab.run import EVENTS, OUTPUT, Busy, start
from demo_site.own_servers import UsageError
from demo_site.servers import ServerError


class Command(BaseCommand):
    help = "Measure the demo site under several schemes, over HTTP, each in a database of its own."
    requires_system_checks = ()  # those of models ask the database, and there is none yet

    def add_arguments(self, parser: ArgumentParser) -> None:
        default = Plan()
        parser.add_argument("schemes", nargs="*", help=f"of {', '.join(known())}; without any, the four of the demo")
        parser.add_argument("--visitors", type=int, default=default.visitors)
        parser.add_argument("--connections", type=int, default=default.connections, help="that a pool may use")
        parser.add_argument("--seconds", type=float, default=default.seconds, help="for each scheme")
        parser.add_argument("--latency", type=float, default=default.latency, help="ms added to each round trip")
        parser.add_argument("--mix", default=",".join(f"{name}={weight}" for name, weight in MIX.items()))
        parser.add_argument("--json", action="store_true", help="print every event as a line of JSON instead")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            plan = Plan(
                schemes=tuple(options["schemes"]) or Plan().schemes,
                visitors=options["visitors"],
                connections=options["connections"],
                seconds=options["seconds"],
                latency=options["latency"],
                mix=Plan.parse_mix(options["mix"]),
            )
        except ValueError as error:
            raise CommandError(str(error)) from None
        with ExitStack() as stack:
            if not os.environ.get("DATABASE_URL") and not os.environ.get("POOLING_DB_HOST"):
                try:
                    with redirect_stdout(sys.stderr):  # what is measured is all that goes to the output
                        demo.start_in_a_folder(stack)
                except (UsageError, ServerError) as error:
                    raise CommandError(str(error)) from None
            folder = Path(os.environ.get("DEMO_RUN_DIR") or settings.RUN_DIR) / "lab"
            try:
                mine, process = start(plan, folder)
            except Busy as error:
                raise CommandError(str(error)) from None
            try:
                self._follow(process, mine, as_json=options["json"])
            except KeyboardInterrupt:
                raise CommandError("Stopped.", returncode=130) from None
            finally:
                process.terminate()
                process.wait()
        run = records.read(mine)
        if not run.ended:
            output = (mine / OUTPUT).read_text(errors="replace").strip()
            raise CommandError(f"{run.now} {output}".strip())
        if not options["json"]:
            self._table(run)

    def _follow(self, process: subprocess.Popen[bytes], folder: Path, *, as_json: bool) -> None:
        shown, said = 0, ""
        while True:
            ended = process.poll() is not None  # before the look: what came last is seen as well
            run = records.read(folder)
            if as_json:
                events = folder / EVENTS
                lines = events.read_text().splitlines(keepends=True) if events.exists() else []
                whole = [line for line in lines if line.endswith("\n")]
                for line in whole[shown:]:
                    self.stdout.write(line, ending="")
                shown = len(whole)
            elif run.now != said and not run.died:
                said = run.now
                self.stderr.write(f"{round(100 * run.progress):3d} % {said}")
            if ended:
                return
            time.sleep(0.2)

    def _table(self, run: records.Run) -> None:
        for scheme in run.schemes:
            result = scheme.result
            if result is None:
                continue
            wrong = ", ".join(scheme.went_wrong) or "nothing went wrong"
            self.stdout.write(
                f"{scheme.title:26} {result['rate']:7.0f} answers/s  p50 {_ms(scheme.p50)}  p99 {_ms(scheme.p99)}  "
                f"{result['connections']:3d} connections  {wrong}"
            )
            for who, whom, number in scheme.waits[:3]:
                self.stdout.write(f"{'':26} {number:7.1f} × {who} waits for {whom}")


def _ms(value: float | None) -> str:
    return f"{'–':>11}" if value is None else f"{value:8.1f} ms"
