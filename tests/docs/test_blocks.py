"""Every block of code in the README and the manual does what it is shown for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import MySQLdb
import pytest

from . import shell
from .blocks import PAGES, ROOT, TEXT, blocks, every, python

KNOWN = {"python", "sh", "ini", "yaml", "dockerfile", "conf", "cron", TEXT}
MOST_NOT_RUN = 5


def site(*words: str, **environment: str) -> None:
    command = [sys.executable, "-m", "tests.docs.site", *words]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def database(worker_id: str) -> Iterator[str]:
    """The name of a database with the tables of the manual's site."""
    name = f"docs_{worker_id}_{os.getpid()}"
    site("prepare", DOCS_DATABASE=name)
    yield name
    with MySQLdb.connect(
        host=os.environ["POOLING_DB_HOST"],
        port=int(os.environ["POOLING_DB_PORT"]),
        user=os.environ["POOLING_DB_USER"],
        password=os.environ["POOLING_DB_PASSWORD"],
    ) as server:
        server.cursor().execute(f"DROP DATABASE {name}")


@pytest.mark.parametrize("page", PAGES)
def test_each_block_says_what_it_is(page: str) -> None:
    for block in blocks(page):
        assert block.language in KNOWN, f"{block}: name one of {', '.join(sorted(KNOWN))} behind the fence"
    # Code that is merely indented would escape these tests.
    text = re.sub(r"^( *)```.*?^\1```$", "", (ROOT / page).read_text("utf-8"), flags=re.M | re.S)
    before = ""
    for line in text.splitlines():
        options = re.match(r"    (options:|  )", line)  # those of `::: object`
        assert not (line.startswith("    ") and not before.strip() and not options), (
            f"{page}: put a fence around {line!r}"
        )
        before = line


def test_few_are_not_run() -> None:
    unrun = [block for page in PAGES for block in blocks(page) if block.not_run]
    assert len(unrun) <= MOST_NOT_RUN, [str(block) for block in unrun]


@pytest.mark.parametrize("block", [block for block in every("python") if block.is_settings], ids=str)
def test_settings_are_good(block: Any) -> None:
    site("check", block.page, str(block.line))


@pytest.mark.parametrize("page", [page for page in PAGES if python(page)])
def test_python_runs_and_is_of_use(page: str, database: str) -> None:
    site("run", page, DOCS_DATABASE=database)


@pytest.mark.parametrize("block", every("sh"), ids=str)
def test_commands_exist_with_these_options(block: Any) -> None:
    for line in shell.lines(block.code):
        shell.check(line)


@pytest.mark.parametrize(
    "line", ["make nothing", "python manage.py pooling locks --jsn", "rm -rf build", "make demo X=1"]
)
def test_a_command_that_does_not_exist_is_noticed(line: str) -> None:
    with pytest.raises((AssertionError, SystemExit)):
        shell.check(line)


@pytest.mark.parametrize("block", every("ini"), ids=str)
def test_uwsgi_has_these_options(block: Any) -> None:
    shell.check_uwsgi(block.code)


@pytest.mark.parametrize("block", every("yaml"), ids=str)
def test_yaml_is_of_kubernetes_or_prometheus(block: Any) -> None:
    shell.check_yaml(block.code)


def test_a_rule_about_a_metric_that_does_not_exist_is_noticed() -> None:
    rule = {"alert": "A", "expr": "pooling_pool_nothing > 0", "for": "1m", "labels": {}, "annotations": {}}
    with pytest.raises(AssertionError, match="pooling_pool_nothing"):
        shell.check_rules({"groups": [{"name": "a", "rules": [rule]}]})


@pytest.mark.parametrize("block", every("cron"), ids=str)
def test_crontabs(block: Any) -> None:
    shell.check_cron(block.code)


@pytest.mark.parametrize("block", every("dockerfile"), ids=str)
def test_dockerfiles(block: Any) -> None:
    shell.check_dockerfile(block.code)


@pytest.mark.parametrize("block", every("conf"), ids=str)
def test_redis_takes_these_settings(block: Any, private_redis: Any) -> None:
    shell.check_redis(block.code, private_redis)


def test_a_block_is_found_wherever_it_stands(tmp_path: Path, monkeypatch: Any) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n\n<!-- not run: why -->\n\n```sh\nx\n```\n* b\n  ~~~python\n  y\n  ~~~\n")
    monkeypatch.setattr("tests.docs.blocks.ROOT", tmp_path)
    first, second = blocks("page.md")
    assert (first.language, first.code, first.line, first.not_run) == ("sh", "x\n", 6, "why")
    assert (second.language, second.line, second.not_run) == ("python", 10, "")
    page.write_text("```python\nx\n")
    with pytest.raises(ValueError, match="does not end"):
        blocks("page.md")
