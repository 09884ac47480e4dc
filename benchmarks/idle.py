"""What a pool costs that nobody uses: ``python -m benchmarks.idle``.

Before its first use, and with one idle connection after it. Memory is what Python has allocated for it.
"""

from __future__ import annotations

import gc
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable

from . import peers, report

POOLS = 50
IDLE = 2.0  # seconds


class Wired(peers.Connection):
    """With a socket that a pool may watch."""

    def __init__(self) -> None:
        self.link = socket.socketpair()
        self.number = self.link[0].fileno()

    def close(self) -> None:
        self.closed = True
        for end in self.link:
            end.close()


def settled() -> int:
    """The number of threads, when those that are to end have ended."""
    counts = [0, -1]
    while counts[-1] != counts[-2]:
        time.sleep(0.2)
        counts.append(threading.active_count())
    return counts[-1]


def unused(make: Callable[..., peers.Peer]) -> tuple[str, float, float, float]:
    """Name; threads, KiB, and KiB that it grows by while it is idle, of one pool that was never used."""
    make(1, peers.Connection, 0).close()  # imports, caches
    gc.collect()
    threads = settled()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    pools = [make(1, peers.Connection, 0) for _ in range(POOLS)]
    gc.collect()
    made = tracemalloc.get_traced_memory()[0]
    more = threading.active_count() - threads
    time.sleep(IDLE)
    gc.collect()
    later = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    for peer in pools:
        peer.close()
    return pools[0].name, more / POOLS, (made - before) / POOLS / 1024, max(0, later - made) / POOLS / 1024


def used(make: Callable[..., peers.Peer]) -> tuple[float, float]:
    """Threads of a pool with one idle connection, and ms of processor time for each second of idleness."""
    threads = settled()
    pools = [make(1, Wired, 0) for _ in range(POOLS)]
    for peer in pools:
        peer.put(peer.get())
    more = settled() - threads
    start = time.process_time()
    time.sleep(IDLE)
    busy = time.process_time() - start
    for peer in pools:
        peer.close()
    return more / POOLS, busy / IDLE / POOLS * 1000


def run(rounds: int) -> report.Table:
    header = ["pool", "threads unused", "KiB unused", "growing by, KiB", "threads used", "processor, ms/s"]
    table = report.Table(f"An idle pool: the mean of {POOLS}, the best of {rounds} rounds.", header)
    for make in peers.ALL:
        try:
            found = [(*unused(make), *used(make)) for _ in range(rounds)]
        except ImportError as error:
            table.absent.append(f"{make.__name__}: {error}")
            continue
        name = found[0][0]
        best = [min(float(figure) for figure in column) for column in list(zip(*found, strict=True))[1:]]
        table.raw[name] = best
        formats = ("{:.1f}", "{:.1f}", "{:.2f}", "{:.1f}", "{:.3f}")
        table.rows.append([name, *(text.format(figure) for text, figure in zip(formats, best, strict=True))])
    mine = table.raw[peers.POOLING]
    table.bars.append(report.Bar("threads before the first use", mine[0], 0, unit=""))
    table.bars.append(report.Bar("growth before the first use", round(mine[2], 2), 0, unit=" KiB"))
    for name, theirs in table.raw.items():
        for place, what in ((1, "in memory before the first use"), (3, "in threads when used")):
            if mine[place] > theirs[place] * 1.03:
                table.losses.append(f"{mine[place]:.1f} against {theirs[place]:.1f} of {name} {what}")
    return table


if __name__ == "__main__":
    report.main(run, 2, __doc__)
