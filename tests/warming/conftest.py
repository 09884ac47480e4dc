"""The site of `tests.warming.site` over each store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import clear_url_caches

from pooling import runtime

from .. import stores
from . import site


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    stores.parametrize(metafunc, "site_and_store")


@pytest.fixture(autouse=True)
def site_and_store(
    request: pytest.FixtureRequest, settings: Any, monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> Iterator[str]:
    settings.ROOT_URLCONF = "tests.warming.site"
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.LANGUAGES = [("en", "English"), ("de", "German"), ("fr", "French")]
    settings.LANGUAGE_CODE = "en"
    settings.MIDDLEWARE = [
        "tests.warming.site.noting",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.locale.LocaleMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ]
    kind = stores.kind(request)
    stores.use(kind, settings, monkeypatch, redis_url)
    site.seen.clear()
    yield kind
    runtime.reset_runtime()
    clear_url_caches()
