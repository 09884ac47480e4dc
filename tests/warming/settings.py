"""Settings of the site in `tests.warming.site`, for processes of their own as well; then with the store in Redis."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403

ROOT_URLCONF = "tests.warming.site"
ALLOWED_HOSTS = ["testserver"]
LANGUAGES = [("en", "English"), ("de", "German"), ("fr", "French")]
LANGUAGE_CODE = "en"
MIDDLEWARE = [
    "tests.warming.site.noting",
    "pooling.middleware.BusyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
OURS = ("ROOT_URLCONF", "ALLOWED_HOSTS", "LANGUAGES", "LANGUAGE_CODE", "MIDDLEWARE")

if url := os.environ.get("WARMING_REDIS_URL"):
    CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}}
    POOLING = {"STORE_BUDGET": 10}  # which a busy machine does not exceed either
