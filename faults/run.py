"""One run: servers, workers, faults, and what the checker says of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from demo_site.servers import private_database
from tests.proxy import Proxy

from . import checker, servers
from .bank import ACCOUNTS, BALANCE
from .checker import Finding, Story
from .fleet import Fleet
from .history import Event, History
from .nemesis import FAULTS, LEASE, Nemesis
from .picture import WORKERS


@dataclass(frozen=True)
class Plan:
    """``seconds`` of faults, at least one of each of ``kinds``; ``calm`` seconds without them before and after."""

    name: str
    seed: str
    seconds: float
    calm: float = 3.0
    fence: bool = True
    on_store_down: str = "refuse"
    kinds: tuple[str, ...] = tuple(FAULTS)


@dataclass(frozen=True)
class Result:
    """What came of a plan. ``lost`` are the lost updates among the ``findings``; ``slowest`` is in seconds."""

    plan: Plan
    events: Sequence[Event]
    told: dict[str, Story]
    findings: Sequence[Finding]
    injected: Counter[str]
    slowest: dict[str, float]

    @property
    def lost(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind == checker.LOST]

    @property
    def marks(self) -> list[tuple[float, int]]:
        """When a transfer ended that lost an update, and at which worker."""
        told = [self.told[finding.transfer] for finding in self.lost if finding.transfer in self.told]
        return [(max(story.reached.values()), story.worker) for story in told]

    @property
    def alone(self) -> int:
        """How many committed with the fences alone, while Redis was away."""
        return sum(story.alone and story.outcome == "done" for story in self.told.values())

    def missing(self) -> list[str]:
        """Faults that the plan has and that were never injected."""
        return [kind for kind in self.plan.kinds if not self.injected[kind]]

    def complaints(self) -> list[str]:
        """Why the run is no success. Without fences it must find what they are there for."""
        found = [f"{kind}: never injected" for kind in self.missing()]
        if self.plan.fence:
            found += [f"{finding.kind}: {finding.text}" for finding in self.findings]
        elif not self.lost:
            found.append("the negative control lost no update: this run would not notice a fence that does nothing")
        if self.plan.on_store_down == "fence" and not self.alone:
            found.append("nobody wrote while Redis was away")
        return found


def run(plan: Plan, folder: Path) -> Result:
    """Carry it out, with servers whose data are in ``folder``."""
    history = History()
    with (
        private_database(folder, options=servers.DATABASE_OPTIONS) as database,
        servers.Stores(folder) as stores,
        Proxy(stores.current.host, stores.current.port) as proxy,
    ):
        env = {
            "DJANGO_SETTINGS_MODULE": "faults.settings",
            "FAULTS_DB_HOST": database.host,
            "FAULTS_DB_PORT": str(database.port),
            "FAULTS_REDIS_URL": f"redis://{proxy.host}:{proxy.port}/0",
            "FAULTS_FENCE": "1" if plan.fence else "0",
            "FAULTS_ON_STORE_DOWN": plan.on_store_down,
        }
        servers.make_tables(database, env)
        fleet = Fleet(plan.seed, [env] * WORKERS, history)
        nemesis = Nemesis(plan.seed, fleet, database, stores, [proxy])
        fleet.start(LEASE)
        try:
            nemesis.calm(plan.calm)
            nemesis.rage(plan.kinds, plan.seconds)
            nemesis.calm(plan.calm)
            ends = fleet.end()
        except BaseException:
            fleet.kill()
            raise
        at_rest = _at_rest(stores)
        accounts, audit = servers.read_bank(database)
    events = history.events()
    told = checker.stories(events)
    findings = [
        *checker.check_bank(accounts, audit, BALANCE),
        *checker.check_answers(told, audit),
        *checker.check_calm(told, checker.calm_times(events)),
        *(Finding(checker.PROGRESS, text) for text in nemesis.stuck),
        *(Finding(checker.REST, f"{key!r} is still in Redis") for key in sorted(at_rest)),
        *(Finding(checker.BROKEN, text) for text in ends),
    ]
    assert len(accounts) == ACCOUNTS
    return Result(plan, events, told, findings, nemesis.injected, nemesis.slowest)


def _at_rest(stores: servers.Stores) -> set[str]:
    """Keys that stay and should not: of the tickets of the dead, leases and patience are over by now or soon."""
    deadline = time.monotonic() + 15
    while left := stores.lasting_keys() - {"seq"}:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return left
