"""The keys go to another server: at the level "near" no page is older than its heartbeat allows, whoever has them.

A page is in the memory of this process and its versions are known without asking. Then the server changes, another
process writes at the new one, and from then on each answer that is asked for more than a heartbeat later must be new.
That is promised however slow the machine is: it is about when a request begins.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from redis.crc import key_slot

from pooling import locked_cache, runtime
from pooling.groups import read_epochs, write_epochs
from pooling.store._scripts import encode
from tests.servers import PrivateRedis

from .conftest import store_at, until
from .several import SLOTS, cluster, is_master, move_slot, through, watched_over

HEARTBEAT = 0.5
PREFIX = "moves"
EPOCHS = read_epochs(["shop"])


@pytest.fixture(autouse=True)
def fresh_runtime() -> Iterator[None]:
    runtime.reset_runtime()
    yield
    runtime.reset_runtime()


def configured(location: str, **options: Any) -> Any:
    cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location, "OPTIONS": options}
    pooling = {"STORE_BUDGET": 1.0, "NEAR_HEARTBEAT": HEARTBEAT, "KEY_PREFIX": PREFIX}
    return override_settings(CACHES={"default": cache}, POOLING=pooling)


class Site:
    """One page at the level "near", and the database that it is made from."""

    def __init__(self) -> None:
        self.value = "old"

        @locked_cache(300, reads=["shop"], level="near")
        def page(request: Any) -> HttpResponse:
            return HttpResponse(self.value)

        self._page = page
        self._written = 0.0

    def get(self) -> tuple[str, str]:
        """The page and what became of the request. AssertionError if the page is older than it may be."""
        begun = time.monotonic()
        response = self._page(RequestFactory().get("/shop"))
        body = response.content.decode()
        if self.value == "new" and begun - self._written > HEARTBEAT:
            assert body == "new", f"{begun - self._written:.3f} s after the write: {response['Cache-Status']}"
        return body, response["Cache-Status"]

    def until_near(self, wanted: str) -> None:
        """Ask until this page is a hit whose versions are known here."""

        def hit() -> bool:
            body, status = self.get()
            known = runtime.store().known(EPOCHS) is not None
            return body == wanted and known and status.startswith("pooling; hit")

        until(hit)

    def write_at(self, server: PrivateRedis, db: int = 0) -> None:
        """As another process does it that has just been started and asked where the keys are."""
        other = store_at(server.url.removesuffix("0") + str(db), prefix=PREFIX)
        self.value = "new"
        other.invalidate(write_epochs(["shop"]))
        self._written = time.monotonic()
        other.close()


@pytest.mark.parametrize(("how", "db"), [("killed", 1), ("hangs", 2)])
def test_sentinel_fails_over(how: str, db: int, tmp_path: Path) -> None:
    # A database each, since django-redis has one pool for each URL, with the sentinels that were the first to come.
    with watched_over(tmp_path) as (master, replica, sentinel), configured(f"redis://shop/{db}", **through(sentinel)):
        site = Site()
        site.until_near("old")
        master.kill(signal.SIGKILL if how == "killed" else signal.SIGSTOP)
        try:
            until(lambda: is_master(sentinel, replica))
            site.write_at(replica, db)
        finally:
            if how == "hangs":
                # It goes on as if nothing had happened, and thinks for some seconds that it is the master still.
                master.kill(signal.SIGCONT)
        site.until_near("new")


@pytest.mark.parametrize("known_there", [False, True])
def test_a_slot_moves_to_another_node(known_there: bool, tmp_path: Path) -> None:
    source = key_slot(encode("{" + PREFIX + "}")) * 2 // SLOTS
    target = 1 - source
    with cluster(tmp_path, 2) as nodes, configured(nodes[source].url):
        site = Site()
        site.until_near("old")
        move_slot(nodes, key_slot(encode("{" + PREFIX + "}")), source, target)
        if known_there:
            site.until_near("old")
        site.write_at(nodes[target])
        site.until_near("new")
