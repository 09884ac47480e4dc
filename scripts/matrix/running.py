"""One combination: its servers and its environment, the project's tests, and Django's.

What passed is not run again as long as no file of the project changes; so a run that was interrupted goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts import suite_outcome

from . import debian, pythons
from .combinations import LABELS, SERVERS, Combination

ROOT = pythons.ROOT
FOLDER = ROOT / ".run" / "matrix"
_CODE = ("pooling", "demo_site", "tests", "benchmarks", "scripts", "requirements-dev.txt", "pyproject.toml", "setup.py")


@dataclass(frozen=True)
class Result:
    """The counts of one run of tests; ``before`` says that they are of an earlier run of this same code."""

    run: int
    failed: int
    skipped: int
    complete: bool
    before: bool = False

    @property
    def good(self) -> bool:
        return self.complete and self.run > 0 and not self.failed

    def __str__(self) -> str:
        text = f"{self.run - self.failed - self.skipped} passed"
        text += f", {self.failed} failed" if self.failed else ""
        text += f", {self.skipped} skipped" if self.skipped else ""
        return text + ("" if self.complete else ", ended early") + (" (before)" if self.before else "")


def program(name: str) -> Path:
    """The program of a server, unpacked if need be. NotFound if it cannot be had."""
    server = SERVERS[name]
    if server.release:
        return debian.unpack(server.release, server.packages, FOLDER / "servers" / name) / "root" / server.program
    found = shutil.which(server.program) or shutil.which(server.program, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise debian.NotFound(f"{server.program} is not installed")
    return Path(found)


def version(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def fingerprint() -> str:
    """Changes with any file that can decide about a test."""
    digest = hashlib.sha256()
    for name in _CODE:
        top = ROOT / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and path.suffix != ".pyc":
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def project_tests(python: Path, environment: Mapping[str, str], log: Path) -> Result:
    """The project's own tests."""
    report = log.with_suffix(".xml")
    report.unlink(missing_ok=True)
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    with open(log, "wb") as out:
        code = subprocess.run(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT).returncode
    if not report.exists():
        return Result(0, 0, 0, complete=False)
    suite = next(ElementTree.parse(report).iter("testsuite"))
    run, failures, errors, skipped = (int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped"))
    return Result(run, failures + errors, skipped, complete=code in (0, 1))


def django_tests(python: Path, environment: Mapping[str, str], log: Path) -> Result:
    """Django's own tests of `LABELS` on the pooled backend."""
    with open(log, "wb") as out:
        command = [str(python), "-m", "scripts.django_suite", *LABELS]
        subprocess.run(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
    outcome = suite_outcome.read(log.read_text(errors="replace"))
    return Result(outcome.run, outcome.failed, outcome.skipped, outcome.complete)


PARTS: dict[str, Callable[[Path, Mapping[str, str], Path], Result]] = {"tests": project_tests, "django": django_tests}


@dataclass(frozen=True)
class Row:
    """One line of the table: what really ran, and what came of it."""

    database: str
    store: str
    python: str
    django: str
    results: dict[str, Result]


def run(combination: Combination, parts: list[str], *, again: bool, say: Callable[[str], None]) -> Row:
    """Run the parts of a combination that have not passed yet. NotFound if something of it cannot be had."""
    database, store = program(combination.database), program(combination.store)
    python = pythons.environment(combination.python, combination.django, FOLDER / "environments")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POOLING_")}
    environment |= {"POOLING_DB_PROGRAM": str(database), "POOLING_REDIS_PROGRAM": str(store)}
    logs = FOLDER / "results"
    logs.mkdir(exist_ok=True)
    code = fingerprint()
    results = {}
    for part in parts:
        kept = logs / f"{combination.name}-{part}.json"
        known = json.loads(kept.read_text()) if kept.exists() else {}
        if known.get("code") == code and not again:
            results[part] = Result(**known["result"], before=True)
            continue
        log = kept.with_suffix(".log")
        say(f"{combination.name}: {part}; its output is in {log.relative_to(ROOT)}")
        results[part] = PARTS[part](python, environment, log)
        say(f"{combination.name}: {part}: {results[part]}")
        if results[part].good:
            counts = {name: value for name, value in asdict(results[part]).items() if name != "before"}
            kept.write_text(json.dumps({"code": code, "result": counts}))
    return Row(
        database=f"{combination.database.partition('-')[0]} {_number([str(database), '--no-defaults', '--version'])}",
        store=f"{combination.store.partition('-')[0]} {_number([str(store), '--version'])}",
        python=version([str(python), "-c", "import platform; print(platform.python_version())"]),
        django=version([str(python), "-c", "import django; print(django.__version__)"]),
        results=results,
    )


def _number(command: list[str]) -> str:
    words = version(command).replace("v=", "").split()
    return next((word.partition("-")[0] for word in words if word[0].isdigit() and "." in word), "?")
