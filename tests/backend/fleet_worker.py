"""A process of a fleet: it uses as many connections as it can get, and says how many that may be.

``python -m tests.backend.fleet_worker DATABASE [REDIS]`` with the database's settings as JSON, and perhaps the address
of the store; ends with its standard input.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from django.conf import settings

THREADS = 14
HOLD = 0.05  # seconds


def work(stop: threading.Event) -> None:
    from django.db import OperationalError, connection

    while not stop.is_set():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            time.sleep(HOLD)
        except OperationalError as error:
            if "PoolTimeout" not in repr(error.__cause__):
                print(json.dumps({"error": str(error)}), flush=True)
        finally:
            connection.close()


def tell(stop: threading.Event) -> None:
    from django.db import connection

    told = None
    while not stop.wait(0.02):
        stats = connection.pool.get_stats()
        now = {"share": stats["pool_max"], "size": stats["pool_size"], "members": stats["budget_members"]}
        if now != told:
            told = now
            print(json.dumps(now), flush=True)


def main() -> None:
    kind = "django_redis.cache.RedisCache" if len(sys.argv) > 2 else "django.core.cache.backends.locmem.LocMemCache"
    settings.configure(
        DATABASES={"default": json.loads(sys.argv[1])},
        CACHES={"default": {"BACKEND": kind, "LOCATION": "".join(sys.argv[2:])}},
        POOLING={"STORE_BUDGET": 5},
        INSTALLED_APPS=["pooling"],
        USE_TZ=True,
    )
    import django

    django.setup()
    stop = threading.Event()
    threads = [threading.Thread(target=work, args=[stop]) for _ in range(THREADS)]
    threads.append(threading.Thread(target=tell, args=[stop]))
    for thread in threads:
        thread.start()
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
