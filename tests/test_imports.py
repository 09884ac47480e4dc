"""The package keeps its one-way import rules, and the checker of these rules sees each kind of breach."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scripts import import_rules

ROOT = Path(__file__).resolve().parent.parent


def test_the_package_keeps_the_rules() -> None:
    assert import_rules.violations(ROOT) == []


def test_the_rules_and_the_package_speak_of_the_same_modules() -> None:
    folder = ROOT / "pooling"
    there = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {name.split(".")[0] for name in import_rules.named()} == there - {"__init__"}
    for name in import_rules.named():
        path = folder.joinpath(*name.split("."))
        assert path.with_suffix(".py").exists() or (path / "__init__.py").exists(), name


@pytest.mark.parametrize(
    ("file", "code", "complaint"),
    [
        ("pool/core.py", "import MySQLdb", "only pooling.backends.mysql.connection may import MySQLdb"),
        ("backends/mysql/base.py", "from MySQLdb.constants import CLIENT", "may import MySQLdb"),
        ("locks/manager.py", "def f():\n    import redis.asyncio", "only pooling.store._driver may import redis"),
        ("testing/isolation.py", "import pytest", "only pooling.testing.fixtures may import pytest"),
        ("runtime.py", "from .testing import isolated", "pooling.runtime is below pooling.testing"),
        ("runtime.py", "from django_redis import get_redis_connection", "may import django_redis"),
        ("pool/core.py", "from django.conf import settings", "must not import Django"),
        ("store/memory.py", "import django.utils", "must not import Django"),
        ("groups.py", "from .pool.core import ConnectionPool", "pooling.groups is below pooling.pool"),
        ("pool/core.py", "from ..store import protocol", "must not know each other"),
        ("locks/manager.py", "from ..cache import keys", "must not know each other"),
        ("cache/keys.py", "from .. import conf", "pooling.cache.keys is below pooling.conf"),
        ("cache/keys.py", "from .invalidate import invalidate", "is below pooling.cache.invalidate"),
        ("backends/mysql/base.py", "from ... import hold", "pooling.backends.mysql.base is below pooling.hold"),
        ("backends/mysql/base.py", "from ...store import memory", "must not know each other"),
        ("locks/manager.py", "from pooling import PoolingError", "not from pooling itself"),
        ("hold.py", "import importlib\nimportlib.import_module('redis')", "may import redis"),
        ("locks/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..conf import Settings", "below"),
    ],
)
def test_a_forbidden_import_is_caught(tmp_path: Path, file: str, code: str, complaint: str) -> None:
    lay_out(tmp_path)
    assert import_rules.violations(tmp_path) == []
    path = tmp_path / "pooling" / file
    path.write_text(code + "\n")
    (found,) = import_rules.violations(tmp_path)
    assert found.startswith(f"pooling/{file}:")
    assert complaint in found


@pytest.mark.parametrize(
    ("file", "code"),
    [
        ("locks/manager.py", "from ..errors import PoolingError\nfrom ..store.protocol import Store\nfrom . import a"),
        ("backends/mysql/connection.py", "import MySQLdb\nfrom ...pool import core"),
        ("store/memory.py", "from ..groups import plan\nfrom . import protocol"),
        ("cache/invalidate.py", "from .. import conf, hold\nfrom ..locks import manager\nfrom . import keys"),
        ("testing/fixtures.py", "import pytest\nfrom .isolation import isolated\nfrom .. import runtime"),
        ("hold.py", "from . import conf, runtime\nfrom .backends.mysql import base\nfrom .store import memory"),
    ],
)
def test_an_allowed_import_is_not(tmp_path: Path, file: str, code: str) -> None:
    lay_out(tmp_path)
    (tmp_path / "pooling" / file).write_text(code + "\n")
    assert import_rules.violations(tmp_path) == []


def lay_out(root: Path) -> None:
    names = "errors groups conf hold runtime pool/core store/protocol store/memory locks/manager locks/a"
    names += " testing/isolation testing/fixtures cache/keys cache/invalidate"
    names += " backends/mysql/base backends/mysql/connection"
    for name in names.split():
        path = root / "pooling" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
        for folder in path.relative_to(root).parents:
            if str(folder) != ".":
                (root / folder / "__init__.py").touch()


@pytest.mark.parametrize("module", ["pooling", "pooling.pool", "pooling.locks", "pooling.store.memory"])
def test_the_core_runs_without_django(module: str) -> None:
    code = f"import sys, {module}; sys.exit(any(m in sys.modules for m in ('django', 'MySQLdb', 'redis')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
