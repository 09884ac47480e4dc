"""Runs Django's own test suite on the pooled backend: ``make django-suite LABELS="backends basic"``.

The source distribution that matches the installed Django is fetched from the package index into ``.cache/``, and a
private database server is started for the run, with its data in TMPDIR (``TMPDIR=/dev/shm`` keeps them in memory). The
exit code is 0 if all passed; with ``--compare`` if nothing failed that passes on Django's own backend.
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

from demo_site.servers import private_database

from . import suite_outcome
from .suite_outcome import Outcome

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
STOCK, POOLED = "django.db.backends.mysql", "pooling.backends.mysql"
# The data are thrown away after the run, whatever happens.
UNSAFE = ("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=OFF")


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
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--stock", action="store_true", help="run on django.db.backends.mysql instead")
    which.add_argument("--compare", action="store_true", help="run on both, and say what fails on ours only")
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


def run(options: argparse.Namespace, engine: str) -> Outcome:
    """Run the labels on a server of their own; the output is shown as it comes."""
    tests = sources() / "tests"
    with (
        tempfile.TemporaryDirectory(prefix="pooling-suite-") as folder,
        private_database(folder, options=UNSAFE) as server,
    ):
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
            "SUITE_ENGINE": engine,
            "SUITE_RELEASE": options.release,
            "SUITE_START_TRANSACTION": "1" if options.start_transaction else "",
            "SUITE_HOST": server.host,
            "SUITE_PORT": str(server.port),
            "SUITE_USER": server.user,
            "SUITE_PASSWORD": server.password,
        }
        command = [sys.executable, "runtests.py", "--settings", "scripts.django_suite_settings", "--noinput"]
        command += ["--parallel", options.parallel, *([] if options.keep_going else ["--failfast"]), *options.labels]
        print(f"Django {django.get_version()} on {engine} and {server.label}", flush=True)
        with subprocess.Popen(
            command, cwd=tests, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as child:
            assert child.stdout is not None
            seen = bytearray()
            while piece := os.read(child.stdout.fileno(), 65536):
                sys.stdout.buffer.write(piece)
                sys.stdout.buffer.flush()
                seen += piece
        return suite_outcome.read(seen.decode(errors="replace"))


def main() -> int:
    options = arguments()
    if not options.compare:
        return 0 if run(options, STOCK if options.stock else POOLED).good else 1
    stock, ours = run(options, STOCK), run(options, POOLED)
    only = [name for name in ours.names if name not in stock.names]
    print(f"\n{STOCK}: {stock}\n{POOLED}: {ours}")
    for title, names in (("Fails on Django's own", stock.names), ("Fails on the pooled backend only", only)):
        for name in names:
            print(f"{title}: {name}")
    return 0 if stock.complete and ours.complete and not only else 1


if __name__ == "__main__":
    sys.exit(main())
