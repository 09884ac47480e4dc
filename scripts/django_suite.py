"""Runs Django's own test suite on the pooled backend: ``make django-suite LABELS="backends basic"``.

The source distribution that matches the installed Django is fetched from the package index into ``.cache/``, and a
private MariaDB is started for the run. The exit code is that of Django's ``runtests.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import django

from demo_site.servers import PrivateMariaDB

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"


def sources() -> Path:
    """Folder of the unpacked source distribution of the installed Django; downloaded once."""
    version = django.get_version()
    target = CACHE / f"django-{version}"
    if not target.is_dir():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
            command += ["--no-binary", "django", "--dest", folder, f"Django=={version}"]
            subprocess.run(command, check=True)
            (archive,) = Path(folder).glob("*.tar.gz")
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
            (unpacked,) = (path.parent for path in Path(folder).glob("*/tests"))
            with contextlib.suppress(FileExistsError):  # another run was quicker
                unpacked.rename(target)
    return target


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make django-suite", description=__doc__)
    parser.add_argument("labels", nargs="*", help="test labels, for instance backends basic; none: the whole suite")
    parser.add_argument("--parallel", default="1", metavar="N", help="processes, or 'auto' (default: 1)")
    parser.add_argument("--stock", action="store_true", help="run on django.db.backends.mysql, to compare")
    parser.add_argument(
        "--release", choices=("request", "transaction"), default="request", help="the pool's option (default: request)"
    )
    parser.add_argument(
        "--start-transaction", action="store_true", help="the pool's option: atomic() by START TRANSACTION"
    )
    parser.add_argument(
        "--keep-going", action=argparse.BooleanOptionalAction, default=True, help="or stop at a failure"
    )
    return parser.parse_args()


def main() -> int:
    options = arguments()
    tests = sources() / "tests"
    with tempfile.TemporaryDirectory(prefix="pooling-suite-") as folder, PrivateMariaDB(folder) as server:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
            "SUITE_ENGINE": "django.db.backends.mysql" if options.stock else "pooling.backends.mysql",
            "SUITE_RELEASE": options.release,
            "SUITE_START_TRANSACTION": "1" if options.start_transaction else "",
            "SUITE_HOST": server.host,
            "SUITE_PORT": str(server.port),
            "SUITE_USER": server.user,
            "SUITE_PASSWORD": server.password,
        }
        command = [sys.executable, "runtests.py", "--settings", "scripts.django_suite_settings", "--noinput"]
        command += ["--parallel", options.parallel, *([] if options.keep_going else ["--failfast"]), *options.labels]
        return subprocess.run(command, cwd=tests, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
