"""What a checkout and return costs, beside psycopg_pool and SQLAlchemy's QueuePool: ``make bench``.

The connections are plain objects without a server, so that only the pools' own work is measured, the same for all: what
a driver does to see that a connection is alive, or to clean it, is not in these numbers.
Rounds are interleaved (every pool once, then every pool again), since a machine's speed drifts more than pools differ;
the table shows medians. A peer that is not installed is left out, and the output says so.
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pooling.pool import ConnectionPool, Failure, PoolOptions


class Peer(NamedTuple):
    """One pool: ``use`` takes a connection and gives it back, once; ``hold`` lets others run in between."""

    name: str
    use: Callable[[], None]
    hold: Callable[[], None]
    close: Callable[[], None]


class Connection:
    """A connection to nothing. The attributes are those that the peers look at."""

    autocommit = True
    closed = False

    class pgconn:
        transaction_status: Any = None

    @classmethod
    def connect(cls, *args: Any, **kwargs: Any) -> Connection:
        return cls()

    def close(self) -> None:
        self.closed = True


class Driver:
    """The least that `ConnectionPool` asks of a driver."""

    errors: tuple[type[BaseException], ...] = (OSError,)

    def connect(self, timeout: float) -> Connection:
        return Connection()

    def close(self, conn: Connection) -> None:
        conn.close()

    def alive(self, conn: Connection) -> bool:
        return not conn.closed

    def fileno(self, conn: Connection) -> int:
        return -1

    def ping(self, conn: Connection) -> bool:
        return True

    def reset(self, conn: Connection) -> bool:
        return True

    def abandon(self, conn: Connection) -> None:
        conn.closed = True

    def classify(self, error: BaseException) -> Failure:
        return Failure.OTHER


def ours(size: int) -> Peer:
    pool = ConnectionPool(Driver(), PoolOptions.parse({"min_size": size, "max_size": size, "timeout": 60}))
    pool.open()
    pool.wait(30.0)
    get, put = pool.getconn, pool.putconn

    def use() -> None:
        put(get())

    def hold() -> None:
        connection = get()
        time.sleep(0)
        put(connection)

    return Peer("pooling", use, hold, pool.close)


def psycopg(size: int) -> Peer:
    import psycopg_pool
    from psycopg.pq import TransactionStatus  # type: ignore[import-not-found, unused-ignore]

    class Idle(Connection):
        class pgconn:
            transaction_status = TransactionStatus.IDLE

    idle: Any = Idle
    pool = psycopg_pool.ConnectionPool(connection_class=idle, min_size=size, max_size=size, timeout=60, open=True)
    pool.wait()
    get, put = pool.getconn, pool.putconn

    def use() -> None:
        put(get())

    def hold() -> None:
        connection = get()
        time.sleep(0)
        put(connection)

    return Peer("psycopg_pool", use, hold, pool.close)


def sqlalchemy(size: int) -> Peer:
    from sqlalchemy.pool import QueuePool

    creator: Any = Connection
    pool = QueuePool(creator, pool_size=size, max_overflow=0, timeout=60, reset_on_return=None)
    get = pool.connect

    def use() -> None:
        get().close()

    def hold() -> None:
        connection = get()
        time.sleep(0)
        connection.close()

    return Peer("SQLAlchemy QueuePool", use, hold, pool.dispose)


PEERS: tuple[Callable[[int], Peer], ...] = (ours, psycopg, sqlalchemy)
# Threads, connections, hold? Held for no time, connections hardly ever run out: a use is over before the interpreter
# switches threads. With more threads than connections the holder gives way once, so that the others have to queue.
CASES = ((1, 4, False), (4, 4, False), (4, 4, True), (8, 4, True), (32, 4, True))


absent: dict[str, str] = {}  # peer -> why it is left out


def measure(use: Callable[[], None], threads: int, uses: int) -> float:
    """Seconds of wall clock that ``threads`` threads need for ``uses`` uses between them."""
    share = uses // threads
    barrier = threading.Barrier(threads + 1)
    failures: list[BaseException] = []

    def work() -> None:
        barrier.wait()
        try:
            for _ in range(share):
                use()
        except BaseException as error:  # noqa: BLE001 - reported below, by the thread that counts
            failures.append(error)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    barrier.wait()
    start = time.perf_counter()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    return (time.perf_counter() - start) * uses / (share * threads)


def case(threads: int, size: int, held: bool, rounds: int, uses: int) -> dict[str, list[float]]:
    """Microseconds per use, by pool, one number a round."""
    peers = []
    for make in PEERS:
        try:
            peers.append(make(size))
        except ImportError as error:
            if make is ours:
                raise
            absent.setdefault(make.__name__, str(error))
    found: dict[str, list[float]] = {peer.name: [] for peer in peers}
    gc.disable()
    try:
        for peer in peers:
            measure(peer.hold if held else peer.use, threads, max(uses // 10, threads))
        for number in range(rounds):
            turn = number % len(peers)
            for peer in peers[turn:] + peers[:turn]:
                gc.collect()
                seconds = measure(peer.hold if held else peer.use, threads, uses)
                found[peer.name].append(seconds / uses * 1e6)
    finally:
        gc.enable()
        for peer in peers:
            peer.close()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each case (default: 7)")
    parser.add_argument("--uses", type=int, default=20_000, help="checkouts of each pool in a round (default: 20000)")
    options = parser.parse_args()
    if options.rounds < 1 or options.uses < 1_000:
        parser.error("at least 1 round and 1000 uses are needed")
    print(f"Checkout and return, median of {options.rounds} interleaved rounds of {options.uses} uses;")
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}.\n")
    print("| threads | connections | held | pool | µs per use | slowest round | beside pooling |")
    print("|--:|--:|:--|:--|--:|--:|--:|")
    for threads, size, held in CASES:
        found = case(threads, size, held, options.rounds, options.uses)
        mine = statistics.median(found["pooling"])
        for name, times in found.items():
            median = statistics.median(times)
            row = f"| {threads} | {size} | {'yes' if held else 'no'} | {name} | {median:.2f} | {max(times):.2f} |"
            print(f"{row} {median / mine:.2f}x |", flush=True)
    for name, why in absent.items():
        print(f"\n{name} is left out: {why}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
