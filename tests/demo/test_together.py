"""What must hold when two people do things at the same moment, and when many do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable

from demo_site.client import Visitor

from .site import Site, balance, free_seats, page


def at_once(*actions: Callable[[], int]) -> list[int]:
    """Run all in threads that start together; their results in order."""
    barrier = threading.Barrier(len(actions))
    results = [0] * len(actions)

    def run(i: int) -> None:
        barrier.wait(30)
        results[i] = actions[i]()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_one_seat_is_sold_to_one_of_two(alice: Visitor, bob: Visitor) -> None:
    event = alice.events[4]
    for seat in free_seats(alice, event)[:15]:

        def book(visitor: Visitor, seat: str = seat) -> int:
            return visitor.request("POST", f"/events/{event}/book/", [("seats", seat)])[0]

        assert sorted(at_once(lambda: book(alice), lambda: book(bob))) == [302, 409]
    assert "The totals add up." in page(alice, "/report/")


def test_transfers_in_opposite_orders_neither_deadlock_nor_lose(alice: Visitor, bob: Visitor) -> None:
    def account(visitor: Visitor, name: str) -> str:
        found = re.search(rf'<option value="(\d+)">{name}', page(visitor, "/transfer/"))
        assert found
        return found[1]

    to_bob, to_alice = account(alice, "Bob"), account(bob, "Alice")
    before = balance(alice), balance(bob)
    for _ in range(15):
        assert at_once(
            lambda: alice.request("POST", "/transfer/", [("to", to_bob), ("amount", "3")])[0],
            lambda: bob.request("POST", "/transfer/", [("to", to_alice), ("amount", "1")])[0],
        ) == [302, 302]
    assert (balance(alice), balance(bob)) == (before[0] - 30, before[1] + 30)


def test_loading_the_demo_again_changes_nothing(site: Site, alice: Visitor) -> None:
    before = page(alice, "/report/")
    done = subprocess.run(
        [sys.executable, "-m", "django", "load_demo"], env={**os.environ, **site.env}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "8 events with 1280 seats, 12 accounts" in done.stdout
    assert page(alice, "/report/") == before


def test_a_short_run_of_the_whole_demo(tmp_path: object) -> None:
    """Servers of its own, all four schemes, the table; speed is not judged here, losses are."""
    env = {**os.environ, "SERVE": "0", "DEMO_RUN_DIR": str(tmp_path)}
    env |= {"WORKLOAD_ROUNDS": "1", "WORKLOAD_SECONDS": "1", "WORKLOAD_VISITORS": "6"}
    done = subprocess.run([sys.executable, "-m", "demo_site.run"], env=env, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(lines) == 6, done.stdout + done.stderr
    assert len({len(line) for line in lines}) == 1
    assert "Pool + groups + cache: nothing lost, no errors." in done.stdout, done.stdout + done.stderr
