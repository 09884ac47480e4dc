"""How times are taken: threads that begin together, rounds that are interleaved, medians."""

from __future__ import annotations

import gc
import statistics
import threading
import time
from collections.abc import Callable, Sequence

Rounds = dict[str, list[float]]  # what was measured, by name, one number a round


def together(work: Callable[[], object], threads: int) -> float:
    """Seconds of wall clock in which so many threads do ``work``, all beginning at once. Raises what one raised."""
    barrier = threading.Barrier(threads + 1)
    failures: list[BaseException] = []

    def run() -> None:
        barrier.wait()
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised below, by the thread that counts
            failures.append(error)

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    barrier.wait()
    start = time.perf_counter()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    return time.perf_counter() - start


def interleaved(names: Sequence[str], rounds: int, once: Callable[[str], object]) -> None:
    """Every one once, then every one again, each time beginning with another: a machine's speed drifts more than what
    is compared differs."""
    gc.disable()
    try:
        for number in range(rounds):
            turn = number % len(names)
            for name in [*names[turn:], *names[:turn]]:
                gc.collect()
                once(name)
    finally:
        gc.enable()


def beside(found: Rounds, one: str, other: str) -> float:
    """How many times as much ``one`` takes as ``other``: the median over the rounds, each compared within itself."""
    return statistics.median(mine / theirs for mine, theirs in zip(found[one], found[other], strict=True))
