"""The lab: what it refuses, what it shows, and that a run leaves nothing behind however it ends."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import MySQLdb
import pytest
import redis

from demo_site.client import MIX, Visitor
from demo_site.lab import pictures, records, waits
from demo_site.lab.delay import Delay
from demo_site.lab.plan import Plan
from demo_site.lab.run import EVENTS, STOPPING, Busy, alive, start, stop
from demo_site.lab.watch import statement
from demo_site.servers import free_port

from .site import Site, page

DEADLINE = 60.0  # seconds


def until(true: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + DEADLINE
    while not (found := true()):
        assert time.monotonic() < end, what
        time.sleep(0.02)
    return found


def connect(port: int | None = None, **more: Any) -> MySQLdb.Connection:
    return MySQLdb.connect(
        host=os.environ["POOLING_DB_HOST"],
        port=port or int(os.environ["POOLING_DB_PORT"]),
        user=os.environ.get("POOLING_DB_USER", "root"),
        password=os.environ.get("POOLING_DB_PASSWORD", ""),
        **more,
    )


def ask(sql: str) -> list[str]:
    with closing(connect()) as connection:
        cursor = connection.cursor()
        cursor.execute(sql)
        return [row[0] for row in cursor.fetchall()]


def processes(of: Path) -> list[str]:
    """The command lines of all processes that have this folder in theirs, or in their environment."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        try:
            said = (one / "cmdline").read_bytes() + (one / "environ").read_bytes()
        except OSError:  # it has ended
            continue
        if os.fsencode(of) in said and int(one.name) != os.getpid():
            found.append(said.replace(b"\0", b" ").decode(errors="replace")[:200])
    return found


def database_of(run: Path) -> str:
    note = run / "database"
    until(lambda: note.exists() and note.read_text() in ask("SHOW DATABASES"), "the run makes its database")
    return note.read_text()


