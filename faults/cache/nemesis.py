"""What is done to the site's processes, to Redis and to the way there. Each process has a proxy of its own, so that it
can be cut off while the others write."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from tests.proxy import Proxy

from .. import servers
from ..nemesis import LEASE, Faults, Nemesis
from .shelves import LEVELS

OUTLIVED = LEASE * 2  # seconds: past the lease, and past the heartbeat


class CacheNemesis(Nemesis):
    """The nemesis of the cache."""

    signs: ClassVar[Sequence[str]] = ("done", "granted", *(f"hit {level}" for level in LEVELS))

    def settled(self) -> None:
        """Wait until every process writes and has hits at each level."""
        self._recovered("the start", time.monotonic())

    def _stand_still(self) -> bool:
        process = self._chance.choice(self._fleet.processes)
        process.stop()
        time.sleep(OUTLIVED)
        process.go_on()
        return True

    def _stall(self) -> bool:
        """One process is cut off, and nothing tells it."""
        proxy = self._way()
        proxy.stall(up=self._chance.random() < 0.5)
        time.sleep(OUTLIVED)
        if self._chance.random() < 0.5:
            proxy.cut()
        proxy.go_on()
        return True

    def _cut_one(self) -> bool:
        proxy = self._way()
        proxy.refuse()
        proxy.cut(reset=self._chance.random() < 0.5)
        time.sleep(LEASE / 2)
        proxy.listen()
        return True

    def _kill_clients(self) -> bool:
        with self._stores.client() as client:
            killed: list[int] = [client.client_kill_filter(_type=kind) for kind in ("normal", "pubsub")]
            return any(killed)

    def _kill_sessions(self) -> bool:
        return servers.kill_connections(self._database) > 0

    def _way(self) -> Proxy:
        """That of one process."""
        return self._chance.choice(self._proxies)


FAULTS: Faults = {
    "kill -9 of a writer": lambda nemesis: nemesis._kill("claimed", "commit", "committed"),
    "stop of a writer": lambda nemesis: nemesis._stop("commit"),
    "stop of a reader": lambda nemesis: nemesis._stop("read"),
    "stop anywhere": CacheNemesis._stand_still,
    "Redis wiped": Nemesis._wipe,
    "Redis restarted empty": Nemesis._restart_empty,
    "Redis hung": Nemesis._hang,
    "scripts forgotten": Nemesis._forget_scripts,
    "reply dropped": Nemesis._drop_replies,
    "cut off, no sign": CacheNemesis._stall,
    "cut off": CacheNemesis._cut_one,
    "CLIENT KILL": CacheNemesis._kill_clients,
    "sessions killed": CacheNemesis._kill_sessions,
}
