"""What a process says of itself."""

from __future__ import annotations

import json
import logging
import threading

import pytest
from django.db import IntegrityError, connection
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import path

from pooling.errors import LockTimeout
from pooling.status import fleet, here
from pooling.status.recent import Recent

HELD, GO = threading.Event(), threading.Event()
SECRET = "s3cret-value-of-a-parameter"


def holding(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s", [SECRET])
    HELD.set()
    assert GO.wait(30)
    return HttpResponse("done")


urlpatterns = [path("holding", holding)]


@pytest.mark.django_db(transaction=True)
@pytest.mark.urls(__name__)
def test_the_holder_of_a_connection_is_told_with_its_view_and_where_it_stands(client, monkeypatch):
    monkeypatch.setattr(here, "WORTH_A_STACK", 0.0)
    HELD.clear()
    GO.clear()

    def visit():
        client.get("/holding", {"q": SECRET})
        connection.close()

    thread = threading.Thread(target=visit, name="visitor")
    thread.start()
    try:
        assert HELD.wait(30)
        document = here.document()
    finally:
        GO.set()
        thread.join()
    (holder,) = [one for pool in document["pools"] for one in pool["holders"] if one["thread"] == "visitor"]
    assert holder["view"] == f"{__name__}.holding"
    assert any(line.startswith("tests/status/test_here.py:") and "in holding" in line for line in holder["stack"])
    text = json.dumps(document)
    assert SECRET not in text
    assert connection.settings_dict["NAME"] in next(pool["server"] for pool in document["pools"])
    assert fleet.read(text.encode()) is not None


@pytest.mark.django_db(transaction=True)
def test_a_wrong_password_is_told_without_the_password(settings):
    from pooling.backends.mysql.base import DatabaseWrapper

    bad = {**connection.settings_dict, "PASSWORD": SECRET, "USER": "nobody_there"}
    wrapper = DatabaseWrapper(bad, "bad")
    try:
        with pytest.raises(Exception, match="nobody_there"):
            wrapper.connect()
        (pool,) = [pool for pool in here.document()["pools"] if pool["name"] == "bad"]
    finally:
        DatabaseWrapper._drop_pool(wrapper._pool_key(wrapper.get_connection_params()))
    assert "1045" in pool["error"]
    assert SECRET not in json.dumps(pool)


def test_history_tells_what_was_added_and_what_there_is():
    history = here.History()
    history.add([5, 1, 1, 0, 0, 0, 0])
    assert history.rows() == []
    history.add([7, 3, 2, 1, 0, 0, 0])
    history.add([1, 0, 2, 1, 4, 0, 0])  # counted anew
    assert history.rows() == [[2, 3, 2, 1, 0, 0, 0], [0, 0, 2, 0, 4, 0, 0]]
    for number in range(200):
        history.add([number] * 7)
    assert len(history.rows()) == here.SAMPLES


@pytest.fixture
def recent():
    """A logger below which only this one listens."""
    made = Recent(limit=3)
    logger = logging.getLogger("pooling")
    logger.addHandler(made)
    yield made
    logger.removeHandler(made)


def test_the_last_warnings_are_kept_and_the_same_again_is_counted(recent):
    logger = logging.getLogger("pooling.pool")
    logger.info("nothing")
    for number in range(5):
        logger.warning("down for the %d. time", number)
    logging.getLogger("pooling.locks").error("lost %s", "x" * 1000, extra={"view": "shop.book"})
    try:
        raise KeyError(SECRET)
    except KeyError:
        logger.exception("failed")
    found = recent.newest_first()
    assert [(one["kind"], one["level"], one["count"], one["view"]) for one in found] == [
        ("KeyError", "error", 1, ""),
        ("pooling.locks", "error", 1, "shop.book"),
        ("pooling.pool", "warning", 5, ""),
    ]
    assert found[2]["text"] == "down for the 4. time"
    assert len(found[1]["text"]) == 400
    assert SECRET not in json.dumps(found)
    assert recent.total == 7
    logger.warning("another thing")
    assert [one["count"] for one in recent.newest_first()] == [1, 1, 1]
    for number in range(10):
        logging.getLogger(f"pooling.{number}").warning("x")
    assert len(recent.newest_first()) == 3


def test_nothing_that_others_wrote_is_kept_of_an_error_or_a_request(recent):
    logger = logging.getLogger("pooling.cache")
    quoting = IntegrityError(1062, f"Duplicate entry '{SECRET}' for key 'username'")
    logger.warning("%s failed; an old page is served instead: %s", "shop.book", quoting)
    logger.warning("%(view)s: %(error)r", {"view": "shop.book", "error": ValueError(SECRET)})
    busy = {"status_code": 503, "error": "LockTimeout", "view": "shop.book"}
    path = f"/reset/{SECRET}/"
    logger.warning("503 %s %s: %s: %s", "GET", path, "LockTimeout", LockTimeout("'shop' is held."), extra=busy)
    assert [(one["kind"], one["text"]) for one in recent.newest_first()] == [
        ("LockTimeout", "503: 'shop' is held."),
        ("pooling.cache", "shop.book: 'ValueError'"),
        ("pooling.cache", "shop.book failed; an old page is served instead: IntegrityError 1062"),
    ]


def test_it_listens_again_where_logging_was_configured_anew(monkeypatch):
    logger = logging.getLogger("pooling")
    monkeypatch.setattr(logger, "handlers", [one for one in logger.handlers if not isinstance(one, Recent)])
    here.document()
    assert any(isinstance(one, Recent) for one in logger.handlers)


def test_a_faulty_call_of_a_logger_is_not_the_business_of_who_makes_it(recent, monkeypatch):
    heard = []
    monkeypatch.setattr(recent, "handleError", heard.append)
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logging.getLogger("pooling.pool").warning("%d and %d", 1)
    assert len(heard) == 1


def test_listening_silences_nobody(monkeypatch):
    """Python writes warnings to stderr where no handler is; ours must not count as one."""
    heard = []
    last = logging.Handler(logging.WARNING)
    last.emit = heard.append  # type: ignore[method-assign]
    monkeypatch.setattr(logging, "lastResort", last)
    recent = Recent()
    record = logging.LogRecord("pooling.pool", logging.WARNING, "", 0, "down", (), None)
    monkeypatch.setattr(logging.getLogger("pooling"), "handlers", [recent])
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    recent.handle(record)
    assert heard == [record]
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.NullHandler()])
    recent.handle(record)
    assert len(heard) == 1


