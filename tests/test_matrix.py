"""What `make matrix` and `make django-suite COMPARE=1` rest on: verdicts, choosing, finding, launching."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from scripts import suite_outcome
from scripts.matrix import debian, pythons, running
from scripts.matrix.__main__ import table
from scripts.matrix.combinations import COMBINATIONS, DATABASES, SERVERS, STORES, chosen


def run_unittest(folder: Path, body: str) -> str:
    """What unittest's runner, which is Django's as well, prints about a test case with this body."""
    source = f"import unittest\n\n\nclass Case(unittest.TestCase):\n{textwrap.indent(textwrap.dedent(body), '    ')}"
    (folder / "sample.py").write_text(source)
    done = subprocess.run([sys.executable, "-m", "unittest", "sample"], cwd=folder, capture_output=True, text=True)
    return done.stderr


def test_the_verdict_of_a_run_with_everything_in_it(tmp_path: Path) -> None:
    output = run_unittest(
        tmp_path,
        """
        def test_good(self): print("Ran 7 tests in 1s\\n\\nOK")
        def test_fails(self): self.fail()
        def test_raises(self): raise ValueError
        def test_parts(self):
            for number in range(2):
                with self.subTest(number=number):
                    self.fail()
        @unittest.skip("no reason")
        def test_skipped(self): pass
        @unittest.expectedFailure
        def test_expected(self): self.fail()
        @unittest.expectedFailure
        def test_unexpected(self): pass
        """,
    )
    outcome = suite_outcome.read(output)
    run = 6 if sys.version_info[:3] == (3, 12, 1) else 7  # that one does not count what it skips
    assert (outcome.run, outcome.failed, outcome.skipped, outcome.complete) == (run, 5, 1, True)
    assert not outcome.good
    words = [name.split()[0] for name in outcome.names]
    assert words == ["test_fails", "test_parts", "test_parts", "test_raises", "test_unexpected"]


def test_the_verdict_of_a_good_run_and_of_none(tmp_path: Path) -> None:
    good = suite_outcome.read(run_unittest(tmp_path, "def test_good(self): pass\n"))
    assert (good.run, good.failed, good.names, good.good) == (1, 0, (), True)
    # As Python 3.12.1 prints it for a class that is skipped at once.
    skipping = suite_outcome.read("Found 3 test(s).\ns.\nRan 1 test in 0.1s\n\nOK (skipped=2)\n")
    assert (skipping.run, skipping.skipped) == (3, 2)
    cut_off = suite_outcome.read("....F..Traceback (most recent call last):\n")
    assert not cut_off.complete
    assert not cut_off.good


def test_each_server_python_and_django_is_in_some_combination() -> None:
    assert {one.database for one in COMBINATIONS} == {server.name for server in DATABASES}
    assert {one.store for one in COMBINATIONS} == {server.name for server in STORES}
    assert {one.python for one in COMBINATIONS} == {"3.11", "3.12", "3.13"}
    assert {one.django for one in COMBINATIONS} == {"5.2", "6.0", "6.1"}
    assert all(one.name in SERVERS for one in (*DATABASES, *STORES))
    assert len({one.name for one in COMBINATIONS}) == len(COMBINATIONS)


def test_choosing_by_words() -> None:
    assert chosen([]) == list(COMBINATIONS)
    assert {one.database for one in chosen(["mysql-9"])} == {"mysql-9"}
    assert [one.python for one in chosen(["mysql-9", "py3.13"])] == ["3.13"]
    assert chosen(["postgresql"]) == []


def test_a_python_is_found_by_its_version() -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = pythons.interpreter(version)
    told = subprocess.run([found, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True)
    assert told.stdout.strip() == str(sys.version_info[:2])
    with pytest.raises(debian.NotFound, match=r"no Python 2\.99"):
        pythons.interpreter("2.99")


def test_a_release_that_cannot_be_fetched_is_not_found(tmp_path: Path) -> None:
    """Also where there is no apt at all; then that is what it says."""
    with pytest.raises(debian.NotFound, match=r"no such|there is no|apt-get"):
        debian.unpack("no-such-release", ("no-such-package",), tmp_path / "x")
    assert not (tmp_path / "x" / "complete").exists()


def test_a_launcher_runs_the_program_with_its_own_libraries_and_name(tmp_path: Path) -> None:
    """Made of this machine's own loader and C library, in a folder with a space."""
    maps = Path("/proc/self/maps").read_text().split()
    loader = next(Path(word).resolve() for word in maps if "/ld-" in word)
    library = next(Path(word).resolve() for word in maps if word.endswith("/libc.so.6"))
    root = tmp_path / "a root"
    libraries = root / "usr/lib/any-linux-gnu"
    libraries.mkdir(parents=True)
    (root / "usr/lib64").mkdir()
    (root / "usr/bin").mkdir()
    for source, target in (
        (loader, root / "usr/lib64/ld-linux-any.so.2"),
        (library, libraries / "libc.so.6"),
        (Path("/bin/cat").resolve(), root / "usr/bin/cat"),
    ):
        target.write_bytes(source.read_bytes())
        target.chmod(0o755)
    debian._make_launcher(root / "usr/bin/cat", root)
    done = subprocess.run([root / "usr/bin/cat", "/proc/self/maps"], capture_output=True, text=True)
    assert str(libraries / "libc.so.6") in done.stdout
    assert subprocess.run([root / "usr/bin/cat", "/nowhere"], capture_output=True, text=True).stderr.startswith(
        str(root / "usr/bin/cat")
    )


def test_the_fingerprint_follows_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "ROOT", tmp_path)
    (tmp_path / "pooling").mkdir()
    (tmp_path / "pooling" / "a.py").write_text("1")
    for name in running._CODE:
        if "." in name:
            (tmp_path / name).touch()
    before = running.fingerprint()
    assert running.fingerprint() == before
    (tmp_path / "pooling" / "a.pyc").write_text("compiled")
    assert running.fingerprint() == before
    (tmp_path / "pooling" / "a.py").write_text("2")
    assert running.fingerprint() != before


def test_the_table_says_what_was_not_found() -> None:
    rows = [("mysql-9", "valkey-9", "3.11", "5.2", "not found: there is no apt-get", "")]
    lines = table(rows).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "not found: there is no apt-get" in lines[-1]
    result = running.Result(run=10, failed=1, skipped=2, complete=True)
    assert (str(result), result.good) == ("7 passed, 1 failed, 2 skipped", False)
    assert not running.Result(run=0, failed=0, skipped=0, complete=True).good
