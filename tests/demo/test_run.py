"""`demo_site.run` as somebody starts it for the first time: wrong addresses, a second demo, and Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import MySQLdb
import pytest

from demo_site import own_servers
from demo_site import run as demo
from demo_site.servers import PrivateRedis, free_port

RUN = [sys.executable, "-m", "demo_site.run"]


@pytest.fixture
def server() -> Iterator[MySQLdb.Connection]:
    connection = MySQLdb.connect(
        host=os.environ["POOLING_DB_HOST"],
        port=int(os.environ["POOLING_DB_PORT"]),
        user=os.environ.get("POOLING_DB_USER", "root"),
        password=os.environ.get("POOLING_DB_PASSWORD", ""),
        autocommit=True,
    )
    yield connection
    connection.close()


@pytest.fixture
def name(server: MySQLdb.Connection) -> Iterator[str]:
    """The name of a database that does not exist; what a test makes of it is dropped."""
    name = f"boxoffice_own_{secrets.token_hex(4)}"
    yield name
    server.query(f"DROP DATABASE IF EXISTS {name}")


def url(name: str, *, user: str | None = None, password: str | None = None, port: int | str | None = None) -> str:
    user = user or os.environ.get("POOLING_DB_USER", "root")
    password = os.environ.get("POOLING_DB_PASSWORD", "") if password is None else password
    place = f"{os.environ['POOLING_DB_HOST']}:{port or os.environ['POOLING_DB_PORT']}"
    return f"mysql://{user}:{quote(password, safe='')}@{place}/{name}"


def ask(server: MySQLdb.Connection, sql: str) -> list[str]:
    cursor = server.cursor()
    cursor.execute(sql)
    return [row[0] for row in cursor.fetchall()]


def environment(run_dir: Path, **more: str) -> dict[str, str]:
    own = {"DATABASE_URL": url("nothing"), "REDIS_URL": os.environ["POOLING_REDIS_URL"], "DEMO_RUN_DIR": str(run_dir)}
    return {**os.environ, "SERVE": "0", "WORKLOAD": "0", **own, **more}


def run(run_dir: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(RUN, env=environment(run_dir, **more), capture_output=True, text=True)


def refused(done: subprocess.CompletedProcess[str], *texts: str) -> None:
    """It ended with status 2 and one line that says all of this."""
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stdout + done.stderr
    for text in texts:
        assert text in done.stderr


def test_a_database_of_something_else_is_left_as_it_is(server: MySQLdb.Connection, name: str, tmp_path: Path) -> None:
    server.query(f"CREATE DATABASE {name}")
    for table in ("auth_user", "django_migrations"):  # any Django site
        server.query(f"CREATE TABLE {name}.{table} (id INT)")
    refused(run(tmp_path, DATABASE_URL=url(name)), "DATABASE_URL", "auth_user", "empty database")
    server.query(f"CREATE TABLE {name}.{own_servers.OURS} (id INT)")
    server.query(f"CREATE VIEW {name}.shop_goods AS SELECT 1")
    refused(run(tmp_path, DATABASE_URL=url(name)), "shop_goods", "nothing was written")
    assert len(ask(server, f"SHOW TABLES IN {name}")) == 4


def test_what_is_created_is_said_and_used_again(server: MySQLdb.Connection, name: str, tmp_path: Path) -> None:
    done = run(tmp_path, DATABASE_URL=url(name))
    assert done.returncode == 0, done.stderr
    assert f"creates the database '{name}'" in done.stdout
    assert "13 users with a published password" in done.stdout
    assert set(ask(server, f"SHOW TABLES IN {name}")) == own_servers.TABLES
    done = run(tmp_path, DATABASE_URL=url(name))
    assert (done.returncode, "the demo's own tables" in done.stdout) == (0, True), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("garbage", "must start with mysql://"),
        ("postgres://a@b/c", "must start with mysql://"),
        ("mysql://a@127.0.0.1", "name of one database"),
        ("mysql://a@127.0.0.1:abc/c", "port must be a number"),
        ("mysql://a@[::1/c", "Write it as"),
    ],
)
def test_a_malformed_database_url_is_one_line(address: str, text: str, tmp_path: Path) -> None:
    refused(run(tmp_path, DATABASE_URL=address), "DATABASE_URL", text)


def test_a_database_that_cannot_be_reached_is_one_line(server: MySQLdb.Connection, name: str, tmp_path: Path) -> None:
    server.query(f"CREATE USER {name} IDENTIFIED BY 'it is'")
    try:
        wrong = url(name, user=name, password="it is not")
        refused(run(tmp_path, DATABASE_URL=wrong), "DATABASE_URL", "1045", "password (special")
        refused(run(tmp_path, DATABASE_URL=url(name, port=free_port())), "DATABASE_URL", "Start that server")
        mine = url(name, user=name, password="it is")
        refused(run(tmp_path, DATABASE_URL=mine), "DATABASE_URL", "1044", f"Let '{name}' create")
        server.query(f"CREATE DATABASE {name}")
        server.query(f"GRANT SELECT ON {name}.* TO {name}")
        refused(run(tmp_path, DATABASE_URL=mine), "DATABASE_URL", "1142", "may do everything")
        refused(run(tmp_path, DATABASE_URL=mine, WORKLOAD="1"), "DATABASE_URL", "GRANT ALL ON", "WORKLOAD=0")
        assert ask(server, f"SHOW TABLES IN {name}") == []
    finally:
        server.query(f"DROP USER {name}")


@pytest.mark.parametrize("address", ["redis://127.0.0.1:1", "http://127.0.0.1", "garbage", "redis://127.0.0.1:x"])
def test_a_bad_redis_url_is_one_line_before_anything_is_written(
    address: str, server: MySQLdb.Connection, name: str, tmp_path: Path
) -> None:
    refused(run(tmp_path, DATABASE_URL=url(name), REDIS_URL=address), "REDIS_URL")
    assert ask(server, f"SHOW DATABASES LIKE '{name}'") == []


def test_a_folder_in_use_says_what_to_type(tmp_path: Path, name: str) -> None:
    with PrivateRedis(tmp_path / "redis"):
        refused(run(tmp_path, DATABASE_URL=url(name), REDIS_URL=""), "Another Redis runs on", "DEMO_RUN_DIR=")


def test_a_second_demo_of_a_checkout_takes_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "RUN_DIR", tmp_path)
    monkeypatch.setenv("DATABASE_URL", url("nothing"))
    monkeypatch.setenv("REDIS_URL", "")
    monkeypatch.setenv("DEMO_RUN_DIR", "")
    monkeypatch.setenv("POOLING_REDIS_URL", os.environ["POOLING_REDIS_URL"])  # put back afterwards
    with PrivateRedis(tmp_path / "redis") as first, contextlib.ExitStack() as stack:
        demo.start_in_a_folder(stack)
        assert os.environ["DEMO_RUN_DIR"] == str(tmp_path / "2")
        assert os.environ["POOLING_REDIS_URL"] != first.url
    assert f"Another demo runs here, so this one has its own data, in {tmp_path / '2'}" in capsys.readouterr().out


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_workload_stops_it_quietly(
    number: signal.Signals, status: int, server: MySQLdb.Connection, name: str, tmp_path: Path
) -> None:
    env = environment(tmp_path, DATABASE_URL=url(name), WORKLOAD="1", WORKLOAD_SECONDS="60", WORKLOAD_VISITORS="2")
    with open(tmp_path / "out", "w") as out:
        process = subprocess.Popen(RUN, env=env, stdout=out, stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + 60
        log = tmp_path / "workload-thread.1.log"
        while not log.exists():  # the first scheme's server is being started, or serves already
            assert process.poll() is None, (tmp_path / "out").read_text()
            assert time.monotonic() < end
            time.sleep(0.02)
        workloads = ask(server, f"SHOW DATABASES LIKE '{own_servers.WORKLOAD}%'")
        process.send_signal(number)
        process.send_signal(number)  # an impatient second one changes nothing
        assert process.wait(60) == status, (tmp_path / "out").read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    text = (tmp_path / "out").read_text()
    assert text.endswith("\nStopped.\n")
    assert "Traceback" not in text
    assert workloads
    # Others may run a workload on this server at the same time; this one's database is gone.
    assert len(set(workloads) & set(ask(server, f"SHOW DATABASES LIKE '{own_servers.WORKLOAD}%'"))) < len(workloads)


def test_ctrl_c_is_how_the_open_site_ends(name: str, tmp_path: Path) -> None:
    env = environment(tmp_path, DATABASE_URL=url(name), SERVE="1", PORT=str(free_port()))
    process = subprocess.Popen(RUN, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "The box office is open" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, "Traceback" in err) == (0, "\nStopped.\n", False), err