def ticking(run: Path) -> bool:
    return any(scheme.ticks for scheme in records.read(run).schemes)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where runs of this test are; nothing of them may be left at its end."""
    monkeypatch.setenv("DEMO_RUN_DIR", str(tmp_path))
    for name in ("DATABASE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path / "lab"
    stop(tmp_path / "lab")
    left = [note.read_text() for note in (tmp_path / "lab").glob("*/database")]
    assert not set(left) & set(ask("SHOW DATABASES"))
    assert until(lambda: not processes(tmp_path), f"all processes of the run end: {processes(tmp_path)}")


# -- the plan


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"schemes": ()}, "at least one scheme"),
        ({"schemes": ("pooling", "magic")}, "no scheme 'magic' here. Choose from thread"),
        ({"schemes": ("pooling", "pooling")}, "each scheme once"),
        ({"visitors": 0}, "visitors must be a whole number from 1 to 128, not 0"),
        ({"visitors": 1.5}, "whole number"),
        ({"visitors": True}, "whole number"),
        ({"connections": 65}, "connections must be a whole number from 1 to 64"),
        ({"seconds": 0.5}, "seconds must be a number from 1 to 60"),
        ({"seconds": float("nan")}, "seconds must be"),
        ({"latency": -1}, "latency must be a number from 0 to 50"),
        ({"mix": {"seats": 0, "book": 0}}, "a weight above 0"),
        ({"mix": {"sleep": 1}}, "no kind of visit 'sleep'"),
        ({"mix": {"seats": -1}}, "the weight of 'seats'"),
    ],
)
def test_a_plan_says_what_is_wrong_with_it(options: Mapping[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        Plan(**options)


def test_a_plan_comes_back_from_json_as_it_was() -> None:
    plan = Plan(schemes=("pooling", "thread"), visitors=3, seconds=1.5, latency=2.5, mix={"seats": 1, "book": 2})
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_mix_is_written_by_name_and_weight() -> None:
    assert Plan.parse_mix("seats=40, book=10") == {"seats": 40, "book": 10}
    for wrong in ("", "seats", "seats=", "seats=-1", "seats=1.5", "seats=1;book=2", "seats=٣"):
        with pytest.raises(ValueError, match="written seats=40,book=10"):
            Plan.parse_mix(wrong)


# -- what a run has written


def written(folder: Path, *events: Mapping[str, Any], plan: Plan | None = None, tail: str = "") -> Path:
    run = folder / "20260102-030405-abcd"
    run.mkdir(parents=True)
    (run / "alive").touch()
    (run / "plan.json").write_text(json.dumps((plan or Plan(schemes=("thread", "pooling"), seconds=2)).to_json()))
    if events or tail:
        (run / EVENTS).write_text("".join(json.dumps(event) + "\n" for event in events) + tail)
    return run


def tick(scheme: str, t: float, waits: Sequence[Any] = ()) -> dict[str, Any]:
    more = {"answered": 1, "errors": 0, "rate": 4.0, "p50": 0.1, "p99": None, "connections": 1, "waits": waits}
    return {"kind": "tick", "scheme": scheme, "t": t, **more}


def result(scheme: str, rate: float, **more: Any) -> dict[str, Any]:
    plain = {"p50": 0.1, "p99": 0.2, "connections": 1, "errors": {}, "done": {}, "sold_twice": 0, "money_astray": "0"}
    return {"kind": "result", "scheme": scheme, "rate": rate, **plain, **more}


def test_what_is_being_written_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    run = records.read(written(tmp_path, tick("thread", 1.0), tail='{"kind": "tick", "sche'))
    assert [len(scheme.ticks) for scheme in run.schemes] == [1, 0]
    assert run.progress == 0.25
    assert run.started.isoformat() == "2026-01-02T03:04:05+00:00"


def test_a_run_without_a_process_has_died_unless_it_said_why_it_ended(tmp_path: Path) -> None:
    assert records.read(written(tmp_path / "a")).died
    stopped = records.read(written(tmp_path / "b", {"kind": "failed", "why": "It was stopped."}))
    assert (stopped.died, stopped.over, stopped.now) == (False, True, "The run ended early: It was stopped.")
    ended = records.read(written(tmp_path / "c", {"kind": "ended"}))
    assert (ended.died, ended.over, ended.progress) == (False, True, 1.0)


def test_the_best_is_the_fastest_in_which_nothing_went_wrong(tmp_path: Path) -> None:
    wrong = result("thread", 900, sold_twice=1, done={"wrong reports": 2}, errors={"HTTP 500": 3}, money_astray="1.50")
    run = records.read(written(tmp_path, wrong, result("pooling", 100)))
    assert run.best is run.schemes[1]
    assert run.schemes[0].went_wrong == [
        "3 × HTTP 500",
        "1 seat sold twice",
        "1.50 of money astray",
        "2 wrong reports",
    ]


def test_what_is_no_run_of_this_version_is_unreadable(tmp_path: Path) -> None:
    other = written(tmp_path)
    for plan in ("", "[]", '{"schemes": ["gone"]}', '{"schemes": ["pooling"], "colour": 1}'):
        (other / "plan.json").write_text(plan)
        with pytest.raises(records.Unreadable):
            records.read(other)
    with pytest.raises(records.Unreadable):
        records.read(tmp_path / "nothing")


def test_pictures_escape_what_they_show(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>'
    run = records.read(written(tmp_path, tick("thread", 0.5, [[evil, f"{evil}&", 3], ["event", "event", 1]])))
    shown = pictures.waits(run.schemes[0]) + "".join(pictures.charts(run))
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert run.schemes[0].waits[0] == (evil, f"{evil}&", 3)


def paths(chart: str) -> list[str]:
    return re.findall(r'<path class="line s\d" d="(.*?)"', chart)


def test_where_nobody_was_answered_the_line_is_broken(tmp_path: Path) -> None:
    """To wait for ever is not to be answered within no time."""
    ticks = [{**tick("thread", number / 4), "p99": p99} for number, p99 in enumerate((None, 0.1, None, 0.2, 0.4, None))]
    run = records.read(written(tmp_path, *ticks))
    (line,) = paths(pictures.charts(run)[1])
    assert re.fullmatch(r"M[\d.,]+h2M[\d.,]+L[\d.,]+", line)


def test_it_is_said_what_is_being_set_up(tmp_path: Path) -> None:
    begins = {"kind": "begins", "scheme": "thread"}
    for number, (events, said) in enumerate(
        (
            ((), "Setting up the database …"),
            ((begins,), "Setting up, visitors sign in: a connection per thread …"),
            ((begins, tick("thread", 0.5)), "Measuring: a connection per thread …"),
            ((begins, result("thread", 9)), "Going on to the next scheme …"),
        )
    ):
        run = written(tmp_path / str(number), *events)
        with open(run / "alive") as alive:
            fcntl.flock(alive, fcntl.LOCK_EX)
            assert records.read(run).now == said
            (run / STOPPING).touch()
            assert records.read(run).now == "Stopping …"


def test_pictures_stay_inside_their_axes(tmp_path: Path) -> None:
    late = tick("thread", 7.5)  # the last visitors came back long after the two seconds
    run = records.read(written(tmp_path, tick("thread", 0.25), late))
    for chart in pictures.charts(run):
        for x, y in re.findall(r"([\d.]+),([\d.]+)", "".join(paths(chart))):
            assert pictures.LEFT <= float(x) <= pictures.WIDTH
            assert pictures.TOP <= float(y) <= pictures.HEIGHT - pictures.BOTTOM


# -- who waits


def test_a_statement_is_named_without_its_values() -> None:
    secret = "UPDATE `boxoffice_account` SET `balance` = 'secret' WHERE id = 3"
    assert statement(secret) == "UPDATE account"
    assert statement("SELECT `a` FROM `boxoffice_seat` WHERE x = 'secret' FOR UPDATE") == "SELECT seat"
    assert statement("COMMIT") == "COMMIT"
    assert statement(None) == "an open transaction"


def test_a_watched_lock_knows_who_has_it_and_who_waits() -> None:
    lock = waits.WatchedLock()
    waiting = threading.Thread(target=lambda: (waits._page.set("POST b"), lock.acquire(), lock.release()))
    token = waits._page.set("GET a")
    lock.acquire()
    waits._page.reset(token)
    assert lock.waits() == Counter()
    waiting.start()
    until(lambda: lock.waits() == Counter({("POST b", "GET a"): 1}), "the second is seen waiting for the first")
    assert ("POST b", "GET a", 1) in waits.found()
    assert not lock.acquire(timeout=0)
    threading.Thread(target=lock.release).start()  # by whichever thread ends the request
    waiting.join(DEADLINE)
    assert not waiting.is_alive()
    assert lock.waits() == Counter()
    waits._locks.remove(lock)


# -- a database further away


def test_a_delayed_way_carries_every_byte() -> None:
    host, port = os.environ["POOLING_DB_HOST"], int(os.environ["POOLING_DB_PORT"])
    data = os.urandom(3_000_000)
    with Delay(host, port, 0.002) as way, closing(connect(way.port, use_unicode=False)) as near:
        cursor = near.cursor()
        cursor.execute("SELECT %s", [data])  # far more than one piece, both ways
        assert cursor.fetchone() == (data,)
        cursor.execute("SELECT SLEEP(0), 'after'")
        assert cursor.fetchone() == (0, b"after")


def test_a_delayed_way_keeps_latency_and_order_by_its_own_clock() -> None:
    """Each piece is sent on half the latency after it came, by the clock of the way itself."""
    host, port = os.environ["POOLING_DB_HOST"], int(os.environ["POOLING_DB_PORT"])
    with Delay(host, port, 0.05) as way, closing(connect(way.port)) as near:
        cursor = near.cursor()
        begin = way._loop.time()
        cursor.execute("SELECT 1")
        assert way._loop.time() - begin >= 0.05  # never less, however slow the machine


def test_who_hangs_up_behind_a_delay_is_gone_in_front_of_it() -> None:
    host, port = os.environ["POOLING_DB_HOST"], int(os.environ["POOLING_DB_PORT"])
    with Delay(host, port, 0.001) as way:
        near = connect(way.port)
        number = near.thread_id()
        near.close()
        gone = f"SELECT id FROM information_schema.processlist WHERE id = {number}"
        until(lambda: not ask(gone), "the server hears of the end")
        near = connect(way.port)
        ask_to_kill(near.thread_id())
        with pytest.raises(MySQLdb.OperationalError):
            near.query("SELECT 1")


def ask_to_kill(number: int) -> None:
    with closing(connect()) as connection:
        connection.query(f"KILL {number}")


def test_a_delayed_way_to_nobody_refuses_as_nobody_would() -> None:
    with Delay("/nowhere/at.all", 0, 0.001) as way, pytest.raises(MySQLdb.OperationalError):
        connect(way.port)


# -- whole runs


def command(*args: str) -> subprocess.CompletedProcess[str]:
    done = [sys.executable, "manage.py", "lab", *args]
    return subprocess.run(done, capture_output=True, text=True, env={**os.environ, **NO_SETTINGS})


NO_SETTINGS = {"DJANGO_SETTINGS_MODULE": "demo_site.settings"}


def test_the_command_measures_and_says_everything_as_json(folder: Path) -> None:
    done = command("pooling", "--seconds", "1", "--visitors", "4", "--connections", "2", "--latency", "1", "--json")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["kind"] for event in events if event["kind"] != "tick"] == ["begins", "result", "ended"]
    ticks = [event for event in events if event["kind"] == "tick"]
    assert ticks
    assert all(a["answered"] <= b["answered"] and a["t"] < b["t"] for a, b in pairwise(ticks))
    (measured,) = (event for event in events if event["kind"] == "result")
    assert measured["rate"] > 0
    assert 1 <= measured["connections"] <= 2  # the pool's, and of nobody who looks on
    assert max(event["connections"] for event in ticks) <= 2
    assert (measured["errors"], measured["sold_twice"], float(measured["money_astray"])) == ({}, 0, 0)
    assert not list(folder.glob("*/database"))


def test_with_locks_and_pages_in_redis_nothing_of_them_is_left_there(folder: Path) -> None:
    client = redis.Redis.from_url(os.environ["POOLING_REDIS_URL"])
    options = ["--seconds", "60", "--visitors", "4", "--json"]
    line = [sys.executable, "manage.py", "lab", "pooling_redis", *options]
    lab = subprocess.Popen(line, env={**os.environ, **NO_SETTINGS}, stdout=subprocess.PIPE, text=True)
    try:
        (run,) = until(lambda: list(folder.glob("2*")), "the run begins")
        name = database_of(run)
        until(lambda: list(client.scan_iter(match=f"{{{name}}}:*")), "the site locks in Redis")
        until(lambda: ask(f"SELECT 1 FROM {name}.pooling_fence"), "its writers claim their groups in the database")
        lab.send_signal(signal.SIGINT)
        said, _ = lab.communicate(timeout=DEADLINE)
        assert '"errors": {}' in said or '"kind": "result"' not in said
        assert not list(client.scan_iter(match=f"*{name}*"))
    finally:
        lab.kill()
        lab.communicate()


def test_the_command_refuses_in_one_line(folder: Path) -> None:
    for args, text in (
        (["--visitors", "0"], "visitors must be"),
        (["magic"], "no scheme 'magic'"),
        (["--mix", "seats"], "written seats=40,book=10"),
        (["--mix", "sleep=1"], "no kind of visit 'sleep'"),
    ):
        done = command(*args)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
        assert text in done.stderr
    assert not folder.exists()


def test_without_a_server_the_command_starts_its_own_and_ctrl_c_ends_all(folder: Path) -> None:
    given = {"POOLING_REDIS_URL", *(f"POOLING_DB_{name}" for name in ("HOST", "PORT", "USER", "PASSWORD"))}
    own = {key: value for key, value in os.environ.items() if key not in given} | NO_SETTINGS
    line = [sys.executable, "manage.py", "lab", "shared", "--seconds", "60", "--visitors", "2", "--json"]
    lab = subprocess.Popen(line, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert lab.stdout is not None
        until(lambda: json.loads(lab.stdout.readline())["kind"] == "tick", "the visitors begin")  # type: ignore[union-attr]
        lab.send_signal(signal.SIGINT)
        rest, said = lab.communicate(timeout=DEADLINE)
        assert (lab.returncode, "Stopped." in said, "Traceback" in said) == (130, True, False), said
        assert all(json.loads(line) for line in rest.splitlines())
        (run,) = (path for path in folder.iterdir() if path.is_dir())
        assert records.read(run).now == "The run ended early: It was stopped."
        assert not (run / "database").exists()
    finally:
        lab.kill()
        lab.communicate()


def test_there_is_one_run_at_a_time_and_stopping_it_leaves_nothing(folder: Path) -> None:
    run, process = start(Plan(schemes=("shared",), visitors=2, seconds=60), folder)
    assert alive(run)
    with pytest.raises(Busy):
        start(Plan(), folder)
    assert "Another run is under way" in command("pooling").stderr
    name = database_of(run)
    until(lambda: ticking(run), "the visitors begin")
    stop(folder)
    assert process.wait() == 128 + signal.SIGTERM
    assert records.read(run).now == "The run ended early: It was stopped."
    assert name not in ask("SHOW DATABASES")


def test_what_a_killed_run_left_is_dropped_by_the_next(folder: Path) -> None:
    run, process = start(Plan(schemes=("thread",), visitors=2, seconds=60), folder)
    name = database_of(run)
    until(lambda: ticking(run), "the visitors begin")
    process.kill()
    process.wait()
    assert records.read(run).died
    assert name in ask("SHOW DATABASES")
    until(lambda: not processes(run), "its web server ends by itself")
    again, process = start(Plan(schemes=("thread",), visitors=2, seconds=1), folder)
    assert process.wait(DEADLINE) == 0, (again / "output.log").read_text()
    assert records.read(again).ended
    assert name not in ask("SHOW DATABASES")


def test_a_run_that_cannot_begin_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POOLING_DB_PASSWORD", "wrong")
    monkeypatch.setenv("POOLING_DB_USER", "nobody")
    _, process = start(Plan(schemes=("thread",)), folder)
    assert process.wait(DEADLINE) == 1
    monkeypatch.undo()
    (run,) = (path for path in folder.iterdir() if path.is_dir())
    assert "Access denied" in records.read(run).failure


# -- the pages

FORM = {"schemes": "pooling", "visitors": "2", "connections": "2", "latency": "0", "seconds": "1"}


def filled(**changed: str) -> list[tuple[str, str]]:
    return list({**FORM, **{f"mix_{name}": "1" for name in MIX}, **changed}.items())


def location(visitor: Visitor, form: list[tuple[str, str]]) -> str:
    """Where a POST to the lab leads to."""
    connection = http.client.HTTPConnection("127.0.0.1", visitor.port)
    cookies = "; ".join(f"{key}={value}" for key, value in visitor.cookies.items())
    headers = {"Cookie": cookies, "Content-Type": "application/x-www-form-urlencoded"}
    body = urlencode([*form, ("csrfmiddlewaretoken", visitor.cookies["csrftoken"])])
    with closing(connection):
        connection.request("POST", "/lab/", body, headers)
        answer = connection.getresponse()
        assert answer.status == 302, answer.read().decode()
        return answer.headers["Location"]


def test_the_lab_asks_to_sign_in(stranger: Visitor) -> None:
    run = "/lab/runs/20260102-030405-abcd/"
    for path in ("/lab/", run, f"{run}state/", f"{run}end/"):
        assert stranger.request("GET", path)[0] == 302


def test_the_lab_knows_no_folders_but_those_of_its_runs(alice: Visitor) -> None:
    for name in ("..", "%2e%2e", "..%2fsecret_key", "%2e%2e%2f%2e%2e%2fetc", "lock", "20260102-030405-abcd", "x%00"):
        for tail in ("", "state/"):
            assert alice.request("GET", f"/lab/runs/{name}/{tail}")[0] == 404, name


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"schemes": "magic"}, "magic is not one of the available choices"),
        ({"visitors": "0"}, "greater than or equal to 1"),
        ({"visitors": "many"}, "Enter a whole number"),
        ({"connections": "1000"}, "less than or equal to 64"),
        ({"latency": "nan"}, "Enter a number"),
        ({"seconds": "1e9"}, "less than or equal to 60"),
        ({"mix_book": "-1"}, "greater than or equal to 0"),
        ({f"mix_{name}": "0" for name in MIX}, "a weight above 0"),
        ({"seconds": ""}, "This field is required"),
    ],
)
def test_bad_input_is_said_beside_its_field(alice: Visitor, changed: dict[str, str], text: str) -> None:
    page(alice, "/lab/")
    status, body = alice.request("POST", "/lab/", filled(**changed))
    assert (status, text in body.decode()) == (400, True), body.decode()


def test_no_scheme_at_all_is_said_in_words(alice: Visitor) -> None:
    page(alice, "/lab/")
    status, body = alice.request("POST", "/lab/", [one for one in filled() if one[0] != "schemes"])
    assert (status, "Choose at least one scheme." in body.decode()) == (400, True)


def test_a_run_over_http_from_begin_to_end(site: Site, alice: Visitor, bob: Visitor) -> None:
    page(alice, "/lab/")
    page(bob, "/lab/")
    path = location(alice, filled(latency="0.5"))
    status, body = bob.request("POST", "/lab/", filled())
    assert (status, "Another run is under way" in body.decode()) == (409, True)
    assert "under way" in page(bob, "/lab/")
    state = until(lambda: "Done: every scheme" in (now := page(bob, f"{path}state/")) and now, "the run ends")
    assert 'value="100"' in state
    assert 'class="line s0"' in state
    assert "ended early" not in state
    whole = page(alice, path)
    assert "lab.js" not in whole  # nothing more will change
    assert "0.5 ms further away" in whole
    assert path in page(alice, "/lab/")
    folder = Path(site.env["DEMO_RUN_DIR"]) / "lab"
    stop(folder)  # returns when its process has gone
    assert not list(folder.glob("*/database"))


def test_a_run_is_stopped_from_its_page(site: Site, alice: Visitor, bob: Visitor) -> None:
    page(alice, "/lab/")
    page(bob, "/lab/")
    path = location(alice, filled(schemes="thread", seconds="60"))
    folder = Path(site.env["DEMO_RUN_DIR"]) / "lab"
    until(lambda: ticking(folder / path.split("/")[3]), "the visitors begin")
    assert f'action="{path}end/"' in page(bob, path)
    assert bob.request("GET", f"{path}end/")[0] == 405  # a link must not do it
    assert bob.request("POST", f"{path}end/", [])[0] == 302
    until(lambda: "The run ended early: It was stopped." in page(alice, f"{path}state/"), "it is said")
    assert f"{path}end/" not in page(alice, path)
    assert bob.request("POST", f"{path}end/", [])[0] == 302  # nobody is there any more
    stop(folder)
    assert not list(folder.glob("*/database"))


def test_ctrl_c_of_the_demo_ends_the_run_before_its_servers(folder: Path) -> None:
    env = {**os.environ, "PORT": str(free_port()), "WORKLOAD": "0", "SERVE": "1", "PYTHONUNBUFFERED": "1"}
    url = f"mysql://{os.environ.get('POOLING_DB_USER', 'root')}:{os.environ.get('POOLING_DB_PASSWORD', '')}@"
    name = f"boxoffice_own_{os.getpid()}"
    env["DATABASE_URL"] = f"{url}{os.environ['POOLING_DB_HOST']}:{os.environ['POOLING_DB_PORT']}/{name}"
    demo = subprocess.Popen([sys.executable, "-m", "demo_site.run"], env=env, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    try:
        assert any("is open at" in line for line in demo.stdout)
        carol = Visitor("carol", "box-office", seed=1)
        carol.at(int(env["PORT"]))
        carol.sign_in()
        page(carol, "/lab/")
        run = folder / location(carol, filled(schemes="shared", seconds="60")).split("/")[-2]
        carol.leave()
        own = database_of(run)
        until(lambda: ticking(run), "the visitors begin")
        demo.send_signal(signal.SIGINT)
        assert demo.wait(DEADLINE) == 0
        assert own not in ask("SHOW DATABASES")
        assert records.read(run).now == "The run ended early: It was stopped."
        assert not processes(run)
    finally:
        demo.kill()
        demo.wait()
        demo.stdout.close()
        with closing(connect()) as connection:
            connection.query(f"DROP DATABASE IF EXISTS {name}")
