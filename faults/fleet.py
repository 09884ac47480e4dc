"""The worker processes, as the nemesis sees them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .history import Event, History

DEADLINE = 30.0  # seconds, for what must happen soon
ABORT_SECONDS = 5.0


class Process:
    """One worker, ``python -m`` ``module``. ``number`` is its lane; a successor after a kill has the same lane and
    another ``name``."""

    def __init__(
        self, number: int, name: str, module: str, seed: str, lease: float, env: Mapping[str, str], history: History
    ) -> None:
        self.number = number
        self._history = history
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, name, seed, str(lease)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **env},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def tell(self, **told: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(told).encode() + b"\n")
        self._process.stdin.flush()

    def stop_at(self, point: str, seconds: float) -> bool:
        """Have it stand still at this point; False if it did not get there in time."""
        asked = time.monotonic()
        self.tell(stop=point)

        def stopped() -> bool:
            return self._history.since(self.number, "stopped", asked)

        def gave_up() -> bool:
            heard = self._history.latest(self.number, "heard")
            return heard is not None and heard.time > asked and heard.detail["told"] == {"stop": ""}

        if not self._history.wait(stopped, seconds):
            # Until it has heard that it need not, it may still come to the point, and would stand there for ever.
            self.tell(stop="")
            self._history.wait(lambda: stopped() or gave_up(), DEADLINE)
            if not stopped():
                return False
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)
        return True

    def stop(self) -> None:
        """Have it stand still wherever it is."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """kill -9; what it has said until then is in the history when this returns."""
        self._process.kill()
        self._process.wait()
        self._reader.join(DEADLINE)

    def end(self) -> str:
        """Have it finish its transfer and end; what was wrong with that, "" for nothing."""
        self.tell(end=True)
        try:
            code = self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            for number in (signal.SIGABRT, signal.SIGCONT):  # it says on its error output where its threads are
                self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(ABORT_SECONDS)
            self.kill()
            return f"worker {self.number} did not end"
        self._reader.join(DEADLINE)
        return f"worker {self.number} ended with {code}" if code else ""

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            moment, transfer, point = said.pop("time") / 1e9, said.pop("transfer"), said.pop("point")
            self._history.add(Event(moment, self.number, transfer, point, said))


class Fleet:
    """A worker for each of ``envs``, which is what it finds in its environment besides ours; ``module`` runs it."""

    def __init__(
        self, seed: str, envs: Sequence[Mapping[str, str]], history: History, module: str = "faults.worker"
    ) -> None:
        self.size = len(envs)
        self.history = history
        self._seed = seed
        self._envs = envs
        self._module = module
        self._started = [0] * self.size
        self.processes: list[Process] = []

    def start(self, lease: float) -> None:
        self.processes = [self._new(number, lease) for number in range(self.size)]

    def replace(self, process: Process, lease: float) -> None:
        """Kill it, and start another in its lane."""
        process.kill()
        self.processes[process.number] = self._new(process.number, lease)

    def tell(self, **told: Any) -> None:
        for process in self.processes:
            process.tell(**told)

    def all_since(self, point: str, moment: float, seconds: float) -> list[int]:
        """Wait until each has reached the point after this moment; those who have not in time."""

        def missing() -> list[int]:
            return [number for number in range(self.size) if not self.history.since(number, point, moment)]

        self.history.wait(lambda: not missing(), seconds)
        return missing()

    def end(self) -> list[str]:
        """What was wrong with the end of each, in words."""
        return [wrong for process in self.processes if (wrong := process.end())]

    def kill(self) -> None:
        for process in self.processes:
            process.kill()

    def _new(self, number: int, lease: float) -> Process:
        self._started[number] += 1
        name = f"{number}.{self._started[number]}"
        return Process(number, name, self._module, self._seed, lease, self._envs[number], self.history)
