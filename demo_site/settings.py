"""Settings of the demo. From the environment: DATABASE_URL, REDIS_URL (else POOLING_DB_*, POOLING_REDIS_URL, which
``demo_site.run`` sets for its private servers), DEMO_SCHEME, DEMO_RUN_DIR and DEBUG=1."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from demo_site import database_url, schemes

BASE_DIR = Path(__file__).resolve().parent.parent
RUN_DIR = Path(os.environ.get("DEMO_RUN_DIR") or BASE_DIR / ".run")


def _secret_key() -> str:
    """The same for every process of this checkout, made at the first start, readable by its owner only."""
    path = RUN_DIR / "secret_key"
    RUN_DIR.mkdir(parents=True, exist_ok=True)
    mine = RUN_DIR / f"secret_key.{os.getpid()}.{secrets.token_hex(4)}"
    if not path.exists():
        with open(os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
            out.write(secrets.token_urlsafe(50))
        try:
            os.link(mine, path)  # whole or not at all, and the first process wins
        except FileExistsError:
            pass
        finally:
            mine.unlink()
    return path.read_text()


try:
    SCHEME = schemes.chosen()
    _database = (
        database_url.parse(os.environ["DATABASE_URL"])
        if os.environ.get("DATABASE_URL")
        else {
            "NAME": "boxoffice",
            "USER": os.environ.get("POOLING_DB_USER", "root"),
            "PASSWORD": os.environ.get("POOLING_DB_PASSWORD", ""),
            "HOST": os.environ.get("POOLING_DB_HOST", "127.0.0.1"),
            "PORT": os.environ.get("POOLING_DB_PORT", ""),
        }
    )
except ValueError as error:
    raise ImproperlyConfigured(str(error)) from None
if os.environ.get("DEMO_DB_NAME"):
    _database["NAME"] = os.environ["DEMO_DB_NAME"]
if os.environ.get("DEMO_DB_VIA"):  # a port here that leads to the same database
    _database |= {"HOST": "127.0.0.1", "PORT": os.environ["DEMO_DB_VIA"]}

DEBUG = os.environ.get("DEBUG") == "1"
SECRET_KEY = _secret_key()
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "pooling",
    "demo_site.boxoffice",
    "demo_site.lab",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    *(["demo_site.lab.waits.Named"] if os.environ.get("DEMO_LAB") == "1" else []),
    *SCHEME.middleware,
    "pooling.middleware.BusyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "demo_site.urls"
WSGI_APPLICATION = "demo_site.wsgi.application"
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

DATABASES = {"default": {**_database, **SCHEME.database}}
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": os.environ.get("REDIS_URL") or os.environ.get("POOLING_REDIS_URL") or "redis://127.0.0.1:6379/0",
        "KEY_PREFIX": _database["NAME"],
        # A copy of the sessions, which are in the database: without Redis the site, and its status page, go on.
        "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 0.5, "SOCKET_TIMEOUT": 0.5, "IGNORE_EXCEPTIONS": True},
    },
    # Locks, versions and cached pages of this process, which is the only one, of many threads. With the scheme
    # pooling_redis, by which the demo is served, they are in Redis.
    "pooling": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "pooling"},
}
POOLING = {
    "CACHE_ALIAS": "pooling",
    "KEY_PREFIX": _database["NAME"],  # for a scheme that keeps them in Redis
    "GROUP_ORDER": ["events", "accounts"],
    **SCHEME.pooling,
}
DJANGO_REDIS_LOG_IGNORED_EXCEPTIONS = True
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"

PASSWORD_HASHERS = ["demo_site.boxoffice.hashers.Quick"]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "account"
LOGOUT_REDIRECT_URL = "events"
STATIC_URL = "/static/"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"django.request": {"level": "CRITICAL" if os.environ.get("DEMO_QUIET") == "1" else "ERROR"}},
}
