"""Django settings of a worker. The servers, and what the run tries, are in its environment."""

from __future__ import annotations

import os

SECRET_KEY = "for the faults only"
USE_TZ = True
ALLOWED_HOSTS = ["testserver"]

DATABASES = {
    "default": {
        "ENGINE": "pooling.backends.mysql",
        "NAME": "faults",
        "HOST": os.environ["FAULTS_DB_HOST"],
        "PORT": os.environ["FAULTS_DB_PORT"],
        "USER": "root",
        "PASSWORD": "",
        "ATOMIC_REQUESTS": os.environ.get("FAULTS_ATOMIC") == "1",
        "OPTIONS": {
            "pool": {"min_size": 0, "max_size": int(os.environ.get("FAULTS_POOL", "2")), "timeout": 2},
            "isolation_level": os.environ.get("FAULTS_ISOLATION", "read committed"),
        },
    }
}
CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": os.environ["FAULTS_REDIS_URL"]}}
POOLING = {
    "FENCE": os.environ["FAULTS_FENCE"] == "1",
    "ON_STORE_DOWN": os.environ["FAULTS_ON_STORE_DOWN"],
    "LOCK_WAIT": 5,
    "LOCK_LEASE": float(os.environ.get("FAULTS_LEASE", "30")),
    "NEAR_HEARTBEAT": float(os.environ.get("FAULTS_HEARTBEAT", "1")),
    "STORE_BUDGET": 0.5,
}
INSTALLED_APPS = ["pooling"]
