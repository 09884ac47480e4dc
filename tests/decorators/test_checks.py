"""System checks, through Django's own registry."""

from __future__ import annotations

import copy
import gc
import os
import subprocess
import sys
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connections
from django.test import override_settings

from pooling import runtime
from pooling.decorators import locked

OK = {"MIDDLEWARE": ["pooling.middleware.BusyMiddleware"]}


def ids() -> list[str]:
    gc.collect()
    return [str(message.id) for message in run_checks(tags=["pooling"])]


@override_settings(**OK)
def test_nothing_to_complain_about() -> None:
    assert ids() == []


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"POOLING": {"LOCK_WAITT": 1}}, "pooling.E001"),
        ({"POOLING": {"LOCK_WAIT": -1}}, "pooling.E001"),
        ({"POOLING": {"GROUPS": {"a": ["app.Account", "box.Nope"]}}}, "pooling.E001"),
        ({"POOLING": {"GROUPS": {"a": ["Account"]}}}, "pooling.E001"),
        ({"POOLING": {"CACHE_ALIAS": "nowhere"}}, "pooling.E004"),
        ({"CACHES": {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}}, "pooling.E004"),
        ({"POOLING": {"LOCK_LEASE": 1}}, "pooling.W002"),
        ({"MIDDLEWARE": []}, "pooling.W001"),
    ],
)
def test_settings(settings: dict[str, Any], wanted: str) -> None:
    with override_settings(**{**OK, **settings}):
        messages = [message for message in run_checks(tags=["pooling"]) if message.id == wanted]
        assert len(messages) == 1
        assert messages[0].hint


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({}, 1),
        ({"POOLING": {"ENABLED": False}}, 0),
        ({"POOLING": {"CACHE_ALIAS": "nowhere"}}, 0),
        ({"POOLING": {"LOCK_WAIT": -1}}, 0),
        ({"SILENCED_SYSTEM_CHECKS": ["pooling.W003"]}, 0),
    ],
)
def test_one_process_is_asked_for_before_a_deployment_only(settings: dict[str, Any], count: int) -> None:
    with override_settings(**{**OK, **settings}):
        found = run_checks(tags=["pooling"], include_deployment_checks=True)
        assert [m.id for m in found if not m.is_silenced()].count("pooling.W003") == count
        assert "pooling.W003" not in ids()


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"FENCE": False, "ON_STORE_DOWN": "fence"}, 1),
        ({"FENCE": True, "ON_STORE_DOWN": "fence"}, 0),
        ({"FENCE": False, "ON_STORE_DOWN": "refuse"}, 0),
        ({"FENCE": False, "ON_STORE_DOWN": "fence", "ENABLED": False}, 0),
        ({"FENCE": False, "ON_STORE_DOWN": "fence", "LOCK_WAIT": -1}, 0),
    ],
)
def test_going_on_without_the_store_takes_fences(settings: dict[str, Any], count: int) -> None:
    shared = runtime.store().shared
    with override_settings(**OK, POOLING=settings):
        assert ids().count("pooling.W012") == (count if shared else 0)
        view = locked(writes=["a"], fence=True)(lambda request: None)
        assert ids().count("pooling.W012") == 0  # that one goes on
        del view


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, ""),
        ({"STORE_BUDGET": 5}, ""),
        ({"STORE_BUDGET": 6}, "each request"),
        ({"STORE_BUDGET": 2, "LOCK_LEASE": 7}, "a lease of 7 s can run out"),
        ({"STORE_BUDGET": 6, "ENABLED": False}, ""),
        ({"STORE_BUDGET": -1}, ""),
    ],
)
def test_a_budget_that_is_too_long(settings: dict[str, Any], says: str) -> None:
    shared = runtime.store().shared
    with override_settings(**OK, POOLING=settings):
        found = [message for message in run_checks(tags=["pooling"]) if message.id == "pooling.W013"]
        assert len(found) == bool(shared and says)
        assert all(says in message.msg and message.hint for message in found)


def test_a_budget_that_is_too_long_for_the_lease_of_one_view() -> None:
    shared = runtime.store().shared
    with override_settings(**OK, POOLING={"STORE_BUDGET": 1}):
        assert ids() == []
        view = locked(writes=["a"], lease=3)(lambda request: None)
        assert ids() == ["pooling.W013"] * shared
        del view


@override_settings(**OK)
def test_a_template_that_names_an_argument_the_view_does_not_have() -> None:
    @locked(writes=["accounts/{nmae}"])
    def view(request: Any, name: str) -> None: ...

    @locked(writes=["accounts/{anything}"])
    def flexible(request: Any, **kwargs: Any) -> None: ...

    (message,) = [m for m in run_checks(tags=["pooling"]) if m.id == "pooling.E002"]
    assert "nmae" in message.msg
    assert "view" in message.msg
    del view, message
    assert ids() == []  # and the registry keeps nothing alive


@override_settings(**OK)
def test_unknown_alias_and_fence(settings: Any) -> None:
    @locked(writes=["a"], using="nowhere")
    def one(request: Any) -> None: ...

    @locked(writes=["a"], fence=True)
    def two(request: Any) -> None: ...

    assert ids() == ["pooling.E005"] * 2
    del one, two


@override_settings(**OK)
@pytest.mark.parametrize(
    ("change", "count"),
    [
        ({"OPTIONS": {"pool": {"max_sise": 3}}}, 1),
        ({"OPTIONS": {"pool": {"min_size": 9, "max_size": 3}}}, 1),
        ({"OPTIONS": {"pool": True}, "CONN_MAX_AGE": 60}, 1),
        ({"OPTIONS": {"pool": True}, "CONN_MAX_AGE": None}, 1),
        ({"OPTIONS": {}, "CONN_MAX_AGE": 60}, 0),
    ],
)
def test_pools(change: dict[str, Any], count: int) -> None:
    settings = copy.deepcopy(connections["default"].settings_dict)
    connections.settings["odd"] = {**settings, "ENGINE": "pooling.backends.mysql", **change}
    try:
        assert ids() == ["pooling.E003"] * count
    finally:
        del connections.settings["odd"]


@pytest.mark.django_db
@pytest.mark.parametrize("change", [{"OPTIONS": {"pool": {"max_sise": 3}}}, {"CONN_MAX_AGE": 60}])
def test_a_check_of_a_database_whose_pool_cannot_be_made(change: dict[str, Any]) -> None:
    change = {"ENGINE": "pooling.backends.mysql", "OPTIONS": {"pool": True}, **change}
    code = (
        f"from tests import settings; settings.DATABASES['default'].update({change!r}, NAME={connection_name()!r}); "
        "from django.core.management import execute_from_command_line as run; "
        "run(['manage.py', 'check', '--database', 'default'])"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "SystemCheckError" in done.stderr
    assert "Traceback" not in done.stderr
    assert "(pooling.E003)" in done.stderr
    assert "every connection is refused" in done.stderr


def connection_name() -> str:
    return str(connections["default"].settings_dict["NAME"])
