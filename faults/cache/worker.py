"""A worker process: ``python -m faults.cache.worker NAME SEED LEASE``. One thread writes, one for each level and shelf
reads: one that waits for what cannot be had keeps none from reading on.

What it says and is told is in `faults.lane`. A reader says, of answers of equal version that it got one after the
other, when it asked for the last of them: whether that one was too old tells it of all.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import random
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from typing import Any

import django

from ..lane import REFUSED, Lane

PAUSE = (0.02, 0.1)  # seconds between two writes: long enough for pages to be found
READERS_PAUSE = 0.008
SAY_EVERY = 0.05  # seconds, at the latest


def leave_epochs_unchecked() -> None:
    """For the negative control: pages are stored under the present epochs, whatever these were at the grant."""
    from pooling.cache import answers

    save = answers.save

    def unchecked(store: Any, base: str, epochs: Any, vector: Any, *rest: Any, **given: Any) -> bool:
        return save(store, base, epochs, store.epochs(epochs), *rest, **given)

    answers.save = unchecked


@dataclass
class Seen:
    """Answers of one version. ``begun`` is when the last of them was asked for, in ns of CLOCK_MONOTONIC."""

    version: int
    begun: int
    said: float
    count: int = 0
    hits: int = 0
    unasked: int = 0  # hits for which the store was not asked


class Reader(threading.Thread):
    """Reads one shelf at one level, again and again."""

    def __init__(self, lane: Lane, level: str, shelf: int, view: Any, asked: threading.local) -> None:
        super().__init__(daemon=True)
        self._lane = lane
        self._level = level
        self._shelf = shelf
        self._view = view
        self._asked = asked
        self._seen: Seen | None = None

    def run(self) -> None:
        from django.core import signals
        from django.db import DatabaseError, InterfaceError, connections
        from django.test import RequestFactory

        factory = RequestFactory()
        while not self._lane.ends:
            begun = time.monotonic_ns()
            self._asked.store = False
            try:
                signals.request_started.send(sender=None, environ={})
                response = self._view(factory.get(f"/{self._shelf}"), shelf=self._shelf)
                signals.request_finished.send(sender=None)
                self._note(int(response.content), begun, response["Cache-Status"])
            except (*REFUSED, DatabaseError, InterfaceError) as error:
                self._lane.say("no answer", level=self._level, error=type(error).__name__)
                connections.close_all()
                time.sleep(PAUSE[0])
            except Exception:  # noqa: BLE001 - it is in the history, and a finding
                self._lane.say("broken", error=traceback.format_exc())
                return
            time.sleep(READERS_PAUSE)
        self._say()

    def _note(self, version: int, begun: int, status: str) -> None:
        seen = self._seen
        if seen is None or seen.version != version or time.monotonic() > seen.said + SAY_EVERY:
            self._say()
            seen = self._seen = Seen(version, begun, time.monotonic())
        hit = status.startswith("pooling; hit")
        seen.begun = begun
        seen.count += 1
        seen.hits += hit
        seen.unasked += hit and not self._asked.store

    def _say(self) -> None:
        seen = self._seen
        if seen is not None:
            self._lane.say(
                f"hit {self._level}" if seen.hits else "made",
                **{"level": self._level, "shelf": self._shelf, "version": seen.version, "begun": seen.begun},
                **{"count": seen.count, "hits": seen.hits, "unasked": seen.unasked},
            )


def note_what_is_asked() -> threading.local:
    """``store`` of it is set when this thread asks the store for an entry or for epochs."""
    from pooling import runtime

    store: Any = runtime.store()
    fetch, asked = store.fetch, threading.local()

    def noted(*given: Any) -> Any:
        asked.store = True
        return fetch(*given)

    store.fetch = noted
    return asked


def write(lane: Lane, name: str, seed: str) -> None:
    """Write one shelf after the other, in this thread, until it is told to end."""
    from django.core import signals
    from django.db import DatabaseError, InterfaceError, connections
    from django.test import RequestFactory

    from .shelves import SHELVES, writers

    chance = random.Random(f"{seed}.{name}")
    ways = writers(lane.reached)
    factory = RequestFactory()
    count = 0
    while not lane.ends:
        count += 1
        shelf, way = chance.randrange(SHELVES), chance.choices(("locked", "invalidate"), (3, 1))[0]
        lane.about(f"{name}.{count}")
        lane.reached("start", accounts=[shelf], way=way)
        detail: dict[str, Any] = {}
        try:
            signals.request_started.send(sender=None, environ={})
            response = ways[way](factory.post(f"/{shelf}"), shelf=shelf)
            signals.request_finished.send(sender=None)
            outcome, detail = "done", {"version": int(response.content)}
        except REFUSED as refused:
            outcome, detail = "refused", {"error": type(refused).__name__}
        except (DatabaseError, InterfaceError) as failed:
            outcome, detail = "unknown", {"error": f"{type(failed).__name__}: {failed}"}
        except Exception:  # noqa: BLE001 - it is in the history, and a finding
            outcome, detail = "broken", {"error": traceback.format_exc()}
        lane.reached(outcome, **detail)
        if outcome != "done":
            connections.close_all()
        time.sleep(chance.uniform(*PAUSE))


def main() -> None:
    logging.disable(logging.CRITICAL)  # what goes wrong here is meant to, and the history has it
    faulthandler.enable()  # for SIGABRT, see `Process.end`
    name, seed, lease = sys.argv[1:]
    os.environ["FAULTS_LEASE"] = lease
    django.setup()
    if os.environ["FAULTS_EPOCHS_UNCHECKED"] == "1":
        leave_epochs_unchecked()
    from .shelves import SHELVES, pages

    lane = Lane(float(lease))
    lane.listen_in()
    asked = note_what_is_asked()
    views = pages(lane.reached)
    readers = [Reader(lane, level, shelf, view, asked) for level, view in views.items() for shelf in range(SHELVES)]
    for thread in (threading.Thread(target=lane.obey, daemon=True), *readers):
        thread.start()
    write(lane, name, seed)
    for reader in readers:
        reader.join()


if __name__ == "__main__":
    main()
