"""A Celery application whose parent process has used the database when it forks its workers."""

from __future__ import annotations

import json
import os
from typing import Any

from celery import Celery

app = Celery("queue", broker=os.environ["POOLING_REDIS_URL"], backend=os.environ["POOLING_REDIS_URL"])
app.conf.update(
    task_default_queue=os.environ["TEST_QUEUE"],
    broker_connection_retry_on_startup=False,
    broker_transport_options={"global_keyprefix": os.environ["TEST_QUEUE"]},
    worker_prefetch_multiplier=1,
)


@app.task
def report() -> Any:
    from tests.concurrency import site

    return json.loads(site.report().content)


if os.environ.get("TEST_PRELOAD"):
    from tests.concurrency import site  # noqa: F401 - makes its sessions now, in the parent
