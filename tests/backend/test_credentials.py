"""Credentials that are asked for: rotation, refusal, faults."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections

from pooling.backends.mysql.base import NO_DB_ALIAS, DatabaseWrapper
from pooling.backends.mysql.client import DatabaseClient

from .conftest import ask, until

pytestmark = pytest.mark.django_db


class Vault:
    """What the site has instead of a password in its settings."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)  # the last one is given for ever
        self.asked = 0
        self.before: Any = None

    def __call__(self) -> Any:
        self.asked += 1
        if self.before is not None:
            self.before()
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def get(self) -> Any:
        return self()


def one(vault: Any, **options: Any) -> dict[str, Any]:
    return {"max_size": 1, "timeout": 5, "credentials": vault, **options}


def session(wrapper: Any) -> tuple[int, str]:
    [[number, user]] = ask(wrapper, "SELECT CONNECTION_ID(), USER()")
    return number, user.partition("@")[0]


@pytest.fixture
def rotor(root: Any) -> Iterator[str]:
    """A user whose password is "first"."""
    ask(root, "CREATE USER rotor@'127.0.0.1' IDENTIFIED BY 'first'")
    ask(root, "GRANT SELECT ON *.* TO rotor@'127.0.0.1'")
    yield "rotor"
    ask(root, "DROP USER rotor@'127.0.0.1'")


def rotate(root: Any, password: str) -> None:
    ask(root, f"ALTER USER rotor@'127.0.0.1' IDENTIFIED BY '{password}'")


@pytest.mark.parametrize("answer", ["first", {"user": "rotor", "password": "first"}, {"password": "first"}])
def test_asked_before_each_connect(there: Any, rotor: str, answer: Any) -> None:
    vault = Vault(answer)
    wrapper = there(one(vault), USER=rotor, PASSWORD="never used")
    number, user = session(wrapper)
    assert user == rotor
    wrapper.close()
    assert session(wrapper) == (number, rotor)
    assert vault.asked == 1  # a checkout of what is open asks nobody
    wrapper.pool.drain()
    wrapper.close()
    assert session(wrapper)[0] != number
    assert vault.asked == 2


def from_a_module() -> str:
    return "first"


def test_by_dotted_path(there: Any, rotor: str) -> None:
    assert session(there(one("tests.backend.test_credentials.from_a_module"), USER=rotor))[1] == rotor


def test_the_old_name_of_the_password_in_options_does_not_win(there: Any, rotor: str) -> None:
    wrapper = there(one(Vault("first")), USER=rotor, OPTIONS={"passwd": "old"})
    assert session(wrapper)[1] == rotor


def test_what_is_open_lives_on_after_a_rotation(there: Any, root: Any, rotor: str) -> None:
    vault = Vault("first")
    wrapper = there(one(vault), USER=rotor)
    number, _ = session(wrapper)
    rotate(root, "second")
    vault.answers = ["second"]
    wrapper.close()
    assert session(wrapper)[0] == number
    wrapper.pool.drain()
    wrapper.close()
    assert session(wrapper)[0] != number


def test_a_reset_uses_the_credentials_of_now(there: Any, root: Any, rotor: str) -> None:
    vault = Vault("first")
    wrapper = there(one(vault), USER=rotor)
    number, _ = session(wrapper)
    ask(wrapper, "SET @x = 1")
    rotate(root, "second")
    vault.answers = ["second"]
    wrapper.close()
    assert ask(wrapper, "SELECT CONNECTION_ID(), @x") == ((number, None),)


def test_a_reset_that_is_refused_closes(there: Any, root: Any, rotor: str) -> None:
    vault = Vault("first")
    wrapper = there(one(vault), USER=rotor)
    number, _ = session(wrapper)
    ask(wrapper, "SET @x = 1")
    rotate(root, "second")  # and the vault does not know yet
    wrapper.close()
    stats = wrapper.pool.get_stats()
    assert (stats["pool_size"], stats["returns_bad"]) == (0, 1)
    vault.answers = ["second"]
    assert ask(wrapper, f"SELECT CONNECTION_ID() = {number}, @x") == ((0, None),)


def test_a_vault_that_fails_at_a_reset_closes(there: Any, rotor: str, caplog: Any) -> None:
    vault = Vault("first")
    wrapper = there(one(vault), USER=rotor)
    ask(wrapper, "SET @x = 1")
    vault.answers = [ConnectionError("sealed"), "first"]
    with caplog.at_level(logging.WARNING, "pooling.pool"):
        wrapper.close()
    assert "ConnectionError: sealed" in caplog.text
    assert wrapper.pool.get_stats()["pool_size"] == 0
    assert ask(wrapper, "SELECT @x") == ((None,),)


def test_another_user_from_now_on(there: Any, root: Any, rotor: str) -> None:
    ask(root, "CREATE USER rotor2@'127.0.0.1' IDENTIFIED BY 'other'")
    try:
        ask(root, "GRANT SELECT ON *.* TO rotor2@'127.0.0.1'")
        vault = Vault({"user": "rotor", "password": "first"})
        wrapper = there(one(vault), USER="")
        number, _ = session(wrapper)
        ask(wrapper, "SET @x = 1")
        vault.answers = [{"user": "rotor2", "password": "other"}]
        wrapper.close()
        assert session(wrapper) == (number, "rotor2")
    finally:
        wrapper.close()
        wrapper.pool.close()
        ask(root, "DROP USER rotor2@'127.0.0.1'")


def test_refused_it_asks_once_more(there: Any, rotor: str) -> None:
    vault = Vault("stale", "first")
    assert session(there(one(vault), USER=rotor))[1] == rotor
    assert vault.asked == 2


