"""Servers that load the site, use its pool, and fork: nobody may speak on the sessions of the process before."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import urllib.request
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from demo_site.servers import free_port

from .conftest import until

Sessions = Callable[[], set[int]]


def fetch(port: int) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except OSError:
        return None


def ask_all(port: int, program: Any, workers: int, without: set[int] = frozenset()) -> list[dict[str, Any]]:  # type: ignore[assignment]
    """Answers of at least so many workers that are not among ``without``."""
    answers: list[dict[str, Any]] = []

    def enough() -> bool:
        program.runs()
        with ThreadPoolExecutor(8) as executor:
            answers.extend(found for found in executor.map(lambda _: fetch(port), range(16)) if found)
        return len({found["pid"] for found in answers} - without) >= workers

    until(enough, program.output)
    return answers


def told_apart(answers: list[dict[str, Any]], alive: set[int]) -> dict[int, set[int]]:
    """No session in two processes, none of the parent's in a worker, and the parent's are still there."""
    by_worker: dict[int, set[int]] = {}
    for found in answers:
        assert found["pid"] != found["made_by"]
        assert found["session"] not in found["parent"]
        assert found["size"] <= 3
        by_worker.setdefault(found["pid"], set()).add(found["session"])
    numbers = [number for numbers in by_worker.values() for number in numbers]
    assert len(set(numbers)) == len(numbers), by_worker
    assert set(answers[0]["parent"]) <= alive
    return by_worker


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


GUNICORN = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--graceful-timeout", "5"]
SERVERS = {
    "gunicorn": [*GUNICORN, "--worker-class", "sync", "--bind", "127.0.0.1:{port}", "tests.concurrency.site"],
    "gunicorn threads": [*GUNICORN, "--threads", "4", "--bind", "127.0.0.1:{port}", "tests.concurrency.site"],
    "uwsgi": [
        str(Path(sys.executable).parent / "pyuwsgi"),
        *("--http-socket", "127.0.0.1:{port}", "--module", "tests.concurrency.site:application", "--need-app"),
        *("--master", "--processes", "2", "--threads", "2", "--enable-threads", "--die-on-term"),
    ],
}


@pytest.mark.parametrize("name", SERVERS)
def test_workers_of_a_preloaded_site(run: Callable[..., Any], sessions: Sessions, name: str) -> None:
    port = free_port()
    program = run(*[part.format(port=port) for part in SERVERS[name]])
    answers = ask_all(port, program, workers=2)
    workers = told_apart(answers, sessions())
    # One dies, another takes its place; the parent's sessions outlive both ways to end.
    first, second = list(workers)[:2]
    kill(first)
    later = ask_all(port, program, workers=2, without={first})
    told_apart(later, sessions())
    until(lambda: not workers[first] & sessions())
    os.kill(second, signal.SIGTERM)
    later = ask_all(port, program, workers=2, without={first, second})
    told_apart(later, sessions())
    program.end()
    everybody = {number for found in [*answers, *later] for number in [found["session"], *found["parent"]]}
    until(lambda: not everybody & sessions())


def test_a_prefork_worker_of_celery(run: Callable[..., Any], sessions: Sessions, monkeypatch: Any) -> None:
    """Celery's own fixup for Django closes file descriptors after the fork, and the pool after every task."""
    monkeypatch.setenv("TEST_QUEUE", f"queue-{uuid.uuid4().hex}")
    from .queue import app, report

    try:
        command = ["-m", "celery", "-A", "tests.concurrency.queue", "worker", "--pool=prefork", "--concurrency=2"]
        program = run(sys.executable, *command, "--without-mingle", "--without-gossip", TEST_PRELOAD="1")
        answers: list[dict[str, Any]] = []

        def both() -> bool:
            program.runs()
            answers.extend([result.get(timeout=60) for result in [report.delay() for _ in range(8)]])
            return len({found["pid"] for found in answers}) == 2

        until(both, program.output)
        told_apart(answers, sessions())
        numbers = {found["session"] for found in answers}
        assert len(numbers) == len(answers)  # closed after each task: a new one for the next
        until(lambda: not numbers & sessions())
        kill(answers[0]["pid"])
        until(lambda: program.runs() and report.delay().get(timeout=60)["pid"] != answers[0]["pid"], program.output)
        assert set(answers[0]["parent"]) <= sessions()
        program.end()
        until(lambda: not set(answers[0]["parent"]) & sessions())
    finally:
        app.close()
        sys.modules.pop("tests.concurrency.queue", None)


assert shutil.which(SERVERS["uwsgi"][0]), "pyuwsgi is not installed: pip install -r requirements-dev.txt"
