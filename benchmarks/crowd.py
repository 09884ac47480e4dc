"""Many ask for a page that is not there, beside the peers: ``python -m benchmarks.crowd``.

Two processes of 16 threads ask at the same moment for one page that takes 100 ms to make. How often it was made, and
when the last of them had an answer; once of a page that may be kept, and once of one that may not, which has been asked
for before. Each round has keys of its own, on a Redis of its own on loopback.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from typing import Any

from demo_site.servers import PrivateRedis

from . import report, timing
from .crowd_site import CACHE_PAGE, CACHEOPS, DOGPILE, POOLING, WORK

PROCESSES, THREADS = 2, 16
PEERS = {POOLING: "pooling", CACHE_PAGE: "django_redis", CACHEOPS: "cacheops", DOGPILE: "dogpile"}
KEEPS_ALL = (CACHEOPS,)  # cannot be told not to keep an answer
SOON = 0.3  # seconds until they begin: by then all threads wait for it


class Crowd:
    """The processes of one peer."""

    def __init__(self, kind: str, url: str) -> None:
        command = [sys.executable, "-m", "benchmarks.crowd_site", kind, url, str(THREADS)]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._processes = [subprocess.Popen(command, **pipes) for _ in range(PROCESSES)]
        for process in self._processes:
            self._hear(process)

    def ask(self, key: str, *, private: bool) -> tuple[int, float]:
        """How often the page was made, and seconds until the last answer."""
        told = json.dumps({"key": key, "at": time.monotonic() + SOON, "private": private})
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(told + "\n")
            process.stdin.flush()
        said = [json.loads(self._hear(process)) for process in self._processes]
        return sum(one["runs"] for one in said), max(one["last"] for one in said)

    def end(self) -> None:
        for process in self._processes:
            process.communicate()

    def _hear(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"A process of the crowd ended with {process.wait()}.")
        return line


def run(rounds: int) -> report.Table:
    about = (
        f"{PROCESSES} processes of {THREADS} threads ask at once for a page that takes {WORK * 1000:.0f} ms to make, "
        f"median of {rounds} interleaved rounds."
    )
    table = report.Table(
        about, ["", "made", "last answer, ms", "not to be kept: made", "last answer, ms"], title="A crowd on one page"
    )
    kinds = [kind for kind, module in PEERS.items() if find_spec(module) is not None]
    table.absent += [f"{kind}: not installed" for kind in PEERS if kind not in kinds]
    made: timing.Rounds = {kind: [] for kind in kinds}
    last: timing.Rounds = {kind: [] for kind in kinds}
    made_private: timing.Rounds = {kind: [] for kind in kinds if kind not in KEEPS_ALL}
    last_private: timing.Rounds = {kind: [] for kind in made_private}
    numbers = itertools.count()
    with tempfile.TemporaryDirectory(prefix="pooling-bench-") as folder, PrivateRedis(folder) as server:
        crowds = {kind: Crowd(kind, server.url) for kind in kinds}

        def once(kind: str) -> None:
            runs, seconds = crowds[kind].ask(f"cold{next(numbers)}", private=False)
            made[kind].append(runs)
            last[kind].append(seconds)
            if kind in made_private:
                key = f"private{next(numbers)}"
                crowds[kind].ask(key, private=True)  # whoever learns from it that it is not to be kept has learnt it
                runs, seconds = crowds[kind].ask(key, private=True)
                made_private[kind].append(runs)
                last_private[kind].append(seconds)

        try:
            for crowd in crowds.values():
                crowd.ask("warm", private=False)  # connections, scripts
            timing.interleaved(kinds, rounds, once)
        finally:
            for crowd in crowds.values():
                crowd.end()
    for kind in kinds:
        cells = [kind, f"{statistics.median(made[kind]):g}", f"{statistics.median(last[kind]) * 1000:.0f}"]
        if kind in made_private:
            seconds = statistics.median(last_private[kind])
            cells += [f"{statistics.median(made_private[kind]):g}", f"{seconds * 1000:.0f}"]
        else:
            cells += ["keeps it", ""]
        table.rows.append(cells)
    table.bars = [
        report.Bar("made, at most in any round", max(made[POOLING]), 1, unit=""),
        report.Bar("last answer beside making the page once", statistics.median(last[POOLING]) / WORK, 1.6),
        report.Bar("the same, not to be kept", statistics.median(last_private[POOLING]) / WORK, 2),
    ]
    table.compare("The last answer of a crowd", "s", last)
    table.compare("The last answer of a crowd, not to be kept", "s", last_private)
    return table


if __name__ == "__main__":
    report.main(run, 5, __doc__)
