"""Django settings of the tests. The servers' addresses are in the environment once `servers.ensure` has run."""

from __future__ import annotations

import os

from . import servers

servers.ensure()

SECRET_KEY = "for the tests only"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"  # pytest-django's live_server asks for it
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

ENGINE = os.environ.get("POOLING_TEST_ENGINE", "pooling.backends.mysql")

DATABASES = {
    "default": {
        "ENGINE": ENGINE,
        "NAME": "pooling",
        "HOST": os.environ["POOLING_DB_HOST"],
        "PORT": os.environ["POOLING_DB_PORT"],
        "USER": os.environ.get("POOLING_DB_USER", "root"),
        "PASSWORD": os.environ.get("POOLING_DB_PASSWORD", ""),
        "OPTIONS": {"pool": {"min_size": 0, "max_size": 10, "timeout": 10}} if ENGINE.startswith("pooling.") else {},
    }
}

CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "tests"}}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "pooling",
    "tests.app",
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