@pytest.mark.parametrize("answers", [["stale"], ["stale", "staler", "first"]])
def test_and_no_oftener(there: Any, root: Any, rotor: str, answers: list[str]) -> None:
    """A server counts refusals, and may lock the account; the same password twice is one refusal too many."""
    vault = Vault(*answers)
    tried = int(ask(root, "SHOW GLOBAL STATUS LIKE 'Aborted_connects'")[0][1])
    with pytest.raises(OperationalError, match=r"1045.*Access denied for user 'rotor'"):
        there(one(vault), USER=rotor).ensure_connection()
    assert vault.asked == 2
    assert int(ask(root, "SHOW GLOBAL STATUS LIKE 'Aborted_connects'")[0][1]) - tried == len(set(answers[:2]))


def test_its_error_is_told_with_its_name(there: Any, rotor: str) -> None:
    fault = ConnectionError("sealed")
    vault = Vault(fault)
    wrapper = there(one(vault.get), USER=rotor)
    with pytest.raises(
        OperationalError, match=r"credentials cannot be had: Vault\.get raised ConnectionError: seal"
    ) as it:
        wrapper.ensure_connection()
    assert it.value.__cause__ is fault
    stats = wrapper.pool.get_stats()
    assert (stats["pool_size"], stats["requests_waiting"], len(wrapper.pool._attempts)) == (0, 0, 0)
    vault.answers = ["first"]
    assert session(wrapper)[1] == rotor


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "not NoneType"),
        ({}, "an empty dict"),
        (b"first", "not bytes"),
        ({"passwort": "x"}, "'passwort'. Did you mean 'password'"),
        ({"user": "rotor", "password": 7}, "a int for 'password'"),
    ],
)
def test_an_answer_that_is_none(there: Any, rotor: str, answer: Any, words: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=words):
        there(one(Vault(answer)), USER=rotor).ensure_connection()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (5, "must be a function without arguments, or the dotted path of one, not 5"),
        ("no_such_module.password", "'no_such_module.password' cannot be imported"),
        ("tests.backend.test_credentials.nothing", "cannot be imported"),
        ("tests.backend.test_credentials.__name__", "__name__', which is 'tests"),
    ],
)
def test_a_source_that_leads_nowhere(make: Any, source: Any, words: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=words):
        _ = make(one(source)).pool


def test_no_lock_is_held_while_it_is_asked(there: Any, rotor: str) -> None:
    """A vault that hangs keeps whoever needs a new connection, and nobody else."""
    vault = Vault("first")
    first, second, third = (there(one(vault, max_size=2), USER=rotor) for _ in range(3))
    first.ensure_connection()
    gate, inside = threading.Event(), threading.Event()

    def hang() -> None:
        inside.set()
        assert gate.wait(20)

    vault.before = hang
    thread = threading.Thread(target=second.ensure_connection)
    thread.start()
    try:
        assert inside.wait(20)
        assert first.pool.get_stats()["pool_size"] == 1
        number, _ = session(first)
        first.close()  # goes to the second, who waits
        thread.join(20)
        assert not thread.is_alive()
        second.inc_thread_sharing()
        assert session(second)[0] == number
    finally:
        gate.set()
        thread.join()
    until(lambda: second.pool.get_stats()["pool_size"] == 2)
    assert session(third)[1] == rotor


def test_pools_are_keyed_by_it(make: Any) -> None:
    vault, other = Vault("a"), Vault("b")
    assert make(one(vault)).pool is not make(one(None)).pool
    assert make(one(vault.get)).pool is not make(one(other.get)).pool
    path = "tests.backend.test_credentials.from_a_module"
    assert make(one(path)).pool is make(one(path)).pool
    wrapper = make(one(path))
    for source in (vault, vault.get):  # vault.get is another object each time
        wrapper.settings_dict["OPTIONS"]["pool"]["credentials"] = source
        pool = wrapper.pool
        wrapper._key_memo = None
        wrapper.settings_dict["OPTIONS"]["pool"]["credentials"] = vault.get if source is not vault else vault
        assert wrapper.pool is pool


def test_clones_of_a_test_database(there: Any, root: Any, rotor: str) -> None:
    ask(root, "GRANT ALL ON *.* TO rotor@'127.0.0.1'")
    ask(root, "CREATE DATABASE rotor_test")
    ask(root, "CREATE TABLE rotor_test.note (text varchar(20))")
    wrapper = there(one(from_a_module), USER=rotor, NAME="rotor_test")
    try:
        wrapper.creation.clone_test_db("7", verbosity=0, autoclobber=True)
        assert ask(root, "SHOW TABLES IN rotor_test_7") == (("note",),)
        assert "password" not in wrapper.settings_dict["OPTIONS"]
    finally:
        ask(root, "DROP DATABASE IF EXISTS rotor_test_7")
        ask(root, "DROP DATABASE rotor_test")


def test_what_connects_without_the_pool_asks_as_well(there: Any, rotor: str) -> None:
    settings = copy.deepcopy(there(one(from_a_module), USER=rotor).settings_dict)
    nodb = DatabaseWrapper({**settings, "NAME": None}, alias=NO_DB_ALIAS)
    try:
        assert session(nodb)[1] == rotor
    finally:
        nodb.close()
    arguments, environment = DatabaseClient.settings_to_cmd_args_env(settings, [])
    assert "--user=rotor" in arguments
    assert environment == {"MYSQL_PWD": "first"}
    assert connections["default"].client_class is DatabaseClient
