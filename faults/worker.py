"""A worker process: ``python -m faults.worker NAME SEED LEASE``. It makes transfers until it is told to end.

What it says and is told is in `faults.lane`.
"""

from __future__ import annotations

import faulthandler
import logging
import random
import sys
import threading
import time
import traceback

import django

from .lane import REFUSED, Lane

PAUSE = 0.02  # seconds until one who was refused asks again


def work(lane: Lane, name: str, seed: str) -> None:
    from django.db import DatabaseError, InterfaceError, connections

    from .bank import Order, carry_out

    lane.listen_in()
    chance = random.Random(f"{seed}.{name}")
    count = 0
    while not lane.ends:
        count += 1
        lease = lane.lease
        order = Order.at_random(f"{name}.{count}", chance)
        lane.about(order.transfer)
        lane.reached("start", lease=lease, accounts=order.accounts)
        try:
            carry_out(order, lease, lane.reached)
            outcome, error = "done", ""
        except REFUSED as refused:
            outcome, error = "refused", type(refused).__name__
        except (DatabaseError, InterfaceError) as failed:
            outcome, error = "unknown", f"{type(failed).__name__}: {failed}"
        except Exception:  # noqa: BLE001 - it is in the history, and a finding
            outcome, error = "broken", traceback.format_exc()
        lane.reached(outcome, error=error)
        connections.close_all()
        if outcome != "done":
            time.sleep(PAUSE)


def main() -> None:
    logging.disable(logging.CRITICAL)  # what goes wrong here is meant to, and the history has it
    faulthandler.enable()  # for SIGABRT, see `Process.end`
    name, seed, lease = sys.argv[1:]
    django.setup()
    lane = Lane(float(lease))
    threading.Thread(target=lane.obey, daemon=True).start()
    work(lane, name, seed)


if __name__ == "__main__":
    main()
