"""Interpreters of this machine, and environments with a chosen Django made from them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .debian import NotFound

ROOT = Path(__file__).resolve().parent.parent.parent
REQUIREMENTS = ROOT / "requirements-dev.txt"


def _pyenv() -> Iterator[Path]:
    roots = [os.environ.get("PYENV_ROOT"), str(Path.home() / ".pyenv")]
    if tool := shutil.which("pyenv"):
        roots.append(subprocess.run([tool, "root"], capture_output=True, text=True).stdout.strip())
    yield from (Path(root) / "versions" for root in roots if root)


def _candidates(version: str) -> Iterator[str]:
    names = (f"python{version}", "python3", "python")
    yield from (found for name in names if (found := shutil.which(name)))
    for folder in _pyenv():
        for path in sorted(folder.glob(f"{version}.*/bin/python"), reverse=True):
            yield str(path)


def interpreter(version: str) -> str:
    """Path of a Python of that version (``3.12``): by name, on PATH, or one of pyenv's. NotFound if there is none."""
    question = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    for candidate in _candidates(version):
        done = subprocess.run([candidate, "-c", question], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip() == version:
            return candidate
    raise NotFound(f"there is no Python {version} with venv on PATH or among pyenv's")


def environment(python: str, django: str, folder: Path) -> Path:
    """The interpreter of an environment below ``folder`` with what the tests need, made once; else NotFound."""
    base = interpreter(python)
    target = folder / f"py{python}-django{django}"
    stamp = target / "requirements.stamp"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    own = target / "bin" / "python"
    if stamp.exists() and stamp.read_text() == wanted:
        return own
    _run([base, "-m", "venv", "--clear", str(target)])
    pip = [str(own), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    _run([*pip, "-r", str(REQUIREMENTS), f"Django=={django}.*"])
    stamp.write_text(wanted)
    return own


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise NotFound(f"{' '.join(command[:4])} … failed: {done.stderr.strip().splitlines()[-1:]}")
