"""The manual is whole: it builds strictly, tells everything that there is, and names tests that exist."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pooling
from pooling import caching, decorators
from pooling.backends.mysql.options import BackendOptions
from pooling.backends.mysql.tcp import TcpKeepalive
from pooling.conf import Settings
from scripts import manual

from .blocks import DOCS, PAGES, ROOT

REFERENCE = sorted(path for path in PAGES if path.startswith("docs/reference/"))
_TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


def reference() -> str:
    return "\n".join(manual.fill((ROOT / page).read_text("utf-8")) for page in REFERENCE)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("manual")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    return folder


def test_it_is_built_strictly_and_fetches_nothing_from_elsewhere(built: Path) -> None:
    pages = list(built.rglob("*.html"))
    assert len(pages) > len(list(DOCS.rglob("*.md"))) - 1
    for page in pages:
        text = page.read_text("utf-8")
        fetched = re.findall(r'<(?:script|img|iframe|source)\b[^>]*\bsrc="([^"]+)"', text)
        fetched += re.findall(r'<link\b[^>]*rel="(?:stylesheet|preconnect|icon)"[^>]*href="([^"]+)"', text)
        fetched += re.findall(r'<link\b[^>]*href="([^"]+)"[^>]*rel="(?:stylesheet|preconnect|icon)"', text)
        assert not [one for one in fetched if "//" in one], page


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_from_outside_the_manual_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text("utf-8")):
        assert (ROOT / target).exists(), target


def test_docstrings_are_in_the_reference(built: Path) -> None:
    text = (built / "reference" / "api.html").read_text("utf-8")
    for sentence in ("Hold resource groups for the time of a view", "Lend and open no connection until"):
        assert sentence in text
    for name in ("reads", "lease", "vary_on"):  # lists of docstrings are lists
        assert re.search(rf"<li>\s*(?:<p>)?<code>[^:]*{name}</code>", text), name


@pytest.mark.parametrize(
    ("cls", "page"),
    [(Settings, "settings"), (BackendOptions, "settings"), (TcpKeepalive, "settings")],
    ids=["POOLING", "pool", "tcp_keepalive"],
)
def test_each_option_is_told_with_its_default(cls: Any, page: str) -> None:
    text = manual.fill((DOCS / "reference" / f"{page}.md").read_text("utf-8"))
    for name, default, meaning in manual.fields(cls):
        assert f"| `{name}` | `{default}` | {meaning[:20]}" in text
    assert {name for name, _, _ in manual.fields(cls)} == {field.name for field in dataclasses.fields(cls)}


@pytest.mark.parametrize("function", [decorators.locked, caching.locked_cache])
def test_each_parameter_is_told(function: Any) -> None:
    told = {name for names in manual.explained_in(function.__doc__) for name in names}
    parameters = inspect.signature(function).parameters.values()
    assert {one.name for one in parameters if one.kind is not one.VAR_KEYWORD} == told  # that takes what is misspelled


def test_each_public_name_is_told() -> None:
    text = reference()
    for name in pooling.__all__:
        assert re.search(rf"^(?:### `|::: pooling[\w.]*\.){name}\b", text, re.MULTILINE), name


def test_each_check_signal_command_and_statistic_is_told() -> None:
    text = reference()
    source = "".join(
        (ROOT / "pooling" / f"{name}.py").read_text("utf-8") for name in ("checks", "order_checks", "nesting_checks")
    )
    numbers = set(re.findall(r'"(pooling\.[EW]\d{3})"', source))
    assert numbers
    from django.dispatch import Signal

    from pooling import signals

    names = {f"### `pooling.signals.{name}`" for name, one in vars(signals).items() if isinstance(one, Signal)}
    assert names
    commands = {f"### `{name}`" for name in manual.subcommands()}
    options = {
        f"* `{option}"
        for parser in manual.subcommands().values()
        for action in parser._actions
        for option in action.option_strings[:1]
        if action.dest != "help"
    }
    from django.db import connection

    statistics = {f"`{key}`" for key in connection.pool.get_stats()}  # type: ignore[attr-defined]
    for word in {f"| `{number}` |" for number in numbers} | names | commands | options | statistics:
        assert word in text, word


def test_each_logger_is_told() -> None:
    text = reference()
    used = set()
    for path in (ROOT / "pooling").rglob("*.py"):
        used |= set(re.findall(r'getLogger\("([\w.]+)"\)', path.read_text("utf-8")))
    assert used
    for name in used:
        assert f"| `{name}` |" in text, name


def test_the_tests_that_are_named_exist() -> None:
    named = [(page, *match) for page in PAGES for match in _TEST.findall((ROOT / page).read_text("utf-8"))]
    assert len(named) > 50
    for page, path, name in named:
        tree = ast.parse((ROOT / "tests" / path).read_text("utf-8"))
        assert any(getattr(node, "name", "") == name for node in ast.walk(tree)), f"{page}: {path} has no {name}"


def test_what_is_not_explained_fails() -> None:
    @dataclasses.dataclass(frozen=True)
    class Options:
        """Two.

        ``one``  the first.
        ``gone``  is no field.
        """

        one: int = 1
        two: int = 2

    with pytest.raises(manual.ManualError, match="gone, two"):
        manual.fields(Options)
    with pytest.raises(manual.ManualError, match="nothing"):
        manual.fill("<!-- generated: nothing -->")


def test_lists_of_docstrings() -> None:
    text = manual.as_markdown("A.\n\n``one``, ``two``  first\n    goes on.\n``three`` second.\n\n``b`` is no list.")
    assert text == "A.\n\n* `one`, `two`: first goes on.\n* `three`: second.\n\n`b` is no list."
