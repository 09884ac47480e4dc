"""A writer and a replica, replicating in earnest, under the router of docs/replicas.md."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import MySQLdb
import pytest

from tests.docs.blocks import python
from tests.servers import PrivateDatabase, private_database

from .conftest import until

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PrivateDatabase, PrivateDatabase]]:
    folder = tmp_path_factory.mktemp("pair")
    writer = private_database(folder / "writer", options=["--log-bin=bin", "--server-id=1"])
    replica = private_database(folder / "replica", options=["--server-id=2"])
    with writer, replica:
        if replica.label == "MySQL":
            run(
                replica,
                f"CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={writer.port}, SOURCE_USER='root', "
                "SOURCE_CONNECT_RETRY=1",
            )
        else:
            run(
                replica,
                f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={writer.port}, MASTER_USER='root', "
                "MASTER_CONNECT_RETRY=1, MASTER_USE_GTID=slave_pos",
            )
        run(replica, "START REPLICA")
        yield writer, replica


def run(server: PrivateDatabase, statement: str) -> Any:
    connection = MySQLdb.connect(host=server.host, port=server.port, user="root")
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()
    finally:
        connection.close()


NUMBERS = itertools.count(1)

Ask = Callable[[str], Any]


@pytest.fixture
def site(pair: Any, tmp_path: Path, request: Any) -> Iterator[Ask]:
    """A function that sends a line to a site of the test's own, and returns what it says."""
    [router] = [block for block in python("docs/replicas.md") if block.file == "shop/routers.py"]
    (tmp_path / "routers.py").write_text(router.code, "utf-8")
    writer, replica = pair
    name = f"lines_{next(NUMBERS)}"  # another one for each test: the replica may still have the last one's
    run(writer, f"CREATE DATABASE {name}")
    until(lambda: (name,) in run(replica, "SHOW DATABASES"))
    databases = {
        alias: {
            "ENGINE": "pooling.backends.mysql",
            "NAME": name,
            "USER": "root",
            "HOST": server.host,
            "PORT": str(server.port),
            "ATOMIC_REQUESTS": alias in getattr(request, "param", ()),
            "OPTIONS": {"pool": {"max_size": 2, "timeout": 10}},
        }
        for alias, server in (("default", writer), ("replica", replica))
    }
    command = [sys.executable, "-m", "tests.backend.replica_site", json.dumps(databases), str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def ask(line: str) -> Any:
            process.stdin.write(f"{line}\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return json.loads(process.stdout.readline())  # type: ignore[union-attr]

        assert ask("create") == "created"
        table = f"{name}.replica_site_line"
        until(lambda: run(replica, f"SHOW TABLES IN {name}") and run(replica, f"SELECT * FROM {table}"))
        yield ask
        process.stdin.close()
    assert process.returncode == 0


def test_reads_go_to_a_replica_that_keeps_up(site: Ask, pair: Any) -> None:
    _, replica = pair
    until(lambda: site("where") == "replica")
    for view in ("writing", "reading", "cached"):
        assert site(view) == "default", view  # what is made under groups is not older than their last write
    run(replica, "STOP REPLICA SQL_THREAD")
    until(lambda: site("where") == "default")
    run(replica, "START REPLICA SQL_THREAD")
    until(lambda: site("where") == "replica")
    replica.kill(signal.SIGKILL)
    try:
        until(lambda: site("where") == "default")
    finally:
        replica.start()
    until(lambda: site("where") == "replica")


@pytest.mark.parametrize("site", [(), ("default",), ("replica",), ("default", "replica")], indirect=True, ids="+".join)
def test_two_aliases_and_atomic_requests(site: Ask, request: Any) -> None:
    atomic = request.node.callspec.params["site"]
    inside = {alias: alias in atomic for alias in ("default", "replica")}
    assert json.loads(site("mixed?text=kept")) == inside
    assert site("busy") == [0, 0]
    assert site("mixed?text=lost&fail=1") == 500
    assert site("busy") == [0, 0]
    assert site("lines") == ["first", "kept"] + ([] if "default" in atomic else ["lost"])
