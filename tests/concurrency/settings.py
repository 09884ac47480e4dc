"""Settings of the programs here: the test run's servers, which the environment names, and a small pool."""

from __future__ import annotations

import json
import os

SECRET_KEY = "for the tests only"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.concurrency.site"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["pooling"]
DATABASES = {
    "default": {
        "ENGINE": "pooling.backends.mysql",
        "NAME": "mysql",  # it is there, and nothing here writes
        "HOST": os.environ["POOLING_DB_HOST"],
        "PORT": os.environ["POOLING_DB_PORT"],
        "USER": os.environ["POOLING_DB_USER"],
        "PASSWORD": os.environ["POOLING_DB_PASSWORD"],
        "OPTIONS": {"pool": json.loads(os.environ.get("TEST_POOL", '{"max_size": 3, "timeout": 20}'))},
    }
}
