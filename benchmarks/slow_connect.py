"""A connect that takes 2 s while a connection comes back after 0.1 s: ``python -m benchmarks.slow_connect``.

The pool may have two connections and has one, which is lent. Somebody asks for another, so the pool connects; 0.1 s
later the lent one is given back. Whoever waits should get that one, and not sit out the connect.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable

from . import peers, report

CONNECT, RETURN, LIMIT = 2.0, 0.1, 0.12  # seconds


def once(make: Callable[..., peers.Peer]) -> tuple[str, float]:
    """The pool's name, and after how many seconds the waiter had a connection."""

    class Slow(peers.Connection):
        pass

    peer = make(2, Slow, 0)
    try:
        held = peer.get()
        Slow.delay = CONNECT
        waited: list[float] = []

        def wait() -> None:
            start = time.perf_counter()
            conn = peer.get()
            waited.append(time.perf_counter() - start)
            peer.put(conn)

        waiter = threading.Thread(target=wait)
        waiter.start()
        time.sleep(RETURN)
        peer.put(held)
        waiter.join()
    finally:
        peer.close()
    return peer.name, waited[0]


def run(rounds: int) -> report.Table:
    about = f"A connect of {CONNECT:g} s is under way, a connection comes back after {RETURN:g} s; medians of {rounds}."
    table = report.Table(about, ["pool", "the waiter is served after, s"])
    for make in peers.ALL:
        try:
            found = [once(make) for _ in range(rounds)]
        except ImportError as error:
            table.absent.append(f"{make.__name__}: {error}")
            continue
        name, times = found[0][0], [seconds for _, seconds in found]
        table.raw[name] = times
        table.rows.append([name, f"{statistics.median(times):.3f}"])
    mine = statistics.median(table.raw[peers.POOLING])
    table.bars.append(report.Bar("served after", mine, LIMIT, unit=" s"))
    for name, times in table.raw.items():
        table.loses(mine / statistics.median(times), name, "in the wait")
    return table


if __name__ == "__main__":
    report.main(run, 3, __doc__)
