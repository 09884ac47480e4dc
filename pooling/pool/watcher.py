"""The thread that learns of the death of connections from the kernel, so that a checkout need not look.

One look at a socket costs a system call, and Python gives up the GIL for it: under load that is dearer than all else in
a checkout. The watcher sleeps in `epoll_wait` on the sockets of all connections, idle and lent, and asks only for their
end: traffic does not wake it.

What it cannot promise is to be the first. To act on an event it needs the GIL like any thread, so behind busy threads
it may be some switch intervals (5 ms each) late. `TRUST` is therefore short: a connection that was given back longer
ago is looked at again at its checkout, which a busy pool, lending last in, first out, hardly ever comes to. What slips
through was given back and killed within `TRUST` of its next checkout, and before the watcher ran; its user sees the
error that he would see if it were killed a moment after the checkout, which no pool can prevent.
"""

from __future__ import annotations

import _thread
import logging
import os
import select
import threading
import types
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .state import State

log = logging.getLogger("pooling.pool")

TRUST = 0.001  # seconds after its return for which a watched connection is lent without a look
NO_TRUST = -1.0

# The peer will send no more. epoll's flags are poll's; a platform without EPOLLRDHUP has no epoll either.
_END = getattr(select, "EPOLLRDHUP", 0) | select.POLLHUP | select.POLLERR


def possible() -> bool:
    """Is there an epoll, and are threads those of the interpreter? gevent's are greenlets: one that sleeps in
    `epoll_wait` would stop them all."""
    return hasattr(select, "epoll") and isinstance(_thread.start_new_thread, types.BuiltinFunctionType)


class Watcher:
    """Watches the sockets of one pool's connections. Knows the pool weakly, connections by number and id only: the
    pool tells from their reference counts which ones are lost."""

    def __init__(self, pool: State[Any], name: str) -> None:
        self._name = name
        self._pool = weakref.ref(pool, self._pool_is_gone)
        # The watcher's own: a number that is freed and given to the next connection must not fall between the table
        # and the kernel's. Re-entrant, for a finaliser may come here while its thread is inside.
        self._lock = threading.RLock()
        self._epoll: select.epoll | None = None
        self._bell = -1
        self._keys: dict[int, int] = {}  # number of the socket -> key of the slot
        self._numbers: dict[int, int] = {}  # and back

    def watch(self, key: int, number: int) -> bool:
        """From here on the pool is told when this socket ends, also when it has ended already. False: it cannot be
        watched, so whoever lends it has to look."""
        if number < 0 or not possible():
            return False
        with self._lock:
            try:
                epoll = self._epoll or self._start()
                # One shot: an end is told once, and does not wake again and again for as long as a user holds it.
                epoll.register(number, _END | select.EPOLLONESHOT)
            except (OSError, RuntimeError) as error:  # out of descriptors or threads, or closed meanwhile
                log.info(
                    "pool %r: a connection cannot be watched, so each checkout looks: %r",
                    self._name,
                    error,
                    extra={"pool": self._name, "error": type(error).__name__},
                )
                if not self._numbers:
                    self._ring()  # or a thread that was just started would sleep for nobody
                return False
            self._keys[number] = key
            self._numbers[key] = number
        return True

    def leave(self, key: int) -> None:
        """Before the connection is closed: then its number may be another one's."""
        with self._lock:
            number = self._numbers.pop(key, None)
            if number is None:
                return
            if self._keys.get(number) == key:  # else it was closed by others, and the number is taken again
                del self._keys[number]
                try:
                    assert self._epoll is not None
                    self._epoll.unregister(number)
                except OSError:
                    pass  # closed by others: the kernel has forgotten it
            if not self._numbers:
                self._ring()

    def abandon(self) -> None:
        """In a forked child: the parent goes on with the same epoll, so nothing is taken out of it; only our copy of
        the descriptors is closed. No lock: its owner may not exist here."""
        epoll, self._epoll = self._epoll, None
        bell, self._bell = self._bell, -1
        self._numbers, self._keys = {}, {}
        if epoll is not None:
            epoll.close()
            os.close(bell)

    def _start(self) -> select.epoll:
        epoll = select.epoll()
        bell = -1
        try:
            bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            epoll.register(bell, select.EPOLLIN)
            self._epoll, self._bell = epoll, bell
            name = f"pooling-watcher-{self._name}"
            threading.Thread(target=self._run, args=(epoll,), name=name, daemon=True).start()
        except BaseException:
            self._epoll, self._bell = None, -1
            epoll.close()
            if bell >= 0:
                os.close(bell)
            raise
        return epoll

    def _run(self, epoll: select.epoll) -> None:
        while True:
            events = epoll.poll()
            pool = self._pool()
            if pool is not None:
                for number, _ in events:
                    self._tell(pool, number)
            del pool  # or it could not be collected while this thread sleeps
            if self._is_over(epoll):
                return

    def _tell(self, pool: State[Any], number: int) -> None:
        with self._lock:
            key = self._keys.get(number)
        # Asked again, for the event may be of one that was closed meanwhile and whose number the next one got.
        if key is None or not _ended(number) or self._keys.get(number) != key:
            return
        try:
            pool._ended(key)
        except Exception:
            log.exception(
                "pool %r: a connection that has ended could not be taken out; its checkout will",
                self._name,
                extra={"pool": self._name},
            )

    def _is_over(self, epoll: select.epoll) -> bool:
        """Is there nobody left to watch for? Then all is as before the first `watch`."""
        with self._lock:
            if self._numbers and self._pool() is not None:
                with suppress(BlockingIOError):  # it has not rung
                    os.eventfd_read(self._bell)
                return False
            bell, self._bell = self._bell, -1
            self._epoll = None
            epoll.close()
            os.close(bell)
            return True

    def _ring(self) -> None:
        with self._lock:
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)

    def _pool_is_gone(self, _: object) -> None:
        self._ring()


def _ended(number: int) -> bool:
    """Will nothing more come from this socket? Not for a number that is closed."""
    look = select.poll()
    look.register(number, _END)
    return any(flags & _END and not flags & select.POLLNVAL for _, flags in look.poll(0))
