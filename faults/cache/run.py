"""One run: servers, a site of several processes, faults, and what the checker says of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from demo_site.servers import private_database
from tests.proxy import Proxy

from .. import checker, servers
from ..checker import Finding, Story
from ..fleet import Fleet
from ..history import Event, History
from ..nemesis import LEASE
from ..picture import WORKERS
from . import checker as cache_checker
from .checker import Level
from .nemesis import FAULTS, CacheNemesis
from .shelves import TABLES

HEARTBEAT = 0.5  # seconds
FOR_EVER = 3600.0


@dataclass(frozen=True)
class Plan:
    """``seconds`` of faults, at least one of each of ``kinds``. ``broken``: what is broken on purpose, "epochs":
    pages are stored without a look at them, or "heartbeat": what was told of them is relied on for ever. Then something
    of the kind that ``control`` names must be found, and the run is over when it was: whether one fault does harm
    depends on who has just locked what."""

    name: str
    seed: str
    seconds: float
    kinds: tuple[str, ...] = tuple(FAULTS)
    broken: str = ""

    @property
    def control(self) -> str:
        return {"": "", "epochs": cache_checker.STALE, "heartbeat": cache_checker.LATE}[self.broken]


@dataclass(frozen=True)
class Result:
    """What came of a plan. ``marks``: when and at which worker an answer was too old; ``slowest`` is in seconds."""

    plan: Plan
    events: Sequence[Event]
    told: dict[str, Story]
    levels: dict[str, Level]
    findings: Sequence[Finding]
    marks: Sequence[tuple[float, int]]
    injected: Counter[str]
    slowest: dict[str, float]

    def missing(self) -> list[str]:
        """Faults that the plan has and that were never injected."""
        return [kind for kind in self.plan.kinds if not self.injected[kind]]

    def complaints(self) -> list[str]:
        """Why the run is no success. With something broken it must find that."""
        found = [f"{kind}: never injected" for kind in self.missing()]
        if not self.plan.control:
            found += [f"{finding.kind}: {finding.text}" for finding in self.findings]
        elif all(finding.kind != self.plan.control for finding in self.findings):
            found.append(f"the negative control found nothing {self.plan.control!r}: this run would notice no breach")
        return found


def run(plan: Plan, folder: Path) -> Result:
    """Carry it out, with servers whose data are in ``folder``."""
    history = History()
    with (
        private_database(folder, options=servers.DATABASE_OPTIONS) as database,
        servers.Stores(folder) as stores,
        ExitStack() as stack,
    ):
        proxies = [stack.enter_context(Proxy(stores.current.host, stores.current.port)) for _ in range(WORKERS)]
        common = {
            "DJANGO_SETTINGS_MODULE": "faults.settings",
            "FAULTS_DB_HOST": database.host,
            "FAULTS_DB_PORT": str(database.port),
            "FAULTS_FENCE": "1",
            "FAULTS_ON_STORE_DOWN": "refuse",
            "FAULTS_POOL": "20",
            "FAULTS_ISOLATION": "repeatable read",
            "FAULTS_HEARTBEAT": str(FOR_EVER if plan.broken == "heartbeat" else HEARTBEAT),
            "FAULTS_EPOCHS_UNCHECKED": str(int(plan.broken == "epochs")),
        }
        # Half of them read in transactions, whose snapshots are older than what they show.
        envs = [
            {**common, "FAULTS_REDIS_URL": f"redis://{proxy.host}:{proxy.port}/0", "FAULTS_ATOMIC": str(number % 2)}
            for number, proxy in enumerate(proxies)
        ]
        servers.make_tables(database, envs[0], TABLES)
        fleet = Fleet(plan.seed, envs, history, "faults.cache.worker")
        nemesis = CacheNemesis(plan.seed, fleet, database, stores, proxies, FAULTS)
        fleet.start(LEASE)
        try:
            nemesis.settled()
            _rage(plan, nemesis, history)
            ends = fleet.end()
        except BaseException:
            fleet.kill()
            raise
        final = dict(servers.rows(database, "SELECT id, version FROM shelf"))
    events = history.events()
    verdict = cache_checker.check(events, final, HEARTBEAT)
    findings = [
        *verdict.findings,
        *(Finding(checker.PROGRESS, text) for text in nemesis.stuck),
        *(Finding(checker.BROKEN, text) for text in ends),
    ]
    told = checker.stories(events)
    return Result(plan, events, told, verdict.levels, findings, verdict.marks, nemesis.injected, nemesis.slowest)


def _rage(plan: Plan, nemesis: CacheNemesis, history: History) -> None:
    if not plan.control:
        nemesis.rage(plan.kinds, plan.seconds)
        return
    deadline = time.monotonic() + plan.seconds
    found: set[str] = set()
    while plan.control not in found and time.monotonic() < deadline:
        nemesis.rage(plan.kinds, 0.0)
        found = {finding.kind for finding in cache_checker.check(history.events(), {}, HEARTBEAT).findings}
