"""``manage.py lab``: a run of the lab at a terminal. It needs a database server: ``make demo`` starts one, or
DATABASE_URL names one."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from demo_site.client import MIX
from demo_site.lab import records
from demo_site.lab.plan import Plan, known


class Command(BaseCommand):
    help = "Measure the demo site under several schemes, over HTTP, each in a database of its own."

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
        with tempfile.TemporaryDirectory(prefix="pooling-lab-") as name:
            folder = Path(name) / "run"
            folder.mkdir()
            (folder / "plan.json").write_text(json.dumps(plan.to_json()))
            # In a process of its own, since its settings are others.
            process = subprocess.Popen([sys.executable, "-m", "demo_site.lab.run", str(folder)])
            try:
                self._follow(process, folder, as_json=options["json"])
            finally:
                process.terminate()
                process.wait()
            run = records.read(folder)
        if run.failure:
            raise CommandError(run.failure)
        if not options["json"]:
            self._table(run)

    def _follow(self, process: subprocess.Popen[bytes], folder: Path, *, as_json: bool) -> None:
        shown, said = 0, ""
        while True:
            ended = process.poll() is not None  # before the look: what came last is seen as well
            events = folder / "events.jsonl"
            lines = events.read_text().splitlines() if events.exists() else []
            run = records.read(folder)
            if as_json:
                for line in lines[shown:]:
                    self.stdout.write(line)
                shown = len(lines)
            elif run.now != said:
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
                f"{scheme.title:26} {result['rate']:7.0f} answers/s  p50 {scheme.p50 or 0:8.1f} ms  p99 "
                f"{scheme.p99 or 0:8.1f} ms  {result['connections']:3d} connections  {wrong}"
            )
            for who, whom, number in scheme.waits[:3]:
                self.stdout.write(f"{'':26} {number:7.1f} × {who} waits for {whom}")
