"""``manage.py pooling``, as an operator types it."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from pooling import breaking, fences, locked, runtime
from pooling.errors import LockLost
from pooling.groups import Mode
from pooling.store.protocol import LockRequest

pytestmark = pytest.mark.django_db(transaction=True)


def run(*words: str) -> tuple[int, str]:
    out = io.StringIO()
    status = 0
    try:
        call_command("pooling", *words, stdout=out, stderr=io.StringIO())
    except SystemExit as end:
        status = int(str(end.code))
    return status, out.getvalue()


@pytest.fixture
def held() -> Iterator[Any]:
    with locked(writes=["accounts/7"], reads=["rates"], atomic=False) as held:
        yield held


def test_locks_as_a_table(held: Any) -> None:
    status, text = run("locks")
    assert status == 0
    head, line = text.splitlines()
    assert head.split() == ["for", "ticket", "who", "groups"]
    for word in ("holds", "with locked(…)", held._ticket, "accounts:IX accounts/7:X rates:S"):
        assert word in line
    assert run("locks", "accounts/7")[0] == 0
    none = 1 if runtime.store().shared else 2  # in memory others than this process are not seen
    assert run("locks", "accounts/8") == (none, "Nobody holds or waits for anything.\n")


def test_who_is_in_the_way_of_a_group_has_perhaps_what_is_above_or_below(settings: Any) -> None:
    """What somebody waits for has been asked for: that it is all free must not be said of it."""
    with locked(writes=["events"], atomic=False):
        assert "events:X" in run("locks", "events/7")[1]
        assert run("locks", "accounts")[0] == (1 if runtime.store().shared else 2)
    with locked(writes=["events/7"], atomic=False):
        assert "events/7:X" in run("locks", "events")[1]
        settings.DEBUG = True
        assert run("locks", "events/8")[0] == 1


def test_whoever_has_read_enough_of_it_ends_it_without_a_traceback() -> None:
    command = [sys.executable, "-m", "django", "pooling", "locks", "--watch", "0.1", "--json"]
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "[]\n"
        process.stdout.close()
        assert process.wait(30) == 128 + 13
        assert "Traceback" not in process.stderr.read()


def test_what_is_done_by_hand_is_logged_with_who_did_it(held: Any, caplog: pytest.LogCaptureFixture) -> None:
    run("break", held._ticket)
    run("invalidate", "accounts/7", "rates")
    run("purge")
    told = [record.getMessage() for record in caplog.records if record.name == "pooling.operate"]
    me = repr(breaking.myself())
    place = f"{socket.gethostname()} pid {os.getpid()}, {threading.current_thread().name}"
    assert told == [
        f"{me} broke the lock of 'with locked(…)' ({place}), ticket {held._ticket!r}: accounts/7, rates",
        f"{me} invalidated accounts/7, rates",
        f"{me} deleted 0 fences in 'default'",
    ]


def test_locks_for_programs(held: Any) -> None:
    (entry,) = json.loads(run("locks", "--json")[1])
    assert entry["state"] == "holds"
    assert entry["groups"] == {"accounts": "IX", "accounts/7": "X", "rates": "S"}


def test_break(held: Any) -> None:
    assert "Taken from with locked(…)" in run("break", held._ticket)[1]
    assert runtime.store().parties() == []
    with pytest.raises(LockLost):
        held.check()
    with pytest.raises(CommandError, match="Nobody has the ticket"):
        run("break", held._ticket)


def test_a_waiter_is_not_broken(held: Any) -> None:
    """Taken out of the queue it would ask again, behind all others."""
    store = runtime.store()
    wants = (("rates", Mode.X),)
    store.acquire(LockRequest("w.1", wants, 30.0, 30.0, owner={"view": "shop.views.rate", "host": "web", "pid": "7"}))
    try:
        with pytest.raises(CommandError, match=r"shop\.views\.rate \(web pid 7, \?\) only waits, for rates:X: it has"):
            run("break", "w.1")
        assert [party.ticket for party in store.parties()] == [held._ticket, "w.1"]
    finally:
        store.release("w.1")


@pytest.mark.parametrize(
    ("group", "words"), [("a//b", "empty level"), ("", "is empty"), ("a/{x}", "braces"), ("/a", "starts or ends")]
)
def test_locks_of_what_is_no_group(group: str, words: str) -> None:
    with pytest.raises(CommandError, match=words):
        run("locks", "rates", group)


def test_invalidate() -> None:
    store = runtime.store()
    before = store.epochs(["U:events"])
    assert "events/7" in run("invalidate", "events/7")[1]
    assert store.epochs(["U:events"]) != before
    with pytest.raises(CommandError, match="starts or ends"):
        run("invalidate", "events/")


def test_purge() -> None:
    fences.forget()
    fences.prepare("default", [], ["old/1", "new/1"])
    fences.claim("default", [], ["new/1"], int(time.time() * 1e6))
    assert run("purge")[1] == "1 fence deleted in 'default'\n"
    with pytest.raises(CommandError, match="at least"):
        run("purge", "--older-than", "1")
    assert run("purge")[1] == "0 fences deleted in 'default'\n"
    for text in ("inf", "nan", "1e30", "-1", "0"):
        with pytest.raises(CommandError, match=r"--older-than must be (at most 1000000000|a finite number of) seconds"):
            run("purge", f"--older-than={text}")
    with pytest.raises(CommandError, match="no 'elsewhere'"):
        run("purge", "--database", "elsewhere")


def test_the_store_in_memory_is_said_to_be_this_process_only(settings: Any) -> None:
    said = io.StringIO()
    out = io.StringIO()
    call_command("pooling", "invalidate", "a", stdout=out, stderr=said)
    assert "only this process is seen" in said.getvalue()
    assert out.getvalue() == "Invalidated, in this process only: a\n"
