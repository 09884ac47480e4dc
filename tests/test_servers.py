"""The private servers themselves: they serve, they leave nothing behind, they die with whoever started them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import MySQLdb
import pytest
import redis
from django.db import connection

from demo_site import private_server
from demo_site.servers import PrivateDatabase, PrivateRedis, ServerError, private_database, versions

ROOT = Path(__file__).resolve().parent.parent


def gone(pid: int, deadline: float = 30.0) -> bool:
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.django_db
def test_the_database_of_the_tests_is_there_with_time_zones() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT CONVERT_TZ('2024-07-01 12:00:00', 'UTC', 'Europe/Paris')")
        assert str(cursor.fetchone()[0]) == "2024-07-01 14:00:00"


def test_a_database_in_a_long_path_with_a_space(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with spaces" / ("x" * 100)
    server = private_database(folder, password="it's a \\secret", max_connections=17)
    with server:
        assert len(server.socket) <= 100
        db = MySQLdb.connect(host=server.host, port=server.port, user="root", password="it's a \\secret")
        cursor = db.cursor()
        cursor.execute("SELECT @@max_connections")
        assert cursor.fetchone() == (17,)
        cursor.execute("CREATE DATABASE kept")
        db.close()
        with pytest.raises(MySQLdb.OperationalError):
            MySQLdb.connect(host=server.host, port=server.port, user="root", password="")
        with pytest.raises(ServerError, match=f"Another {server.label} runs on"):
            private_database(folder).start()
        port = server.port
        server.kill(signal.SIGKILL)
        assert not server.running
        server.start()
        assert server.port == port
        db = MySQLdb.connect(host=server.host, port=server.port, user="root", password="it's a \\secret", db="kept")
        db.close()
        pid = server.pid
        assert pid is not None
        server.kill(signal.SIGSTOP)
    assert gone(pid)
    assert not os.path.exists(server.socket)
    server.stop()  # once more does nothing


def test_redis_restarts_on_its_port(tmp_path: Path) -> None:
    with PrivateRedis(tmp_path / "r") as server:
        port, first = server.port, server.pid
        server.restart()
        assert (server.port, server.pid != first) == (port, True)
        with socket.create_connection((server.host, server.port)) as link:
            link.sendall(b"PING\r\n")
            assert link.recv(16) == b"+PONG\r\n"


def test_a_taken_port_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with PrivateRedis(tmp_path / "first") as first:
        real, offered = private_server.free_port, [first.port]
        monkeypatch.setattr(private_server, "free_port", lambda: offered.pop() if offered else real())
        with PrivateRedis(tmp_path / "second") as second:
            assert not offered
            assert second.port != first.port


def test_versions_are_those_of_the_servers(private_mariadb: PrivateDatabase, private_redis: PrivateRedis) -> None:
    host = {"host": private_mariadb.host, "port": private_mariadb.port, "user": private_mariadb.user}
    with MySQLdb.connect(**host) as server, redis.Redis.from_url(private_redis.url) as client:
        info = client.info("server")
        kind = "Valkey" if "valkey_version" in info else "Redis"
        found = versions()
        assert set(found) == {private_mariadb.label, kind}
        assert server.get_server_info().startswith(found[private_mariadb.label])
        assert info[f"{kind.lower()}_version"] == found[kind]


@pytest.mark.parametrize("variable", ["POOLING_DB_PROGRAM", "POOLING_REDIS_PROGRAM"])
def test_a_program_that_is_not_there(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "/nowhere/served")
    with pytest.raises(ServerError, match=f"{variable} names /nowhere/served, which is no program here"):
        private_database(tmp_path) if variable == "POOLING_DB_PROGRAM" else PrivateRedis(tmp_path).start()


def test_a_failed_start_shows_the_end_of_the_log(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"unknown variable|unknown option"):
        private_database(tmp_path / "db", options=["--no-such-option-at-all=1"]).start()
    private_database(tmp_path / "db").start().stop()  # the folder is not blocked and not damaged


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_the_server_ends_with_the_process_that_started_it(tmp_path: Path, sig: signal.Signals) -> None:
    program = """
        import signal, sys, time
        from demo_site.servers import PrivateRedis
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background jobs
        server = PrivateRedis(sys.argv[1]).start()
        print(server.pid, flush=True)
        time.sleep(600)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "r")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout is not None
        pid = int(child.stdout.readline())
        child.send_signal(sig)
        child.wait(30)
    assert gone(pid)


def test_a_forked_child_leaves_its_parents_servers_alone(tmp_path: Path) -> None:
    with PrivateRedis(tmp_path / "r") as server:
        child = os.fork()
        if child == 0:
            try:
                private_server._stop_all()
                server.stop()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        with socket.create_connection((server.host, server.port)) as link:
            link.sendall(b"PING\r\n")
            assert link.recv(16) == b"+PONG\r\n"
