"""Tells the store every few seconds how this process is, so that one page can show all of them.

One thread in each process that has had a request or a connection, and only where the store is shared. What is told
stands for three turns: a process that dies is gone from the page by itself, one that ends says so. A store that is down
is not waited for: its breaker refuses at once, and the next turn tries again.
"""

from __future__ import annotations

import atexit
import json
import logging
import sys
import threading
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import request_started
from django.db.backends.signals import connection_created

from pooling import conf, runtime
from pooling._forks import after_in_child
from pooling.errors import StoreUnavailable

from . import here, orders, recent

logger = logging.getLogger("pooling.status")

PREFIX = "process:"
_UID = "pooling.status"
_GONE = 0.001  # seconds for which the last word of a process stands


class Publisher:
    """Takes turns until it is stopped. ``every``: seconds between two."""

    def __init__(self, every: float) -> None:
        self.every = every
        self._stopping = threading.Event()
        self._begun = False
        self._thread = threading.Thread(target=self._run, name="pooling-status", daemon=True)

    def start(self) -> None:
        """RuntimeError if there can be no more threads."""
        self._thread.start()

    def turn(self) -> bool:
        """Tell once, and do what was ordered. False if the store could not be asked."""
        document = json.dumps(here.document(sample=True), separators=(",", ":")).encode()
        try:
            store = runtime.store()
            orders.obey(store, begin=not self._begun)
            self._begun = True
            store.announce(PREFIX + here.process_id(), document, 3 * self.every)
        except StoreUnavailable as error:
            logger.debug("Nothing was published: %s", error, extra={"error": type(error).__name__})
            return False
        return True

    def stop(self) -> None:
        """No more turns, and what was told is withdrawn. Waits for the present turn, a second at most."""
        self._stopping.set()
        self._thread.join(1.0)
        try:
            runtime.store().announce(PREFIX + here.process_id(), b"", _GONE)
        except (StoreUnavailable, ImproperlyConfigured) as error:
            logger.debug("What was published stays until it runs out: %s", error, extra={"error": type(error).__name__})

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.turn()
            except Exception as error:
                # Whatever a site's pool or view was named like: the next turn has another picture.
                logger.exception(
                    "The state of this process could not be published; the next turn tries again",
                    extra={"error": type(error).__name__},
                )
            self._stopping.wait(self.every)


_mutex = threading.Lock()
_publisher: Publisher | None = None
_begun = False  # was there a first request or connection in this process?


def start() -> Publisher | None:
    """Publish from now on; None where there is nobody to tell, or POOLING["PUBLISH_SECONDS"] is 0."""
    global _publisher
    try:
        settings = conf.settings()
        if not settings.PUBLISH_SECONDS or not settings.ENABLED or not runtime.store().shared:
            return None
    except ImproperlyConfigured:
        return None  # the checks say so
    with _mutex:
        if _publisher is None:
            publisher = Publisher(settings.PUBLISH_SECONDS)
            try:
                publisher.start()
            except RuntimeError as error:  # no more threads: the interpreter shuts down, or a limit of the system
                logger.warning(
                    "The state of this process cannot be published: %s", error, extra={"error": type(error).__name__}
                )
                return None
            _publisher = publisher
        return _publisher


def stop() -> None:
    """Stop publishing, and withdraw what was."""
    global _publisher
    with _mutex:
        publisher, _publisher = _publisher, None
    if publisher is not None:
        publisher.stop()


def watch() -> None:
    """Start with the first request or connection: what only imports the site, and what forks, has no thread."""
    recent.listen()
    request_started.connect(_begin, dispatch_uid=_UID)
    connection_created.connect(_begin, dispatch_uid=_UID)


def _begin(**kwargs: Any) -> None:
    global _begun
    if not _begun:
        _begun = True
        connection_created.disconnect(dispatch_uid=_UID)  # no later checkout pays for it
        if not hasattr(sys.modules.get("django.core.mail"), "outbox"):  # in Django's test environment nobody looks
            start()


def _after_fork_in_child() -> None:
    global _mutex, _publisher, _begun
    _mutex = threading.Lock()
    _publisher, _begun = None, False  # the thread has stayed in the parent
    # Another thread may have been inside of the signal when this one forked, and will never leave it. Then the child's
    # first request has to do; that one's receiver was never taken out.
    if connection_created.lock.acquire(blocking=False):
        connection_created.lock.release()
        connection_created.connect(_begin, dispatch_uid=_UID)


after_in_child(_after_fork_in_child)
atexit.register(stop)
