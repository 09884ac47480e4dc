"""Settings for Django's own test suite; `scripts.django_suite` puts the server's address into the environment."""

from __future__ import annotations

import os
from typing import Any

ENGINE = os.environ["SUITE_ENGINE"]
POOL = {
    "release": os.environ.get("SUITE_RELEASE", "request"),
    "start_transaction": bool(os.environ.get("SUITE_START_TRANSACTION")),
}


def database(name: str) -> dict[str, Any]:
    return {
        "ENGINE": ENGINE,
        "NAME": name,
        "HOST": os.environ["SUITE_HOST"],
        "PORT": os.environ["SUITE_PORT"],
        "USER": os.environ["SUITE_USER"],
        "PASSWORD": os.environ["SUITE_PASSWORD"],
        "OPTIONS": {} if ENGINE.startswith("django.") else {"pool": POOL},
        "TEST": {"CHARSET": "utf8mb4"},
    }


DATABASES = {"default": database("suite_default"), "other": database("suite_other")}
SECRET_KEY = "django_tests_secret_key"  # Django's tests expect results made with this one
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
