"""Programs in processes of their own: monkey patching, prefork servers and task queues change a whole process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import MySQLdb
import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds; only a test that hangs ever waits for so long


def until(condition: Callable[[], Any], what: Callable[[], str] = str) -> Any:
    """Poll until the condition gives something true, which is returned; else fail with what ``what`` says."""
    end = time.monotonic() + PATIENCE
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"it did not come true in time {what()}"
        time.sleep(0.01)


class Program:
    """A process group that runs a command from the root of the checkout; its output is kept."""

    def __init__(self, *command: str, **env: str) -> None:
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `end`
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "tests.concurrency.settings", **env},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def output(self) -> str:
        self._output.seek(0)
        return self._output.read()

    def runs(self) -> bool:
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output()}"
        return True

    def done(self) -> str:
        """Wait for its end; it must be a good one."""
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler says where each thread stands
            self.process.wait(PATIENCE)
            raise AssertionError(f"it hangs:\n{self.output()}") from None
        assert code == 0, self.output()
        return self.output()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)  # what it left behind
        except ProcessLookupError:
            pass
        self.process.wait()
        self._output.close()


@pytest.fixture
def run() -> Iterator[Callable[..., Program]]:
    """Starts programs that are ended with the test."""
    programs: list[Program] = []

    def start(*command: str, **env: str) -> Program:
        programs.append(Program(*command, **env))
        return programs[-1]

    yield start
    for program in programs:
        program.end()


@pytest.fixture
def python(run: Callable[..., Program]) -> Callable[..., Program]:
    return lambda *arguments, **env: run(sys.executable, "-X", "faulthandler", *arguments, **env)


@pytest.fixture
def sessions() -> Iterator[Callable[[], set[int]]]:
    """The numbers of the server's sessions, but for the one that asks."""
    asking = MySQLdb.connect(
        host=os.environ["POOLING_DB_HOST"],
        port=int(os.environ["POOLING_DB_PORT"]),
        user=os.environ["POOLING_DB_USER"],
        password=os.environ["POOLING_DB_PASSWORD"],
        autocommit=True,
    )

    def numbers() -> set[int]:
        cursor = asking.cursor()
        cursor.execute("SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID()")
        return {row[0] for row in cursor.fetchall()}

    yield numbers
    asking.close()
