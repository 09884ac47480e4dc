"""The language and the time zone in a key are those that Django says are active, wherever and however it came to be."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.test import override_settings
from django.utils import timezone, translation
from django.utils.translation import trans_real
from django.utils.translation.reloader import translation_file_changed

from pooling.cache import locales


def told() -> tuple[Any, Any]:
    """What Django says, after a look whether it is the same here."""
    expected = translation.get_language(), timezone.get_current_timezone_name()
    assert locales.locale() == expected
    return expected


@pytest.fixture(params=["beneath", "Django is asked"], autouse=True)
def way(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "beneath":
        # Where asgiref keeps them in another way, this is the other case once more.
        assert locales._kind in (None, type(trans_real._active))
        assert type(trans_real._active) is type(timezone._active)
    else:
        monkeypatch.setattr(locales, "_kind", None)


def apart(work: Callable[[], Any]) -> Any:
    """In a thread and a context where nothing was activated."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.Context().run, work).result(30)


def steps() -> list[tuple[Any, Any]]:
    found = [told()]
    translation.activate("de")
    found.append(told())
    timezone.activate("Asia/Tokyo")
    found.append(told())
    with translation.override(None), timezone.override(None):
        found.append(told())
    translation.deactivate()
    timezone.deactivate()
    found.append(told())
    translation.deactivate_all()
    found.append(told())
    return found


def test_in_each_state() -> None:
    plain, german, tokyo, none, gone, nothing = apart(steps)
    assert len({plain, german, tokyo}) == 3
    assert none == (None, plain[1])
    assert gone == plain
    assert nothing == none


def test_in_tasks_and_in_the_threads_that_they_call() -> None:
    async def task(language: str) -> tuple[Any, Any]:
        before = told()
        translation.activate(language)
        timezone.activate("Asia/Tokyo")
        await asyncio.sleep(0)
        here = told()
        assert await sync_to_async(told)() == here != before
        return here

    async def several() -> list[tuple[Any, Any]]:
        before = told()
        found = list(await asyncio.gather(task("de"), task("fr")))
        assert told() == before
        return found

    assert apart(async_to_sync(several)) == [("de", "Asia/Tokyo"), ("fr", "Asia/Tokyo")]


def test_what_a_task_activated_counts_for_who_waits_for_it_if_django_says_so() -> None:
    async def task() -> None:
        translation.activate("de")
        timezone.activate("Asia/Tokyo")

    def both() -> tuple[Any, Any]:
        async_to_sync(task)()
        return told()

    apart(both)


def test_after_a_file_of_translations_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trans_real, "_active", trans_real._active)  # for the tests after this one
    assert translation_file_changed(None, Path("locale/de/LC_MESSAGES/django.mo"))  # as the development server does
    plain, german, *_ = apart(steps)
    assert plain != german


def test_settings_that_change(settings: Any) -> None:
    for settings.LANGUAGE_CODE in ("fr", "de"):
        assert told()[0] == settings.LANGUAGE_CODE
    for settings.TIME_ZONE in ("Asia/Tokyo", "UTC"):
        assert told()[1] == settings.TIME_ZONE
    settings.USE_I18N = settings.USE_TZ = False
    assert locales.locale() == (None, None)


def test_django_s_tests_put_another_in_the_place_of_what_is_active(settings: Any) -> None:
    with override_settings(LANGUAGE_CODE="fr", TIME_ZONE="UTC"):
        apart(steps)
    test_in_each_state()


def test_another_asgiref_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert locales._is_as_expected()

    class Elsewhere:
        """Has such a variable and keeps nothing in it."""

        class _storage:
            _data = contextvars.ContextVar[Any]("unused")

    monkeypatch.setattr(locales, "Local", Elsewhere)
    assert not locales._is_as_expected()
    monkeypatch.setattr(locales, "Local", object)
    assert not locales._is_as_expected()
