"""max_size="auto" with real processes on a real server, which remembers the most connections that it ever had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError

from pooling.pool import usual_folder

from .conftest import ask, until

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).parents[2]
MOST, RESERVE = 16, 4
BUDGET = MOST - RESERVE


class Worker:
    def __init__(self, database: dict[str, Any], *store: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.backend.fleet_worker", json.dumps(database), *store],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.state: dict[str, Any] = {}
        self.errors: list[str] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if "error" in said:
                self.errors.append(said["error"])
            else:
                self.state = said

    def fills(self, share: int) -> bool:
        return self.state.get("share") == self.state.get("size") == share

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)
        self.reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def kill(self) -> None:
        self.process.kill()
        self.end()


@pytest.fixture
def fleet(root: Any, tls_mariadb: Any, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """A function that starts a process of the fleet."""
    ask(root, "CREATE USER fleet@'127.0.0.1' IDENTIFIED BY 'x'")
    ask(root, "GRANT SELECT ON mysql.* TO fleet@'127.0.0.1'")
    [[usual]] = ask(root, "SELECT @@max_connections")
    ask(root, f"SET GLOBAL max_connections = {MOST}")
    started: list[Worker] = []

    def start(*store: str) -> Worker:
        settings = database(tls_mariadb, tmp_path)
        if store:
            del settings["OPTIONS"]["pool"]["budget_dir"]
        started.append(Worker(settings, *store))
        return started[-1]

    try:
        yield start
    finally:
        for worker in started:
            if worker.process.poll() is None:
                worker.kill()
        ask(root, f"SET GLOBAL max_connections = {usual}")
        ask(root, "DROP USER fleet@'127.0.0.1'")


def database(server: Any, folder: Path, **more: Any) -> dict[str, Any]:
    pool = {"max_size": "auto", "reserve": RESERVE, "budget_dir": str(folder / "budget"), "timeout": 20, **more}
    return {
        "ENGINE": "pooling.backends.mysql",
        "NAME": "mysql",
        "USER": "fleet",
        "PASSWORD": "x",
        "HOST": server.host,
        "PORT": str(server.port),
        "OPTIONS": {"pool": pool},
    }


def shares(folder: Path) -> list[int]:
    [found] = (folder / "budget").glob("*/members.json")
    return [member["share"] for member in json.loads(found.read_text())["members"].values()]


def status(wrapper: Any, name: str) -> int:
    return int(ask(wrapper, f"SHOW GLOBAL STATUS LIKE '{name}'")[0][1])


def test_processes_come_and_go(root: Any, fleet: Callable[[], Worker], tmp_path: Path) -> None:
    """The shares never add up to more than there is, and the server never has more connections."""
    until(lambda: len(ask(root, "SELECT id FROM information_schema.processlist")) == 1)
    ask(root, "FLUSH STATUS")  # from here on it counts its most connections anew
    refused = status(root, "Connection_errors_max_connections")
    sums: list[int] = []

    def wait_for(*expected: tuple[Worker, int]) -> None:
        def there() -> bool:
            if list(tmp_path.glob("budget/*/members.json")):
                sums.append(sum(shares(tmp_path)))
            return all(worker.fills(share) for worker, share in expected)

        until(there, 60)

    first = fleet()
    wait_for((first, BUDGET))
    second = fleet()
    wait_for((first, BUDGET // 2), (second, BUDGET // 2))
    third = fleet()
    wait_for((first, BUDGET // 3), (second, BUDGET // 3), (third, BUDGET // 3))
    second.kill()
    wait_for((first, BUDGET // 2), (third, BUDGET // 2))
    third.end()
    wait_for((first, BUDGET))
    # The one more is this test's own.
    assert status(root, "Max_used_connections") <= BUDGET + 1
    assert status(root, "Connection_errors_max_connections") == refused
    assert max(sums) == BUDGET
    assert first.errors == second.errors == third.errors == []


def test_processes_that_share_a_store(root: Any, fleet: Callable[..., Worker], redis_url: str) -> None:
    """As if each were on another host: what they have in common is Redis."""
    until(lambda: len(ask(root, "SELECT id FROM information_schema.processlist")) == 1)
    ask(root, "FLUSH STATUS")
    first, second = fleet(redis_url), fleet(redis_url)
    until(lambda: first.fills(BUDGET // 2) and second.fills(BUDGET // 2), 60)
    client = redis.Redis.from_url(redis_url)
    [ledger] = client.scan_iter(match="*budget:*")

    def members() -> int:
        return len(json.loads(client.get(ledger))["members"])  # type: ignore[arg-type]

    assert members() == 2
    first.end()
    assert members() == 1  # it was not to be missed first
    until(lambda: second.fills(BUDGET), 60)
    assert status(root, "Max_used_connections") <= BUDGET + 1
    assert first.errors == second.errors == []


def test_a_user_of_few_connections(root: Any, fleet: Callable[[], Worker]) -> None:
    ask(root, "ALTER USER fleet@'127.0.0.1' WITH MAX_USER_CONNECTIONS 5")
    first, second = fleet(), fleet()
    until(lambda: sorted(worker.state.get("share", 0) for worker in (first, second)) == [2, 3], 60)
    first.end()
    until(lambda: second.fills(5), 60)
    assert first.errors == second.errors == []


def test_what_is_left_to_others_is_too_much(there: Any, tmp_path: Path) -> None:
    pool = {"max_size": "auto", "reserve": 100_000, "budget_dir": str(tmp_path / "budget"), "timeout": 1}
    wrapper = there(pool)
    with pytest.raises(OperationalError, match="share 0 of budget 0 among 1 process"):
        until(lambda: ask(wrapper, "SELECT 1") and wrapper.close())
    assert wrapper.pool.get_stats()["pool_size"] == 0


def test_a_folder_that_will_not_do(make: Any, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ImproperlyConfigured, match=r"OPTIONS of the database 'default': .*file.*'budget_dir'"):
        _ = make({"max_size": "auto", "budget_dir": str(file)}).pool


def test_it_finds_a_folder_by_itself(there: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert usual_folder().name == f"pooling-{os.geteuid()}"
    assert usual_folder().parent.is_dir()
    monkeypatch.setattr("pooling.backends.mysql.fleet.usual_folder", lambda: tmp_path / "usual")
    wrapper = there({"max_size": "auto", "timeout": 20})
    assert ask(wrapper, "SELECT 1") == ((1,),)
    assert wrapper.pool._budget._ledger.folder.parent == tmp_path / "usual"
    wrapper.close()
