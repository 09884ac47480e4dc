"""Records of the loggers ``pooling.*`` say in fields what they are about."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from pooling import locked, runtime
from pooling.pool import ConnectionPool, PoolOptions
from tests.pool.scripted import ScriptedDriver

from .site import SECRET

ROOT = Path(__file__).resolve().parents[2]
LEVELS = {"debug", "info", "warning", "error", "exception", "log"}
# Attributes of every record: logging refuses them as fields.
OWN = set(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

pytestmark = pytest.mark.django_db(transaction=True)


class AsJson(logging.Formatter):
    """As the usual packages do it: whatever the record has beyond its own attributes."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {name: value for name, value in vars(record).items() if name not in OWN}
        return json.dumps({"message": record.getMessage(), **fields}, default=str)


class Written(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(AsJson())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def about(self, word: str) -> dict[str, Any]:
        (line,) = [one for one in self.lines if word in one]
        found: dict[str, Any] = json.loads(line)
        return found


@pytest.fixture
def written() -> Iterator[Written]:
    handler = Written()
    logger = logging.getLogger("pooling")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call of a logger in the package, and where it stands."""
    for path in sorted((ROOT / "pooling").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in ("log", "logger")
                and node.func.attr in LEVELS
            ):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_each_call_of_a_logger_gives_fields() -> None:
    found = dict(calls())
    assert len(found) > 40
    for where, call in found.items():
        assert any(keyword.arg == "extra" for keyword in call.keywords), f"{where}: give it fields with extra={{…}}"


def test_each_field_is_told_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference" / "errors.md").read_text("utf-8")
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", text.partition("Records have fields")[2], re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert told
    assert not told & OWN
    for where, call in calls():
        (extra,) = [keyword.value for keyword in call.keywords if keyword.arg == "extra"]
        keys = {key.value for key in extra.keys if isinstance(key, ast.Constant)} if isinstance(extra, ast.Dict) else {}
        assert set(keys) <= told, where


def test_a_lock_that_was_lost(written: Written, caplog: Any) -> None:
    with locked(writes=["accounts/7"], reads=["rates"], atomic=False) as held:
        ticket = held._ticket
        runtime.store().release(ticket)
    found = written.about("had been lost")
    assert found["groups"] == ["accounts/7", "rates"]
    assert found["view"].startswith("with locked")
    assert found["ticket"] == ticket


def test_a_503(written: Written, settings: Any) -> None:
    settings.MIDDLEWARE = ["pooling.middleware.BusyMiddleware", *settings.MIDDLEWARE]
    client = Client()
    client.cookies["theme"] = SECRET
    from .test_moments import in_thread

    with locked(writes=["accounts/7"], atomic=False):
        headers = {"X-Request-ID": "r-1"}
        in_thread(lambda: client.get("/impatient/7/", {"token": SECRET}, headers=headers)).join(20)
        in_thread(lambda: client.get(f"/reset/{SECRET}/", headers=headers)).join(20)
    found = written.about("503 GET impatient/<int:pk>/: LockTimeout: ")
    assert found["trace"] == "r-1"
    assert written.about("503 GET reset/<token>/: LockTimeout: ")
    assert found["view"] == "tests.contrib.site.impatient"
    assert found["error"] == "LockTimeout"
    assert (found["status_code"], found["retry_after"] >= 1, found["waited"] > 0) == (503, True, True)
    assert SECRET not in "".join(written.lines)


def test_a_pool_whose_connection_cannot_be_reset(written: Written) -> None:
    driver = ScriptedDriver()
    pool: Any = ConnectionPool(driver, PoolOptions(max_size=1), name="shop", reset=fails)
    pool.putconn(pool.getconn())
    pool.close()
    found = written.about("could not be reset")
    assert (found["pool"], found["error"]) == ("shop", "ZeroDivisionError")


def fails(connection: Any) -> None:
    raise ZeroDivisionError