def test_the_program_is_named_without_its_arguments(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/srv/site/manage.py", "import_users", "--password", SECRET])
    assert here.document()["process"]["program"] == "manage.py import_users"
    monkeypatch.setattr("sys.argv", ["/usr/lib/python3/gunicorn/__main__.py", SECRET])
    assert here.document()["process"]["program"] == "gunicorn"
    monkeypatch.setattr("sys.argv", ["/usr/bin/gunicorn", "--bind", SECRET])
    assert here.document()["process"]["program"] == "gunicorn"


def test_a_request_factory_request_of_no_urls_has_no_view():
    """`at_work` must not fail for requests that no resolver has seen."""
    from pooling.status.threads import at_work

    request = RequestFactory().get("/")
    assert request.resolver_match is None
    assert at_work(threading.get_ident(), True)[0] == ""
    assert at_work(None, True) == ("", [])
    assert at_work(-1, True) == ("", [])


def test_where_nobody_takes_samples_those_who_look_do(monkeypatch):
    history = here.History()
    monkeypatch.setattr(here, "_history", history)

    def look(now: float) -> int:
        monkeypatch.setattr(here, "sample_due", lambda: history.due(5.0, now))
        return len(fleet.look().history["rows"])

    # The first sample is what the next ones are told from; then one each 5 s, however often somebody looks.
    assert [look(1000 + second) for second in (0, 2, 4, 6, 8, 9.9, 10, 10, 12, 14, 16)] == [
        *(0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3)
    ]
    assert look(1000 + 60) == 0  # nobody looked for a while
    assert look(1000 + 65) == 1


def test_nobody_takes_samples_where_that_is_switched_off(settings, monkeypatch):
    settings.POOLING = {"PUBLISH_SECONDS": 0}
    assert not here.sample_due()
