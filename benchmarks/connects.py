"""A connect that takes 2 s, while a connection comes back after 0.1 s: who waits for what?
``python -m benchmarks.connects``."""

from __future__ import annotations

import statistics
import threading
import time

from . import peers, report, timing

SLOW, BACK = 2.0, 0.1  # seconds
LIMIT = 0.12


def once(make: peers.Maker) -> float:
    """Seconds that the second of two users waits, in a pool for two that has one connection, which the first has."""

    class Slow(peers.Connection):
        pass

    peer = make(2, Slow, 1)  # type: ignore[call-arg]
    first = peer.get()
    Slow.delay = SLOW
    waited: list[float] = []

    def second() -> None:
        start = time.perf_counter()
        conn = peer.get()
        waited.append(time.perf_counter() - start)
        peer.put(conn)

    thread = threading.Thread(target=second)
    thread.start()
    time.sleep(BACK)
    peer.put(first)
    thread.join()
    Slow.delay = 0.0
    peer.close()
    return waited[0]


def run(rounds: int) -> report.Table:
    about = (
        f"Wait of a second user, s, median of {rounds} rounds; a connect takes {SLOW:g} s, the first user {BACK:g} s."
    )
    table = report.Table(about, ["pool", "s"], title="A slow connect")
    found: timing.Rounds = {}
    for make, name in (
        (peers.pooling, peers.POOLING),
        (peers.psycopg, peers.PSYCOPG),
        (peers.sqlalchemy, peers.SQLALCHEMY),
    ):
        try:
            found[name] = [once(make) for _ in range(rounds)]
        except ImportError as error:
            table.absent.append(f"{make.__name__}: {error}")
    table.raw = dict(found)
    table.compare(f"Wait while a connect takes {SLOW:g} s", "s", found)
    table.rows = [[name, f"{statistics.median(waits):.3f}"] for name, waits in found.items()]
    table.bars.append(report.Bar("longest", max(found[peers.POOLING]), LIMIT, unit=" s"))
    return table


if __name__ == "__main__":
    report.main(run, 5, __doc__)
