"""``manage.py pooling warm``: what it asks for is what visitors find, and what it could not store it says."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.core.signals import request_finished
from django.db import connection
from django.test import Client, override_settings

from pooling import invalidate, locked, routes, runtime, warming
from pooling.testing import assertCached, assertNotCached
from tests.app.models import Note

from . import site

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.django_db(transaction=True)


def run(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    status = 0
    try:
        call_command("pooling", "warm", *words, stdout=out, stderr=err)
    except SystemExit as end:
        status = int(str(end.code))
    return status, out.getvalue(), err.getvalue()


def warmed(*words: str) -> dict[str, Any]:
    """The records of --json, by URL behind the host."""
    records = json.loads(run("--json", *words)[1])
    return {record["url"].removeprefix("http://testserver"): record for record in records}


def holders() -> list[str]:
    """The threads of requests that have a connection. What other tests have left is none of theirs."""
    held = connection.pool.holders()  # type: ignore[attr-defined]
    return [one.thread for one in held if one.thread.startswith("pooling-warm")]


def refused(*words: str) -> str:
    with pytest.raises(CommandError) as caught:
        run(*words)
    assert site.seen == []
    return str(caught.value)


@pytest.fixture
def one() -> Note:
    return Note.objects.create(text="one")


# -- what is warmed is what visitors find


@pytest.mark.parametrize(
    "path",
    [
        *("/words", "/", "/words?b=2&a=1", "/words?q=gr%C3%B6%C3%9Fe", "/50%25/gr%C3%B6%C3%9Fe~a,b", "/shop/"),
        *("/shop/bare", "/shop/a-book/", "/of/7/words", "/archive/7", "/async", "/chosen", "/notes", "/people/7"),
        "/en/hello",
    ],
)
def test_a_visitor_finds_the_page(path: str) -> None:
    status, out, _ = run(path)
    assert status == 0, out
    assertCached(Client().get(path))
    assert len(site.seen) == 2


def test_letters_need_not_be_escaped() -> None:
    assert run("/50%25/größe~a,b", "/words?q=größe")[0] == 0
    assertCached(Client().get("/50%25/gr%C3%B6%C3%9Fe~a,b"))
    assertCached(Client().get("/words?q=gr%C3%B6%C3%9Fe"))


def test_another_host_or_scheme_is_another_page() -> None:
    with override_settings(ALLOWED_HOSTS=["testserver", "b.example", "c.example"]):
        assert run("/words", "--host", "b.example:8000")[0] == 0
        assert run("https://c.example/words?x=1", "/words", "--host", "https://b.example")[0] == 0
        assertCached(Client().get("/words", headers={"host": "b.example:8000"}))
        assertCached(Client().get("/words?x=1", secure=True, headers={"host": "c.example"}))
        assertCached(Client().get("/words", secure=True, headers={"host": "b.example"}))
        assertNotCached(Client().get("/words", headers={"host": "b.example"}))


@pytest.mark.parametrize(
    ("host", "site"),
    [
        ("https://Shop.Example:443", "https://shop.example"),
        ("http://shop.example:80/", "http://shop.example"),
        ("http://shop.example:443", "http://shop.example:443"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_a_host_is_what_browsers_make_of_it(host: str, site: str) -> None:
    with override_settings(ALLOWED_HOSTS=["*"]):
        (record,) = json.loads(run("--json", "/words", "--host", host)[1])
    assert (record["url"], record["state"]) == (site + "/words", "stored")


@pytest.mark.parametrize(
    ("overridden", "url"),
    [
        ({}, "http://testserver"),
        ({"ALLOWED_HOSTS": ["*", ".example.org", "shop.example"]}, "http://shop.example"),
        ({"SECURE_SSL_REDIRECT": True}, "https://testserver"),
        ({"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")}, "https://testserver"),
        ({"ALLOWED_HOSTS": [], "DEBUG": True}, "http://localhost"),
    ],
)
def test_whose_pages_where_no_host_is_named(overridden: Any, url: str) -> None:
    with override_settings(**overridden):
        assert warming.default_site() == url


def test_a_proxy_that_says_https_is_understood() -> None:
    with override_settings(SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https")):
        assert run("/words")[0] == 0
        assertCached(Client().get("/words", headers={"host": "testserver", "x-forwarded-proto": "https"}))


def test_a_site_below_a_path() -> None:
    with override_settings(FORCE_SCRIPT_NAME="/sho"):
        assert run("/sho/words", "/sho", "--host", "testserver")[0] == 0
        assertCached(Client().get("/words"))  # the web server takes the path off
        assertCached(Client().get("/"))
        assert routes.fixed()[:3] == ["/sho/", "/sho/notes", "/sho/shop/"]
        assert routes.in_site("/shop/bare") == "/shop/bare"


def test_languages() -> None:
    status, out, _ = run("/greeting", "--language", "de", "--language", "fr")
    assert status == 0
    assert "http://testserver/greeting (de)" in out
    for code, text in (("de", b"Hallo"), ("fr", b"Bonjour")):
        response = Client().get("/greeting", headers={"accept-language": code})
        assertCached(response)
        assert response.content == text
    assertNotCached(Client().get("/greeting", headers={"accept-language": "en"}))


def test_headers_tell_pages_apart_that_vary_on_them() -> None:
    assert run("/varying", "--header", "X-Kind: small")[0] == 0
    assertCached(Client().get("/varying", headers={"x-kind": "small"}))
    assertNotCached(Client().get("/varying", headers={"x-kind": "large"}))
    assert site.seen[0].headers["User-Agent"] == "pooling-warm"


def test_what_is_written_afterwards_is_dropped(one: Note) -> None:
    path = f"/notes/{one.pk}"
    run(path, "/notes")
    with locked(writes=[f"notes/{one.pk}"]):
        Note.objects.update(text="two")
    for page in (path, "/notes"):
        response = Client().get(page)
        assertNotCached(response)
        assert response.content == b"two"


def test_the_site_s_processes_find_what_the_command_s_has_made(site_and_store: str, redis_url: str) -> None:
    command = [sys.executable, "-m", "django", "pooling", "warm", "/words?a=1", "/greeting", "--language", "de"]
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.warming.settings",
        "WARMING_DATABASE": connection.settings_dict["NAME"],
        "WARMING_REDIS_URL": redis_url if site_and_store == "redis" else "",
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 pages: 2 stored" in done.stdout
    for path in ("/words?a=1", "/greeting"):
        response = Client().get(path, headers={"accept-language": "de"})
        if site_and_store == "redis":
            assertCached(response)
        else:
            assertNotCached(response)
    assert ("of no use to the site" in done.stderr) == (site_and_store == "memory")


# -- what it says


def test_each_page_has_a_line(one: Note) -> None:
    Client().get("/words")
    status, out, _ = run("/words", "/notes", "/undeclared", f"/notes/{one.pk + 1}")
    assert status == 1
    first, second, third, fourth, last = out.splitlines()
    assert first.startswith("there ")
    assert "200  http://testserver/words  pooling; hit; ttl=" in first
    assert second.startswith("stored")
    assert second.endswith("http://testserver/notes  pooling; fwd=uri-miss; stored")
    assert third.startswith("failed")
    assert third.endswith('http://testserver/undeclared  pooling; fwd=uri-miss; detail="touched user"')
    assert "500  http://testserver/notes/" in fourth
    assert last == "4 pages: 1 stored, 1 there already, 2 not in the cache"


def test_a_page_whose_fragments_are_not_known_yet_is_asked_for_twice() -> None:
    assert warmed("/parts")["/parts"]["state"] == "stored"


@pytest.mark.parametrize(
    ("path", "status", "why"),
    [
        ("/undeclared", 200, "touched user"),
        ("/uncached", 200, "no cached view has answered, but one with status 200"),
        ("/nowhere", 404, "no cached view has answered, but one with status 404"),
        ("/posted", 405, "no cached view has answered, but one with status 405"),
        ("/fails", 500, "no cached view has answered, but one with status 500"),
        ("/moved", 302, "it redirects to /words"),
    ],
)
def test_why_a_page_is_not_in_the_cache(path: str, status: int, why: str) -> None:
    code, out, _ = run("--json", path, "/words")
    assert code == 1
    found, other = json.loads(out)
    assert (found["state"], found["status"], found["why"]) == ("failed", status, why)
    assert found["seconds"] > 0
    assert other == {
        "url": "http://testserver/words",
        "language": "",
        "state": "stored",
        "status": 200,
        "cache_status": "pooling; fwd=uri-miss; stored",
        "why": "",
        "seconds": other["seconds"],
    }


def test_an_application_that_raises_does_not_end_it() -> None:
    with override_settings(DEBUG_PROPAGATE_EXCEPTIONS=True):
        found = warmed("/fails", "/words")
    assert (found["/fails"]["status"], found["/fails"]["why"]) == (0, "RuntimeError: as it must")
    assert found["/words"]["state"] == "stored"


def test_an_old_page_is_not_warm() -> None:
    answer = warming._Answer(200, {"cache-status": 'pooling; hit; ttl=-2; detail="written"'})
    page = warming.page("/words", "http://testserver")
    assert answer.judged(page, 0.0).why == "an old page: written"


def test_of_the_store_in_memory_it_says_that_it_is_of_no_use(site_and_store: str) -> None:
    status, _, err = run("/words")
    assert status == 0
    assert ("store in memory" in err) == (site_and_store == "memory")
    assert ("of no use to the site" in err) == (site_and_store == "memory")


# -- which pages


def test_all_that_need_no_argument() -> None:
    assert routes.fixed() == site.FIXED
    found = warmed("--all")
    assert list(found) == site.FIXED
    assert {path for path, one in found.items() if one["state"] == "failed"} == {"/undeclared", "/posted", "/fails"}
    assert "/de/hello" in warmed("--all", "--language", "de", "--language", "en")


@pytest.mark.parametrize(
    ("group", "paths"),
    [
        ("notes", ["/notes", "/notes/7", "/notes/8", "/chosen", "/uncached", "/nowhere"]),
        ("notes/7", ["/notes", "/notes/7", "/notes/8", "/chosen", "/uncached", "/nowhere"]),  # 8 cannot be told apart
        ("shop", ["/shop/", "/shop/bare", "/chosen", "/uncached", "/nowhere"]),
        ("notesy", ["/chosen", "/uncached", "/nowhere"]),
        ("words/x", ["/words?a=1", "/shop/a/", "/de/hello", "/chosen", "/uncached", "/nowhere"]),
    ],
)
def test_only_what_a_write_of_a_group_may_have_dropped(group: str, paths: list[str]) -> None:
    candidates = ["/notes", "/notes/7", "/notes/8", "/shop/", "/shop/bare", "/words?a=1", "/shop/a/", "/de/hello"]
    found = warmed(*candidates, "/chosen", "/uncached", "/nowhere", "--group", group)
    assert list(found) == paths


def test_a_group_alone_is_for_all_pages() -> None:
    assert list(warmed("--group", "shop")) == ["/shop/", "/shop/bare", "/chosen"]
    assert list(warmed("--group", "shop", "--group", "notes")) == ["/notes", "/shop/", "/shop/bare", "/chosen"]


def test_from_a_file_and_from_the_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "paths"
    file.write_text("# the important ones\n/words\n\n  /notes  \n/words\n")
    assert list(warmed("--file", str(file))) == ["/words", "/notes"]
    assert list(warmed("/async", "--file", str(file))) == ["/async", "/words", "/notes"]
    monkeypatch.setattr("sys.stdin", io.StringIO("/chosen\n"))
    assert list(warmed("--file", "-")) == ["/chosen"]
    file.write_text("# none\n")
    site.seen.clear()
    assert "no page among these" in refused("--file", str(file))


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    assert "Name their paths, --file, or --all" in refused()
    assert "'words' is no address" in refused("words")
    assert "%20" in refused("/a b")
    assert "control character" in refused("/a\x00")
    assert "names no site such as" in refused("ftp://testserver/words")
    assert "names no site such as" in refused("//testserver/words")
    assert "names no site such as" in refused("http:///words")
    assert "a host only" in refused("/words", "--host", "http://testserver/words")
    assert "ort" in refused("/words", "--host", "testserver:x")
    assert "names no site such as" in refused("/words", "--host", "a@b")
    assert "no header such as" in refused("/words", "--header", "X-Kind")
    assert "no header such as" in refused("/words", "--header", "X-Kind: a\nb: c")
    assert "named by --host" in refused("/words", "--header", "Host: a")
    assert "LANGUAGES has no 'dee'. Did you mean 'de'?" in refused("/words", "--language", "dee")
    for jobs in ("0", "-1", "x", "1.5"):
        assert "no number of 1 or more" in refused("/words", "--jobs", jobs)
    assert "--file" in refused("--file", str(tmp_path / "nowhere"))
    assert "starts or ends" in refused("--group", "notes/")
    assert "no page that reads 'nothing'" in refused("/notes", "--group", "nothing")
    with override_settings(ALLOWED_HOSTS=["*"]):
        assert "--host shop.example" in refused("/words")
        assert run("http://testserver/words")[0] == 0
    with override_settings(POOLING={"ENABLED": False}):
        site.seen.clear()
        assert "ENABLED" in refused("/words")


# -- how


def test_so_many_at_a_time_and_told_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(3)
    monkeypatch.setattr(site, "entered", [lambda: together.wait(30)])
    status, out, _ = run(*[f"/meets/{number}" for number in range(6)], "--jobs", "3")
    assert status == 0
    assert [line.split()[4] for line in out.splitlines()[:-1]] == [f"http://testserver/meets/{n}" for n in range(6)]


def test_who_wants_no_more_does_not_wait_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = threading.Event()
    shutdown = warming.ThreadPoolExecutor.shutdown

    def ending(pool: Any, **how: Any) -> None:
        shutdown(pool, **{**how, "wait": False})
        ends.set()
        shutdown(pool)

    monkeypatch.setattr(warming.ThreadPoolExecutor, "shutdown", ending)
    monkeypatch.setattr(site, "entered", [lambda: len(site.seen) == 1 or ends.wait(30)])
    results = warming.warm([warming.page(f"/meets/{number}", "http://testserver") for number in range(9)], jobs=1)
    assert next(results).state == "stored"
    results.close()
    assert len(site.seen) <= 2


def test_it_is_a_request_like_others_and_leaves_nothing_open(one: Note) -> None:
    ended = []
    request_finished.connect(lambda **about: ended.append(1), weak=False, dispatch_uid="test")
    try:
        with locked(writes=["elsewhere"]):  # what the caller has open is not the requests'
            assert run("/notes", "/words", "/people/1", f"/notes/{one.pk}")[0] == 0
    finally:
        request_finished.disconnect(dispatch_uid="test")
    assert len(ended) == len(site.seen) == 4
    assert runtime.store().parties() == []
    assert not holders()


def test_who_raises_keeps_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "entered", [Note.objects.count, lambda: 1 / 0])
    page = warming.page("/meets/1", "http://testserver")
    with override_settings(DEBUG_PROPAGATE_EXCEPTIONS=True):
        results = warming.warm([page], jobs=1)
        assert next(results).why == "ZeroDivisionError: division by zero"
        assert not holders()  # although the thread is still there
        assert list(results) == []


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("299 Own", [("X-Path", environ["PATH_INFO"])])
    return []


def test_it_is_the_application_that_the_settings_name() -> None:
    with override_settings(WSGI_APPLICATION="tests.warming.test_warming.application"):
        assert warmed("/words")["/words"]["status"] == 299
    site.seen.clear()
    with override_settings(WSGI_APPLICATION="tests.warming.nowhere"):
        assert "could not be loaded" in refused("/words")


def test_it_may_be_called_from_code() -> None:
    page = warming.page("/words", warming.default_site())
    (first,), (second,) = warming.warm([page]), warming.warm([page])
    assert (first.state, second.state, first.ok) == ("stored", "there", True)
    invalidate("words")
    assert [one.state for one in warming.warm([page])] == ["stored"]
