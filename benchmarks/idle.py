"""What a pool costs that nobody has used: threads and memory. ``python -m benchmarks.idle``."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

from . import peers, report

POOLS = 200


def pooling() -> Any:
    from pooling.pool import ConnectionPool, PoolOptions

    return ConnectionPool(peers.Driver(peers.Connection.connect), PoolOptions(max_size=10))


def psycopg() -> Any:
    import psycopg_pool

    return psycopg_pool.ConnectionPool(min_size=0, max_size=10, open=False)


def sqlalchemy() -> Any:
    from sqlalchemy.pool import QueuePool

    creator: Any = peers.Connection.connect
    return QueuePool(creator, pool_size=10)


KINDS: dict[str, Callable[[], Any]] = {
    peers.POOLING: pooling,
    peers.PSYCOPG: psycopg,
    peers.SQLALCHEMY: sqlalchemy,
}


def cost(make: Callable[[], Any]) -> tuple[float, float]:
    """Threads and bytes of one pool."""
    make()  # imports, and what is made once
    gc.collect()
    threads = threading.active_count()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    pools = [make() for _ in range(POOLS)]
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (threading.active_count() - threads) / len(pools), (after - before) / len(pools)


def run(rounds: int) -> report.Table:
    table = report.Table(
        "A pool that was never used.", ["pool", "threads", "bytes"], title="A pool that waits for its first use"
    )
    for name, make in KINDS.items():
        try:
            threads, size = cost(make)
        except ImportError as error:
            table.absent.append(f"{name}: {error}")
            continue
        table.raw[name] = {"threads": threads, "bytes": size}
        table.rows.append([name, f"{threads:g}", f"{size:.0f}"])
    sizes = {name: [each["bytes"]] for name, each in table.raw.items()}
    table.compare("Memory of an unused pool", "bytes", sizes, drawn=False)
    table.bars.append(report.Bar("threads", table.raw[peers.POOLING]["threads"], 0, unit=""))
    return table


if __name__ == "__main__":
    report.main(run, 1, __doc__)
