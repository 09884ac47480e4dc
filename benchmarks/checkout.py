"""What a checkout and return costs when there is a connection for each thread: ``python -m benchmarks.checkout``.

pooling is measured twice: over connections to nothing, as its peers are, and over MariaDB connections, with all that
the MySQL driver does to see that one is alive and clean. No statement is sent.
"""

from __future__ import annotations

import statistics
import tempfile

from demo_site.servers import PrivateDatabase, private_database

from . import peers, report, timing

USES = 20_000
THREADS = (1, 8, 32)
BARS = {peers.PSYCOPG: 0.3, peers.SQLALCHEMY: 0.15}


def measure(server: PrivateDatabase, threads: int, rounds: int) -> tuple[timing.Rounds, list[str]]:
    """Microseconds per use, by pool."""
    pools, absent = peers.made(peers.ALL, threads)
    pools.append(peers.pooling_on(server, threads))
    found: timing.Rounds = {peer.name: [] for peer in pools}
    by_name = {peer.name: peer for peer in pools}

    def seconds(name: str, uses: int) -> float:
        get, put = by_name[name].get, by_name[name].put

        def work() -> None:
            for _ in range(uses // threads):
                put(get())

        return timing.together(work, threads)

    try:
        for name in found:
            seconds(name, USES // 10)
        timing.interleaved(list(found), rounds, lambda name: found[name].append(seconds(name, USES) / USES * 1e6))
    finally:
        for peer in pools:
            peer.close()
    return found, absent


def run(rounds: int) -> report.Table:
    about = f"Checkout and return, µs, median of {rounds} interleaved rounds of {USES} uses; a connection per thread."
    table = report.Table(about, ["pool", "1 thread", *(f"{threads} threads" for threads in THREADS[1:])])
    table.title = "Checkout and return"
    with tempfile.TemporaryDirectory(prefix="pooling-bench-") as folder, private_database(folder) as server:
        for threads in THREADS:
            table.raw[str(threads)], table.absent = measure(server, threads, rounds)
    for threads in THREADS:
        table.compare(f"Checkout and return, threads: {threads}", "µs", table.raw[str(threads)], drawn=threads != 8)
    first = table.raw[str(THREADS[0])]
    for name in first:
        medians = [statistics.median(table.raw[str(threads)][name]) for threads in THREADS]
        table.rows.append([name, *(f"{median:.2f}" for median in medians)])
    for peer, limit in BARS.items():
        if peer not in first:
            continue
        for name in (peers.POOLING, peers.REAL):
            worst = max(timing.beside(table.raw[str(threads)], name, peer) for threads in THREADS)
            table.bars.append(report.Bar(f"{name} at worst beside {peer}", worst, limit))
    return table


if __name__ == "__main__":
    report.main(run, 9, __doc__)
