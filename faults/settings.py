"""Django settings of a worker. The servers, and what the run tries, are in its environment."""

from __future__ import annotations

import os

SECRET_KEY = "for the faults only"
USE_TZ = True

DATABASES = {
    "default": {
        "ENGINE": "pooling.backends.mysql",
        "NAME": "bank",
        "HOST": os.environ["FAULTS_DB_HOST"],
        "PORT": os.environ["FAULTS_DB_PORT"],
        "USER": "root",
        "PASSWORD": "",
        "OPTIONS": {"pool": {"min_size": 0, "max_size": 2, "timeout": 2}},
    }
}
CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": os.environ["FAULTS_REDIS_URL"]}}
POOLING = {
    "FENCE": os.environ["FAULTS_FENCE"] == "1",
    "ON_STORE_DOWN": os.environ["FAULTS_ON_STORE_DOWN"],
    "LOCK_WAIT": 5,
    "STORE_BUDGET": 0.5,
}
INSTALLED_APPS = ["pooling"]
