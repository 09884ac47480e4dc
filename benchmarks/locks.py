"""What locks cost, beside redis-py's Lock and python-redis-lock: ``python -m benchmarks.locks``.

It starts a Redis of its own on loopback. Rounds are interleaved (everybody once, then everybody again), since a
machine's speed drifts more than locks differ; the tables show medians over the rounds unless they say otherwise. What
is measured is the store: a request is made, granted and released. Renewing versions of what is written is a row of its
own, since the peers have nothing like it. A peer that is not installed is left out, and the output says so.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import multiprocessing
import platform
import statistics
import sys
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

OWNER = {"view": "shop.views.buy", "label": "", "host": "web1", "pid": "4711", "thread": "MainThread"}
BUDGET = 10.0  # seconds; a busy machine must not break off a measurement
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


def redis_py(url: str) -> Any:
    client = redis.Redis.from_url(url)
    return client.lock("redis-py", timeout=30)


def python_redis_lock(url: str) -> Any:
    import redis_lock  # type: ignore[import-untyped, unused-ignore]

    logging.getLogger("redis_lock").setLevel(logging.ERROR)
    return redis_lock.Lock(redis.Redis.from_url(url), "python-redis-lock", expire=30)


def ours(url: str) -> Any:
    return Ours(new_store(url), ["pooling"])


KINDS: dict[str, Callable[[str], Any]] = {
    "pooling": ours,
    "redis-py Lock": redis_py,
    "python-redis-lock": python_redis_lock,
}


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


def interleaved(uses: dict[str, Use], rounds: int, each: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in uses}
    gc.disable()
    try:
        for use in uses.values():
            measure(use, max(each // 10, 1))
        names = list(uses)
        for number in range(rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                gc.collect()
                found[name].append(measure(uses[name], each))
    finally:
        gc.enable()
    return found


def table(title: str, found: dict[str, list[float]], beside: dict[str, str], unit: str = "µs") -> None:
    """``beside``: row -> the row that it is compared with, round by round."""
    print(f"\n{title}\n")
    print(f"| | {unit} | best round | slowest round | beside |")
    print("|:--|--:|--:|--:|:--|")
    for name, times in found.items():
        other = beside.get(name)
        ratio = ""
        if other in found:
            ratios = [mine / theirs for mine, theirs in zip(times, found[other], strict=True)]
            ratio = f"{statistics.median(ratios):.2f}x {other}"
        print(
            f"| {name} | {statistics.median(times):.1f} | {min(times):.1f} | {max(times):.1f} | {ratio} |", flush=True
        )


def alone(url: str, rounds: int, uses: int) -> None:
    store, memory = new_store(url), MemoryStore()
    five = [f"group{number}" for number in range(5)]
    peer = redis_py(url)

    def lock() -> None:
        peer.acquire()
        peer.release()

    one = "pooling, 1 group"
    found = interleaved(
        {
            "redis-py Lock": lock,
            one: Ours(store, five[:1]).use,
            "pooling, 5 groups": Ours(store, five).use,
            "pooling, 1 group, versions renewed": Ours(store, five[:1], renewing=True).use,
            "pooling, 5 groups, versions renewed": Ours(store, five, renewing=True).use,
            "in-process store, 1 group": Ours(memory, five[:1]).use,
        },
        rounds,
        uses,
    )
    beside = dict.fromkeys(found, one)
    beside |= {one: "redis-py Lock", "pooling, 5 groups, versions renewed": "pooling, 1 group, versions renewed"}
    del beside["redis-py Lock"]
    table("Acquire and release, nobody else there.", found, beside)
    store.close()


def crowded(url: str, rounds: int, uses: int) -> None:
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
    found = interleaved({name: Ours(store, ["here"]).use for name, store in stores.items()}, rounds, uses)
    table("Acquire and release, 1 group, with others elsewhere.", found, dict.fromkeys(list(found)[1:], "none"))
    for store in stores.values():
        store.close()


# -- several processes


def wait_in_turn(kind: str, url: str, pipe: Any) -> None:
    """Another process: at each word it takes the lock, says when it had it, and lets go."""
    lock = KINDS[kind](url)
    pipe.send("ready")
    while pipe.recv():
        lock.acquire()
        pipe.send(time.monotonic())
        lock.release()


def hand_off(url: str, rounds: int, times: int) -> None:
    context = multiprocessing.get_context("spawn")
    peers = {}
    for kind in known_kinds(url):
        mine, theirs = context.Pipe()
        process = context.Process(target=wait_in_turn, args=(kind, url, theirs), daemon=True)
        process.start()
        mine.recv()
        peers[kind] = (KINDS[kind](url), mine, process)
    found: dict[str, list[float]] = {kind: [] for kind in peers}
    for _ in range(rounds):
        for kind, (lock, pipe, _process) in peers.items():
            for _ in range(times):
                lock.acquire()
                pipe.send(True)
                time.sleep(0.003)  # the other one waits by now
                start = time.monotonic()
                lock.release()
                found[kind].append((pipe.recv() - start) * 1e6)
    for _lock, pipe, process in peers.values():
        pipe.send(False)
        process.join()
    print("\nHand-off between two processes, from before the release until the other one has it, µs.\n")
    print("| | p50 | p99 | longest |")
    print("|:--|--:|--:|--:|")
    for kind, latencies in found.items():
        latencies.sort()
        p50, p99 = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
        print(f"| {kind} | {p50:.0f} | {p99:.0f} | {latencies[-1]:.0f} |", flush=True)


def compete(kind: str, url: str, pipe: Any, seconds: float, hold: float) -> None:
    lock = KINDS[kind](url)
    lock.acquire()
    lock.release()
    pipe.send("ready")
    pipe.recv()
    end = time.monotonic() + seconds
    waits = []
    # Longer than is counted: a process that ends is busy with itself, and those who still compete would wait for it.
    while (start := time.monotonic()) < end + 1.0:
        lock.acquire()
        if start < end:
            waits.append(time.monotonic() - start)
        time.sleep(hold)
        lock.release()
    pipe.send(waits)


def fairness(url: str, processes: int, seconds: float, hold: float) -> None:
    context = multiprocessing.get_context("spawn")
    print(f"\n{processes} processes want one lock and hold it for {hold * 1e3:g} ms, {seconds:g} s long.\n")
    print("| | longest wait, ms | beside queue length x hold | acquisitions | least/most |")
    print("|:--|--:|--:|--:|--:|")
    for kind in known_kinds(url):
        pipes, workers = [], []
        for _ in range(processes):
            mine, theirs = context.Pipe()
            worker = context.Process(target=compete, args=(kind, url, theirs, seconds, hold), daemon=True)
            worker.start()
            pipes.append(mine)
            workers.append(worker)
        for pipe in pipes:
            pipe.recv()
        for pipe in pipes:
            pipe.send("go")
        waits = [pipe.recv() for pipe in pipes]
        for worker in workers:
            worker.join()
        counts = [len(each) for each in waits]
        longest = max(max(each) for each in waits)
        print(
            f"| {kind} | {longest * 1e3:.1f} | {longest / (processes * hold):.2f}x | {sum(counts)} | "
            f"{min(counts) / max(counts):.2f} |",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.locks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each measurement (default: 15)")
    parser.add_argument("--uses", type=int, default=500, help="uses of each lock in a round (default: 500)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of competition for one lock (default: 5)")
    parser.add_argument("--processes", type=int, default=8, help="that compete (default: 8)")
    options = parser.parse_args()
    if min(options.rounds, options.uses, options.processes) < 1 or options.seconds <= 0:
        parser.error("rounds, uses, processes and seconds must be positive")
    with tempfile.TemporaryDirectory() as folder, PrivateRedis(folder) as server:
        version = redis.Redis.from_url(server.url).info("server")["redis_version"]
        print(
            f"Locks, median of {options.rounds} interleaved rounds of {options.uses} uses; Redis {version} on loopback,"
        )
        print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}.")
        alone(server.url, options.rounds, options.uses)
        crowded(server.url, options.rounds, options.uses)
        hand_off(server.url, options.rounds, max(options.uses // 10, 1))
        fairness(server.url, options.processes, options.seconds, 0.002)
    for name, why in absent.items():
        print(f"\n{name} is left out: {why}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
