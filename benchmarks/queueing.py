"""More threads than connections: who waits how long, and what gets done. ``python -m benchmarks.queueing``.

Held for 2 ms, the connections are always all busy, as with queries that take that long. Held for no time, but with the
other threads let in between, a hand-over is all there is: the worst case of a queue, and one of the interpreter's
switches between threads more than of any pool.
"""

from __future__ import annotations

import statistics
import time

from . import peers, report, timing

CONNECTIONS = 4
# Threads, seconds held, uses in a round.
CASES = ((32, 0.002, 3_000), (8, 0.0, 8_000), (32, 0.0, 8_000))


def once(peer: peers.Peer, threads: int, held: float, uses: int) -> tuple[float, float]:
    """Uses per second, and the longest wait in milliseconds."""
    get, put = peer.get, peer.put
    longest: list[float] = []
    clock = time.perf_counter

    def work() -> None:
        worst = 0.0
        for _ in range(uses // threads):
            start = clock()
            conn = get()
            worst = max(worst, clock() - start)
            time.sleep(held)
            put(conn)
        longest.append(worst)

    seconds = timing.together(work, threads)
    return uses // threads * threads / seconds, max(longest) * 1000


def measure(threads: int, held: float, uses: int, rounds: int) -> tuple[timing.Rounds, timing.Rounds, list[str]]:
    """Uses per second and longest waits, by pool."""
    pools, absent = peers.made(peers.ALL, CONNECTIONS)
    by_name = {peer.name: peer for peer in pools}
    rates: timing.Rounds = {name: [] for name in by_name}
    waits: timing.Rounds = {name: [] for name in by_name}

    def turn(name: str) -> None:
        rate, wait = once(by_name[name], threads, held, uses)
        rates[name].append(rate)
        waits[name].append(wait)

    try:
        for name in by_name:
            once(by_name[name], threads, held, uses // 10)
        timing.interleaved(list(by_name), rounds, turn)
    finally:
        for peer in pools:
            peer.close()
    return rates, waits, absent


def run(rounds: int) -> report.Table:
    cases = [f"{threads} threads, {held * 1000:g} ms held" for threads, held, _ in CASES]
    header = ["pool", *(text for case in cases for text in (f"{case}: uses/s", "longest wait, ms"))]
    about = f"Threads that queue for {CONNECTIONS} connections, medians of {rounds} interleaved rounds."
    table = report.Table(about, header, title="More threads than connections")
    columns: dict[str, list[str]] = {}
    for (threads, held, uses), case in zip(CASES, cases, strict=True):
        rates, waits, table.absent = measure(threads, held, uses, rounds)
        table.raw[case] = {"rates": rates, "waits": waits}
        table.compare(f"Longest wait, {case}", "ms", waits, drawn=bool(held))
        table.compare(f"Uses, {case}", "a second", rates, most=True, drawn=case == cases[1])
        for name in rates:
            rate, wait = statistics.median(rates[name]), statistics.median(waits[name])
            columns.setdefault(name, []).extend((f"{rate:.0f}", f"{wait:.1f}"))
        peer = peers.PSYCOPG
        if held and peer in rates:
            longer, rate = timing.beside(waits, peers.POOLING, peer), timing.beside(rates, peers.POOLING, peer)
            table.bars.append(report.Bar(f"longest wait beside {peer}, {case}", longer, 1.2))
            table.bars.append(report.Bar(f"uses/s beside {peer}, {case}", rate, 0.98, least=True))
    table.rows = [[name, *cells] for name, cells in columns.items()]
    return table


if __name__ == "__main__":
    report.main(run, 7, __doc__)
