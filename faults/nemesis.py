"""The nemesis: does to processes and servers what happens to them, one thing after another, and sees them recover."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

import redis

from demo_site.servers import PrivateDatabase
from tests.proxy import Proxy

from . import servers
from .fleet import DEADLINE, Fleet, Process
from .history import History

LEASE = 1.0  # seconds, while there are faults
CALM_LEASE = 30.0  # seconds, while there are none: nobody may lose a lock to a busy machine then
EPSILON = 15.0  # seconds that recovery may take beyond the lease: pauses of the breaker and the pool, a busy machine
TRIES = 3
PATIENCE = 5.0  # seconds until a point must have been reached, or else the fault is not injected


Faults: TypeAlias = "Mapping[str, Callable[[Any], bool]]"  # by name; says whether it was injected


class Nemesis:
    """Injects faults in an order that ``seed`` decides. ``proxies`` are all ways to Redis."""

    signs: ClassVar[Sequence[str]] = ("done", "granted")  # points of each worker that show that it has recovered

    def __init__(
        self,
        seed: str,
        fleet: Fleet,
        database: PrivateDatabase,
        stores: servers.Stores,
        proxies: Sequence[Proxy],
        faults: Faults | None = None,
    ) -> None:
        self._chance = random.Random(seed)
        self._fleet = fleet
        self._history: History = fleet.history
        self._database = database
        self._stores = stores
        self._proxies = proxies
        self._faults = FAULTS if faults is None else faults
        self.injected: Counter[str] = Counter()
        self.slowest: dict[str, float] = {}  # seconds from the heal until each worker has committed
        self.stuck: list[str] = []

    def calm(self, seconds: float) -> None:
        """So many seconds without faults, which are marked in the history."""
        self._set_lease(CALM_LEASE)
        self._history.note("calm")
        time.sleep(seconds)
        self._history.note("calm over")
        self._set_lease(LEASE)

    def _set_lease(self, seconds: float) -> None:
        """All transfers that begin from now on have this lease, and none is left that has another."""
        told = time.monotonic()
        self._fleet.tell(lease=seconds)
        self._fleet.all_since("heard", told, DEADLINE)
        self._recovered("calm", time.monotonic())

    def rage(self, kinds: Sequence[str], seconds: float) -> None:
        """Each kind once, and again and again while there is time."""
        deadline = time.monotonic() + seconds
        for kind in self._chance.sample(kinds, len(kinds)):
            self._try(kind)
        while time.monotonic() < deadline:
            self._try(self._chance.choice(kinds))

    def _try(self, kind: str) -> None:
        """Inject it; once more if it came to nothing, for instance because nobody had to wait in time."""
        for _ in range(TRIES):
            self._once(kind)
            if self.injected[kind]:
                return

    def _once(self, kind: str) -> None:
        self._history.note("fault", kind=kind)
        if self._faults[kind](self):
            self.injected[kind] += 1
        healed = self._history.note("healed", kind=kind).time
        self._recovered(kind, healed)

    def _recovered(self, kind: str, since: float) -> None:
        """Wait until each worker has committed after this moment, and asks Redis again."""
        for sign in self.signs:
            if late := self._fleet.all_since(sign, since, LEASE + EPSILON):
                self.stuck.append(f"after {kind}: no {sign!r} of {late} within {LEASE + EPSILON:g} s of the heal")
                break
        self.slowest[kind] = max(self.slowest.get(kind, 0.0), time.monotonic() - since)

    # -- processes

    def _at(self, point: str) -> Process | None:
        """A process that stands still at this point."""
        process = self._chance.choice(self._fleet.processes)
        return process if process.stop_at(point, PATIENCE) else None

    def _stop(self, point: str) -> bool:
        process = self._at(point)
        if process is None:
            return False
        time.sleep(LEASE * 1.6)  # past the lease, and long enough for the next one to read
        process.go_on()
        return True

    def _kill(self, *points: str) -> bool:
        process = self._at(self._chance.choice(points))
        if process is None:
            return False
        self._fleet.replace(process, LEASE)
        return True

    # -- Redis

    def _wipe(self) -> bool:
        return bool(self._stores.client().flushall())

    def _restart_empty(self) -> bool:
        self._stores.current.kill()
        self._stores.current.start()
        return True

    def _hang(self) -> bool:
        self._stores.current.kill(signal.SIGSTOP)
        time.sleep(LEASE * 1.6)
        self._stores.current.kill(signal.SIGCONT)
        return True

    def _cut(self) -> bool:
        for proxy in self._proxies:
            proxy.refuse()
            proxy.cut()
        time.sleep(LEASE * 1.6)
        for proxy in self._proxies:
            proxy.listen()
        return True

    def _drop_replies(self) -> bool:
        """The server has carried a script out, and nobody hears what came of it."""
        client = self._stores.client()
        for proxy in self._proxies:
            proxy.stall(up=False)
        before = _scripts_run(client)
        dropped = _within(PATIENCE, lambda: _scripts_run(client) > before)
        for proxy in self._proxies:
            proxy.cut()
            proxy.go_on()
        return dropped

    def _forget_scripts(self) -> bool:
        return bool(self._stores.client().script_flush())

    def _fail_over(self) -> bool:
        """To the replica, which knows nothing of what was granted last."""
        stores = self._stores
        stores.freeze()
        seq = stores.last_token()
        lagging = _within(PATIENCE, lambda: stores.last_token() > seq)
        target = stores.fail_over()
        for proxy in self._proxies:
            proxy.target = target
            proxy.cut()
        return lagging

    # -- the database

    def _kill_connection(self) -> bool:
        process = self._at(self._chance.choice(["claimed", "read", "commit"]))
        if process is None:
            return False
        killed = servers.kill_connections(self._database)
        process.go_on()
        return killed > 0

    def _restart_database(self) -> bool:
        self._database.kill()
        self._database.start()
        return True


FAULTS: Faults = {
    "stop after the grant": lambda nemesis: nemesis._stop("granted"),
    "stop after the claim": lambda nemesis: nemesis._stop("claimed"),
    "stop before the commit": lambda nemesis: nemesis._stop("commit"),
    "kill -9 of a holder": lambda nemesis: nemesis._kill("granted", "claimed", "commit", "committed"),
    "kill -9 of a waiter": lambda nemesis: nemesis._kill("waiting"),
    "Redis wiped": Nemesis._wipe,
    "Redis restarted empty": Nemesis._restart_empty,
    "Redis hung": Nemesis._hang,
    "Redis cut off": Nemesis._cut,
    "reply dropped": Nemesis._drop_replies,
    "scripts forgotten": Nemesis._forget_scripts,
    "failover, lagging": Nemesis._fail_over,
    "connections killed": Nemesis._kill_connection,
    "database restarted": Nemesis._restart_database,
}


def _scripts_run(client: redis.Redis) -> int:
    return int(client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


def _within(seconds: float, true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True
