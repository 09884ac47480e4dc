"""``manage.py pooling status`` and ``stats``, on what several processes have told the store."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.core.management.color import no_style

from pooling import locked, runtime
from pooling.cache.stats import CacheStats
from pooling.management import tables
from pooling.status.fleet import together
from pooling.status.publisher import PREFIX
from tests import stores
from tests.waiting import until

from .documents import document, group, histogram, pool

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def site(settings: Any, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Iterator[None]:
    stores.use("redis", settings, monkeypatch, redis_url)
    yield
    runtime.reset_runtime()


def publish(*documents: dict[str, Any]) -> None:
    for one in documents:
        runtime.store().announce(PREFIX + one["process"]["id"], json.dumps(one).encode(), 60)


def run(*words: str, out: Any = None) -> tuple[int, str]:
    out = out or io.StringIO()
    code = 0
    try:
        call_command("pooling", *words, stdout=out, stderr=io.StringIO())
    except SystemExit as end:
        code = int(str(end.code))
    return code, out.getvalue() if isinstance(out, io.StringIO) else ""


def holder(**changes: Any) -> dict[str, Any]:
    return {
        "thread": "Thread-3",
        "view": "shop.views.book",
        "seconds": 4.5,
        "stack": ["views.py:12 in book"],
        **changes,
    }


def test_all_is_well() -> None:
    publish(document(1), document(2))
    code, text = run("status")
    assert code == 0
    assert "2 processes; 10 connections, 4 of them busy; 0 requests wait for one;" in text
    assert "No problems." in text
    assert f" {os.getpid()} " not in text  # this command is no part of the site
    assert re.search(r"^default +db:3306/shop +web:1:abc +up +5/8 +2 +0 ", text, re.MULTILINE)


def test_problems() -> None:
    publish(document(1, pools=[pool(busy=8, idle=0, size=8, waiting=3, holders=[holder()])]))
    with locked(writes=["events/7"], atomic=False):
        code, text = run("status")
    assert code == 1
    assert "! Pool 'default' of process web:1:abc: all 8 connections are in use, 3 wait" in text
    assert re.search(r"default +4\.5 s +web:1:abc +Thread-3 +shop\.views\.book +views\.py:12 in book", text)
    assert "events/7:X" in text


def test_nothing_is_known(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = run("status")
    assert code == 2
    assert "No process says how it is" in text
    assert run("stats")[0] == 2
    settings.CACHES = stores.caches("redis://127.0.0.1:1/0")
    runtime.reset_runtime()
    monkeypatch.undo()
    code, text = run("status")
    assert code == 2
    assert "The store cannot be asked" in text
    with pytest.raises(CommandError) as caught:
        run("locks")
    assert caught.value.returncode == 2  # 1 is that nobody holds anything


def test_the_store_in_memory_tells_nothing_of_the_site(settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "x"}}
    runtime.reset_runtime()
    code, text = run("status")
    assert code == 2
    assert "! POOLING['CACHE_ALIAS'] names the store in memory, so only this process is seen" in text
    assert "0 processes;" in text  # this command is no part of the site
    assert "No problems" not in text
    assert run("stats")[0] == 2
    # Who develops has one process, and knows it.
    settings.DEBUG = True
    code, text = run("status")
    assert code == 0
    assert "names the store in memory" in text
    assert run("stats")[0] == 0


def test_status_for_programs() -> None:
    publish(document(1, pools=[pool(state="down", error="OperationalError: 2003")]))
    code, text = run("status", "--json")
    found = json.loads(text)
    assert code == 1
    assert (found["state"], found["doubts"]) == ("problems", [])
    assert found["totals"]["size"] == 5
    assert "cannot reach its server" in found["problems"][0]


def test_groups_and_views() -> None:
    views = [CacheStats("shop.views.event", hits=3, misses=1, computed=1, compute_seconds=0.5).as_dict()]
    near = {"entries": 0, "bytes": 0, "limit": 1}
    publish(
        document(
            1,
            groups=[group("events", waits=(3.0,)), group("news", holds=(9.0,)), group("cart", waits=(1.0,))],
            cache={"views": views, "near": near},
        )
    )
    code, text = run("stats")
    assert code == 0
    assert re.findall(r"^(events|news|cart) ", text, re.MULTILINE) == ["events", "cart", "news"]
    assert re.search(r"^events +1 +1 +0 +75 % +\d\.\d s", text, re.MULTILINE)
    assert re.search(r"^shop\.views\.event +4 +3 +1 +75 % +500 ms +1\.5 s", text, re.MULTILINE)
    code, text = run("stats", "--top", "1", "--sort", "held")
    assert re.findall(r"^(events|news|cart) ", text, re.MULTILINE) == ["news"]
    assert "… and 2 more" in text
    found = json.loads(run("stats", "--json", "--top", "2")[1])
    assert [one["group"] for one in found["groups"]] == ["events", "cart"]


@pytest.mark.parametrize(
    "words", [("--top", "0"), ("--top", "x"), ("--sort", "x"), ("--watch", "0"), ("--watch", "nan")]
)
def test_bad_options(words: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match=f"argument {words[0]}"):
        run("stats", *words)


def test_options_of_django_may_stand_at_the_end() -> None:
    publish(document(1))
    plain, coloured = run("status", "--no-color", "-v", "0")[1], run("status", "--force-color")[1]
    assert "\x1b[" not in plain
    assert "\x1b[" in coloured
    assert run("--force-color", "status")[1] == coloured  # where Django documents them
    command = [sys.executable, "-m", "django", "pooling", "stats", "--settings", "tests.settings", "--skip-checks"]
    environ = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert "Nothing was counted yet" in done.stdout, done.stderr


class Terminal:
    """A real one, of a size; ``seen`` is what was written to it."""

    def __init__(self, columns: int, lines: int) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (lines, columns))
        self.file = os.fdopen(slave, "w")
        self.seen = ""
        # All the time and to the end: a terminal that nobody reads keeps waiting whoever writes to it, or closes it.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while data := os.read(self.master, 65536):
                self.seen += data.decode(errors="replace")

    def shows(self, pattern: str) -> bool:
        return re.search(pattern, self.seen, re.DOTALL) is not None

    def close(self) -> None:
        self.file.close()
        self._reader.join(20)
        os.close(self.master)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "12")
    made = Terminal(60, 12)
    yield made
    made.close()


@pytest.mark.parametrize("command", ["status", "stats", "locks"])
def test_watching_on_a_terminal_redraws_and_ends_with_ctrl_c(terminal: Terminal, command: str) -> None:
    publish(document(1, groups=[group(f"g{number}") for number in range(30)]))

    def operator() -> None:
        until(lambda: terminal.shows("\x1b\\[H.*\x1b\\[H.*\x1b\\[J"))
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=operator)
    thread.start()
    code, _ = run(command, "--watch", "0.1", out=terminal.file)
    thread.join(20)
    assert code == (1 if command == "locks" else 0)
    assert "Ctrl-C ends it" in terminal.seen
    first = terminal.seen.split("\x1b[H")[1]
    assert len(first.split("\n")) <= 12
    assert ("more lines" in first) is (command == "stats")


def test_watching_without_a_terminal_prints_one_after_the_other() -> None:
    publish(document(1))

    class Interrupted(io.StringIO):
        looks = 0

        def flush(self) -> None:
            self.looks += 1
            if self.looks == 3:
                raise KeyboardInterrupt

    out = Interrupted()
    assert run("status", "--watch", "0.1", "--json", out=out)[0] == 0
    lines = out.getvalue().strip().split("\n")
    assert [json.loads(line)["totals"]["processes"] for line in lines] == [1] * len(lines)
    assert "\x1b" not in out.getvalue()


def test_a_line_is_no_longer_than_the_terminal_is_wide(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(document(1, groups=[group("g" * 200)]))
    monkeypatch.setenv("COLUMNS", "100")
    run("stats", out=terminal.file)
    lines = until(lambda: terminal.shows("gg….*\n") and terminal.seen.splitlines())
    assert max(map(len, lines)) == 100


def test_what_a_process_says_cannot_move_the_cursor() -> None:
    evil = "\x1b[2J\r\n\x07"
    found = together([document(1, pools=[pool(evil, holders=[holder(view=evil)])], groups=[group(evil)])], []).as_dict()
    found["problems"] = [evil]
    for text in (
        tables.status(found, None, no_style()),
        tables.stats(found, None, no_style(), top=5, sort="waited"),
    ):
        assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_wait_histograms_are_shown_as_they_are() -> None:
    found = together([document(1, pools=[pool(wait=histogram(0.25, zeros=99))])], []).as_dict()
    assert re.search(r" 0 ms +0 ms +250 ms$", tables.status(found, None, no_style()), re.MULTILINE)
