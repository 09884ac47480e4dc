"""Programs of another Debian release, unpacked into a folder: nothing is installed or mounted, and no root is needed.

apt finds the dependencies and fetches them with a state of its own, and `dpkg-deb` unpacks the packages. A program of
a newer release needs that release's C library as well, so each is replaced by a launcher: a small script that calls
the release's own dynamic loader with the folders of its libraries.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_LAUNCHER = """#!/bin/sh
exec {loader} --library-path {libraries} --argv0 "$0" {program} "$@"
"""


class NotFound(Exception):
    """The packages cannot be had here; the message says why."""


def unpack(release: str, packages: tuple[str, ...], target: Path) -> Path:
    """Folder with ``packages`` of a Debian release and all that they depend on; made once. NotFound if it cannot be.

    Interrupted, it begins anew at the next call.
    """
    done = target / "complete"
    root = target / "root"
    if done.exists() and done.read_text() == str(root):  # the launchers name it: a folder that was moved is made anew
        return target
    for tool, package in (("apt-get", "apt"), ("dpkg-deb", "dpkg")):
        if shutil.which(tool) is None:
            raise NotFound(f"there is no {tool} (Debian's package {package})")
    if not KEYRING.exists():
        raise NotFound(f"there is no {KEYRING} (Debian's package debian-archive-keyring)")
    shutil.rmtree(target, ignore_errors=True)
    root.mkdir(parents=True)
    for archive in _fetch(release, packages, target / "apt"):
        _run(["dpkg-deb", "-x", str(archive), str(root)])
    shutil.rmtree(target / "apt")
    for folder in ("usr/sbin", "usr/bin"):
        for program in sorted((root / folder).glob("*")):
            if not program.is_symlink() and program.is_file() and _is_binary(program):
                _make_launcher(program, root)
    done.write_text(str(root))
    return target


def _fetch(release: str, packages: tuple[str, ...], state: Path) -> list[Path]:
    for folder in ("lists/partial", "archives/partial", "etc/preferences.d"):
        (state / folder).mkdir(parents=True)
    (state / "status").touch()  # nothing is installed: so that all dependencies come along
    (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {release} main\n")
    options = [
        f"Dir::Etc={state / 'etc'}",
        f"Dir::Etc::sourcelist={state / 'sources.list'}",
        "Dir::Etc::sourceparts=/dev/null",
        f"Dir::State={state}",
        f"Dir::State::status={state / 'status'}",
        f"Dir::Cache={state}",
        "APT::Sandbox::User=",  # or root would fetch as a user that may not write here
        "Acquire::Languages=none",
        "Acquire::Retries=3",
    ]
    apt = ["apt-get", "-qq", *(part for option in options for part in ("-o", option))]
    _run([*apt, "update"])
    _run([*apt, "--yes", "--no-install-recommends", "--download-only", "install", *packages])
    return sorted((state / "archives").glob("*.deb"))


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    if done.returncode:
        raise NotFound(f"{command[0]} {command[-1]} failed: {' '.join(done.stdout.split()[-40:])}")


def _is_binary(program: Path) -> bool:
    with open(program, "rb") as file:
        return file.read(4) == b"\x7fELF"


def _make_launcher(program: Path, root: Path) -> None:
    loaders = sorted((root / "usr").glob("lib*/ld-linux*.so*"))
    libraries = sorted({str(path.parent) for path in (root / "usr/lib").glob("*-linux-gnu*/libc.so.6")})
    if not loaders or not libraries:
        raise NotFound(f"no dynamic loader was unpacked for {program.name}")
    real = program.with_name(f"{program.name}.bin")
    program.rename(real)
    parts = {"loader": str(loaders[0]), "libraries": libraries[0], "program": str(real)}
    program.write_text(_LAUNCHER.format(**{name: shlex.quote(path) for name, path in parts.items()}))
    program.chmod(0o755)
