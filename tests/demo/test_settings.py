"""What the demo takes from its environment."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from demo_site import database_url
from demo_site.web import HOST, listen


def test_database_urls() -> None:
    assert database_url.parse("mysql://me:p%40ss@db.example:3307/shop") == {
        "NAME": "shop",
        "USER": "me",
        "PASSWORD": "p@ss",
        "HOST": "db.example",
        "PORT": "3307",
    }
    assert database_url.parse("mysql://me@/shop?unix_socket=/run/my.sock")["HOST"] == "/run/my.sock"


@pytest.mark.parametrize(
    "url", ["postgres://a/b", "mysql://a@b", "mysql://a@b/", "mysql://a@b/c/d", "mysql://a@b:x/c", "mysql://a@b/c?d=e"]
)
def test_a_bad_database_url_says_what_to_change(url: str) -> None:
    with pytest.raises(ValueError, match="DATABASE_URL"):
        database_url.parse(url)


@pytest.mark.parametrize("port", ["http", "0", "70000", "-1"])
def test_a_bad_port_is_refused(port: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo_site.run"], env={**os.environ, "PORT": port}, capture_output=True, text=True
    )
    assert (done.returncode, "PORT must be a number" in done.stderr) == (2, True), done.stderr


def test_a_port_in_use_is_said_before_anything_is_started() -> None:
    with listen() as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "demo_site.run"],
            env={**os.environ, "PORT": str(port)},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 1
    assert f"Port {port} on {HOST} cannot be used" in done.stderr
    assert "PORT=" in done.stderr
    assert "MariaDB" not in done.stdout
