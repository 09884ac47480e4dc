"""What locks cost, beside redis-py's Lock and python-redis-lock: ``python -m benchmarks.locks``.

It starts a Redis of its own on loopback. Rounds are interleaved (everybody once, then everybody again), since a
machine's speed drifts more than locks differ; the tables show medians over the rounds unless they say otherwise. What
is measured is the store: a request is made, granted and released. Renewing versions of what is written is a row of its
own, since the peers have nothing like it; nor do they know several groups, so five of their locks are taken one after
the other. A peer that is not installed is left out, and the output says so.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis

from demo_site.servers import PrivateRedis
from pooling.groups import plan, write_epochs
from pooling.store._driver import RedisDriver
from pooling.store.memory import MemoryStore
from pooling.store.protocol import LockRequest, Store
from pooling.store.redis import RedisStore

from . import report, timing

OWNER = {"view": "shop.views.buy", "label": "", "host": "web1", "pid": "4711", "thread": "MainThread"}
BUDGET = 10.0  # seconds; a busy machine must not break off a measurement
USES = 500  # of each lock in a round
PROCESSES = 8  # that compete for one lock,
HOLD, COMPETING = 0.002, 5.0  # seconds that each holds it, and seconds of that
_numbers = itertools.count()
absent: dict[str, str] = {}  # peer -> why it is left out

Use = Callable[[], None]


def new_store(url: str) -> RedisStore:
    return RedisStore(RedisDriver(redis.Redis.from_url(url)), budget=BUDGET)


class Ours:
    """One lock in the store, with the interface that the peers have."""

    def __init__(self, store: Store, groups: Sequence[str], *, renewing: bool = False) -> None:
        self.store = store
        self.wants = plan([], groups, {}).wants
        self.renews = write_epochs(groups) if renewing else ()
        self.ticket = ""

    def acquire(self) -> bool:
        self.ticket = ticket = f"bench.{id(self)}.{next(_numbers)}"
        asked = LockRequest(ticket, self.wants, 30.0, 60.0, renews=self.renews, owner=OWNER)
        return (self.store.acquire(asked) or self.store.wait(ticket, 60.0)) is not None

    def release(self) -> None:
        self.store.release(self.ticket, self.renews)

    def use(self) -> None:
        self.acquire()
        self.release()


def redis_py(url: str, name: str = "redis-py") -> Any:
    client = redis.Redis.from_url(url)
    return client.lock(name, timeout=30)


def python_redis_lock(url: str, name: str = "python-redis-lock") -> Any:
    import redis_lock  # type: ignore[import-untyped, unused-ignore]

    logging.getLogger("redis_lock").setLevel(logging.ERROR)
    return redis_lock.Lock(redis.Redis.from_url(url), name, expire=30)


def ours(url: str, name: str = "pooling") -> Any:
    return Ours(new_store(url), [name])


POOLING, REDIS_PY, PYTHON_REDIS_LOCK = "pooling", "redis-py Lock", "python-redis-lock"
KINDS: dict[str, Callable[..., Any]] = {POOLING: ours, REDIS_PY: redis_py, PYTHON_REDIS_LOCK: python_redis_lock}


def known_kinds(url: str) -> list[str]:
    found = []
    for name, make in KINDS.items():
        try:
            make(url)
        except ImportError as error:
            absent.setdefault(name, str(error))
        else:
            found.append(name)
    return found


# -- one at a time


def measure(use: Use, uses: int) -> float:
    """µs per use."""
    start = time.perf_counter()
    for _ in range(uses):
        use()
    return (time.perf_counter() - start) / uses * 1e6


def rounds_of(uses: dict[str, Use], rounds: int) -> timing.Rounds:
    for use in uses.values():
        measure(use, USES // 10)
    found: timing.Rounds = {name: [] for name in uses}
    timing.interleaved(list(uses), rounds, lambda name: found[name].append(measure(uses[name], USES)))
    return found


def table(title: str, about: str, found: timing.Rounds) -> report.Table:
    made = report.Table(about, ["", "µs", "best round", "slowest round"], title=title, raw={"µs": found})
    made.rows = [
        [name, *(f"{value:.1f}" for value in (statistics.median(times), min(times), max(times)))]
        for name, times in found.items()
    ]
    return made


ONE, FIVE = "1 group", "5 groups"
IN_PROCESS = "pooling, in-process store"


def of_peer(make: Callable[..., Any], url: str, number: int) -> Use:
    locks = [make(url, f"bench{one}") for one in range(number)]

    def use() -> None:
        for lock in locks:
            lock.acquire()
        for lock in reversed(locks):
            lock.release()

    return use


def alone(url: str, rounds: int) -> report.Table:
    store, memory = new_store(url), MemoryStore()
    names = {ONE: ["group0"], FIVE: [f"group{number}" for number in range(5)]}
    uses: dict[str, Use] = {}
    for case, groups in names.items():
        uses[f"{POOLING}, {case}"] = Ours(store, groups).use
        uses[f"{POOLING}, {case}, versions renewed"] = Ours(store, groups, renewing=True).use
        uses[f"{IN_PROCESS}, {case}"] = Ours(memory, groups).use
        for kind in known_kinds(url):
            if kind != POOLING:
                uses[f"{kind}, {case}"] = of_peer(KINDS[kind], url, len(groups))
    found = rounds_of(uses, rounds)
    store.close()
    made = table(
        "Acquire and release",
        f"Acquire and release, nobody else there, median of {rounds} interleaved rounds of {USES}.",
        found,
    )
    for case in names:
        bare = {name: f"{name}, {case}" for name in (*known_kinds(url), IN_PROCESS)}
        made.compare(f"Acquire and release, {case}", "µs", {name: found[full] for name, full in bare.items()})
    one, five = f"{POOLING}, {ONE}", f"{POOLING}, {FIVE}"
    memory_one = f"{IN_PROCESS}, {ONE}"
    bars = [
        report.Bar(f"beside {REDIS_PY}, {ONE}", timing.beside(found, one, f"{REDIS_PY}, {ONE}"), 1.1),
        report.Bar(f"{FIVE} beside {ONE}", timing.beside(found, five, one), 1.1),
        report.Bar(memory_one, statistics.median(found[memory_one]), 6, unit=" µs"),
        report.Bar(f"{memory_one} beside Redis", timing.beside(found, memory_one, one), 0.05),
    ]
    made.bars += bars
    return made


def crowded(url: str, rounds: int) -> report.Table:
    """What others have elsewhere. Each case is a table of its own in the same server."""
    stores = {}
    for name in ("none", "50,000 others held", "1,000 waiters elsewhere"):
        stores[name] = RedisStore(RedisDriver(redis.Redis.from_url(url)), prefix=name, budget=BUDGET)
    for number in range(50_000):
        wants = plan([], [f"elsewhere/{number}"], {}).wants
        stores["50,000 others held"].acquire(LockRequest(f"h{number}", wants, 3600.0, 60.0, owner=OWNER))
    for number in range(1001):
        wants = plan([], ["elsewhere"], {}).wants
        stores["1,000 waiters elsewhere"].acquire(LockRequest(f"w{number}", wants, 3600.0, 3600.0, owner=OWNER))
    found = rounds_of({name: Ours(store, ["here"]).use for name, store in stores.items()}, rounds)
    about = f"Acquire and release of 1 group, median of {rounds} interleaved rounds of {USES}; elsewhere:"
    made = table("Others elsewhere", about, found)
    for name in list(found)[1:]:
        made.bars.append(report.Bar(f"{name} beside none", timing.beside(found, name, "none"), 1.5))
    for store in stores.values():
        store.close()
    return made


# -- several processes


def wait_in_turn(kind: str, url: str, pipe: Any) -> None:
    """Another process: at each word it takes the lock, says when it had it, and lets go."""
    lock = KINDS[kind](url)
    pipe.send("ready")
    while pipe.recv():
        lock.acquire()
        pipe.send(time.monotonic())
        lock.release()


def hand_off(url: str, rounds: int) -> report.Table:
    context = multiprocessing.get_context("spawn")
    peers = {}
    for kind in known_kinds(url):
        mine, theirs = context.Pipe()
        process = context.Process(target=wait_in_turn, args=(kind, url, theirs), daemon=True)
        process.start()
        mine.recv()
        peers[kind] = (KINDS[kind](url), mine, process)
    found: timing.Rounds = {kind: [] for kind in peers}
    for _ in range(rounds):
        for kind, (lock, pipe, _process) in peers.items():
            for _ in range(USES // 10):
                lock.acquire()
                pipe.send(True)
                time.sleep(0.003)  # the other one waits by now
                start = time.monotonic()
                lock.release()
                found[kind].append((pipe.recv() - start) * 1e6)
    for _lock, pipe, process in peers.values():
        pipe.send(False)
        process.join()
    about = "Hand-off between two processes, from before the release until the other one has it, µs."
    made = report.Table(about, ["", "p50", "p99", "longest"], title="Hand-off", raw={"µs": found})
    p50, p99 = ({kind: [_rank(each, share)] for kind, each in found.items()} for share in (0.5, 0.99))
    made.rows = [[kind, *(f"{value:.0f}" for value in (*p50[kind], *p99[kind], max(found[kind])))] for kind in found]
    made.compare("Hand-off between processes, p50", "µs", p50)
    made.compare("Hand-off between processes, p99", "µs", p99)
    made.bars.append(report.Bar("p99", p99[POOLING][0] / 1000, 1, unit=" ms"))
    if PYTHON_REDIS_LOCK in found:
        # python-redis-lock hands over by BLPOP as well, so it is the nearest peer.
        factor = timing.beside(p50, POOLING, PYTHON_REDIS_LOCK)
        made.bars.append(report.Bar(f"p50 beside {PYTHON_REDIS_LOCK}", factor, 1.1))
    return made


def _rank(times: list[float], share: float) -> float:
    return sorted(times)[int(len(times) * share)]


def compete(kind: str, url: str, pipe: Any) -> None:
    lock = KINDS[kind](url)
    lock.acquire()
    lock.release()
    pipe.send("ready")
    pipe.recv()
    end = time.monotonic() + COMPETING
    waits = []
    # Longer than is counted: a process that ends is busy with itself, and those who still compete would wait for it.
    while (start := time.monotonic()) < end + 1.0:
        lock.acquire()
        if start < end:
            waits.append(time.monotonic() - start)
        time.sleep(HOLD)
        lock.release()
    pipe.send(waits)


def competing(kind: str, url: str) -> list[list[float]]:
    """How many ms each process waited, each time."""
    context = multiprocessing.get_context("spawn")
    pipes, workers = [], []
    for _ in range(PROCESSES):
        mine, theirs = context.Pipe()
        worker = context.Process(target=compete, args=(kind, url, theirs), daemon=True)
        worker.start()
        pipes.append(mine)
        workers.append(worker)
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send("go")
    waits = [[wait * 1000 for wait in pipe.recv()] for pipe in pipes]
    for worker in workers:
        worker.join()
    return waits


def fairness(url: str) -> report.Table:
    about = f"{PROCESSES} processes want one lock and hold it for {HOLD * 1000:g} ms, {COMPETING:g} s long."
    header = ["", "longest wait, ms", "beside queue length x hold", "acquisitions", "least/most"]
    made = report.Table(about, header, title="Competition")
    longest: timing.Rounds = {}
    counts: timing.Rounds = {}
    shares: timing.Rounds = {}
    least = PROCESSES * HOLD * 1000
    for kind in known_kinds(url):
        waits = competing(kind, url)
        each = [len(one) for one in waits]
        longest[kind], counts[kind] = [max(map(max, waits))], [float(sum(each))]
        shares[kind] = [min(each) / max(each)]
        made.raw[kind] = {"longest wait, ms": longest[kind][0], "acquisitions of each": each}
        cells = f"{longest[kind][0]:.1f}", f"{longest[kind][0] / least:.2f}x", f"{sum(each)}", f"{shares[kind][0]:.2f}"
        made.rows.append([kind, *cells])
    made.compare(f"Longest wait of {PROCESSES} processes for one lock", "ms", longest)
    made.compare(f"Acquisitions by {PROCESSES} processes, least/most", "", shares, most=True)
    made.compare(f"Acquisitions by {PROCESSES} processes in {COMPETING:g} s", "", counts, most=True)
    made.bars += [
        report.Bar("longest wait beside queue length x hold", longest[POOLING][0] / least, 1.5),
        report.Bar("least/most acquisitions", shares[POOLING][0], 0.95, unit="", least=True),
    ]
    return made


def run(rounds: int) -> list[report.Table]:
    with tempfile.TemporaryDirectory(prefix="pooling-bench-") as folder, PrivateRedis(folder) as server:
        tables = [
            alone(server.url, rounds),
            crowded(server.url, rounds),
            hand_off(server.url, rounds),
            fairness(server.url),
        ]
    tables[0].absent += [f"{name}: {why}" for name, why in absent.items()]
    return tables


if __name__ == "__main__":
    report.main(run, 15, __doc__)
