"""The store of a fleet: locks, epochs and entries in one Redis (or Valkey), for any number of processes and machines.

Each method is one script or one command. Everything is under one hash tag, so in a cluster it is all on one node.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

from .._forks import after_in_child
from ..errors import StoreUnavailable
from ..groups import Mode
from ._mailbox import Mailbox, Pending, parse
from ._owed import Owed
from ._push import HEARTBEAT, Pushes
from ._scripts import (
    ACQUIRE,
    ADVANCE,
    ANNOUNCE,
    ANNOUNCED,
    COMMITTING,
    EPOCHS,
    INVALIDATE,
    LOAD,
    LOOK,
    PARTIES,
    PUT,
    RELEASE,
    RENEW,
    SWAP,
    Script,
    bulk,
    command,
    encode,
    packed,
)
from ._waking import waker_of
from ._wire import Driver, Wire
from .protocol import Found, Grant, LockRequest, Party, Vector, Wants, checked_token

_GRANTED, _QUEUED = 1, 0
_TABLE = ("held", "wait", "lease", "info", "seq")
_AGAIN = 1.0  # seconds until those look for themselves whose grants may have been in an answer that got lost
_SCAN = 1000
_AT_ONCE = 50  # announcements that are fetched in one call, which must be done within the budget


class RedisStore:
    """`pooling.store.protocol.Store` in Redis; see there for the methods.

    ``driver`` connects, ``prefix`` begins every key, ``budget`` is what one call may take, ``heartbeat`` how old what
    `known` says may be at most, both in seconds. ``clock`` gives seconds that never go back, for those who wait and
    for the heartbeat; leases and the like go by Redis's own clock.
    """

    shared = True

    def __init__(
        self,
        driver: Driver,
        *,
        prefix: str = "pooling",
        budget: float = 0.25,
        heartbeat: float = HEARTBEAT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # A brace inside would end the hash tag early.
        self.tag = "{" + prefix.replace("%", "%25").replace("{", "%7B").replace("}", "%7D") + "}:"
        self._clock = clock
        self._table = packed(_TABLE, self.tag)
        self._epochs = self.tag + "v:"
        self._entries = self.tag + "e:"
        self._wire = Wire(driver, budget)
        self._mail = Mailbox(self._wire, self.tag + "box:", clock)
        self._owed = Owed(self._pay)
        self._pushes = Pushes(self._wire, self._epochs, self.tag + "beat", heartbeat=heartbeat, clock=clock)
        self._known = self._pushes.known
        # Pages that are asked for are so again and again, and to pack the keys takes longer than to look it up.
        self._question = lru_cache(maxsize=1024)(partial(_mget, self._entries, self._epochs))
        _stores.add(self)

    def _start_over(self) -> None:
        self._wire.start_over()
        self._mail.start_over()
        self._owed.start_over()
        self._pushes.start_over()

    # -- locks

    def acquire(self, request: LockRequest) -> Grant | None:
        renews, watches, wants, family = request.renews, request.watches, request.wants, request.family
        arguments = [
            request.ticket,
            _microseconds(request.lease),
            _microseconds(request.patience),
            self._mail.name,
            _nonce() if watches else "",
            json.dumps(dict(request.owner)),
            "1" if request.nowait else "0",
            request.follow or "",
            str(len(wants)),
            str(len(renews)),
            *[f"{group}\0{mode:d}" for group, mode in wants],
            *family,
        ]
        answer = self._run(ACQUIRE, (*renews, *watches), arguments)
        pending = self._become(request.ticket, answer)
        return pending.grant if pending is not None else None

    def wait(self, ticket: str, timeout: float) -> Grant | None:
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            pending = self._current(ticket, left)
            if pending is None or pending.grant is not None or left <= 0:
                return self._leave(ticket, pending)
            gate = threading.Lock()
            gate.acquire()
            nap = self._mail.park(pending, gate.release)
            try:
                if nap > 0:
                    gate.acquire(timeout=min(left, nap))
            finally:
                self._mail.unpark(pending, gate.release)

    async def wait_async(self, ticket: str, timeout: float) -> Grant | None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while True:
            left = deadline - loop.time()
            pending = self._current(ticket, left)
            if pending is None or pending.grant is not None or left <= 0:
                return self._leave(ticket, pending)
            gate: asyncio.Future[None] = loop.create_future()
            waker = waker_of(loop, gate)
            nap = self._mail.park(pending, waker)
            try:
                if nap > 0:
                    await asyncio.wait((gate,), timeout=min(left, nap))
            finally:
                self._mail.unpark(pending, waker)

    def release(self, ticket: str, renews: tuple[str, ...] = ()) -> bool:
        try:
            wire = self._insisting() if renews else self._up()
            held, told = self._run_on(wire, RELEASE, renews, [ticket, self._mail.name], insist=bool(renews))
        except StoreUnavailable:
            self._mail.doubt(_AGAIN)
            raise
        finally:
            self._mail.forget(ticket)
            # The server's word comes a moment later, and who writes must see it at once.
            self._known.changed(renews)
        self._mail.deliver(told)
        return bool(held)

    def renew(self, tickets: Sequence[str], lease: float) -> list[bool]:
        if not tickets:
            return []
        return [bool(held) for held in self._run(RENEW, (), [_microseconds(lease), *tickets])]

    def advance(self, token: int) -> bool:
        words = bulk(encode(self.tag + "seq")) + bulk(b"%d" % checked_token(token))
        return bool(self._up().run(ADVANCE, 1, 2, words))

    def parties(self, groups: Sequence[str] | None = None) -> list[Party]:
        if groups is not None and not groups:
            return []
        told, *found = self._run(PARTIES, (), [self._mail.name, *(groups or ())])
        self._mail.deliver(told)
        found.sort(key=lambda party: (not party[3], int(party[1])))
        return [
            Party(ticket.decode(), _wants(wants), json.loads(owner), int(age) / 1e6, bool(holding))
            for ticket, _, age, holding, owner, *wants in found
        ]

    # -- epochs

    def epochs(self, names: Sequence[str]) -> Vector:
        return self.fetch("", names).vector if names else ()

    def invalidate(self, names: Sequence[str], word: str = "") -> None:
        if names:
            self._renew(self._insisting(), names, word, insist=True)

    def committing(self, names: Sequence[str], word: str, seconds: float) -> None:
        arguments = (word, _microseconds(seconds))
        words = packed(names, self._epochs) + packed(arguments)
        try:
            self._up().run(COMMITTING, len(names), len(names) + len(arguments), words)
        finally:
            self._known.changed(names)

    def _renew(self, wire: Wire, names: Sequence[str], word: str = "", *, insist: bool = False) -> None:
        words = packed(names, self._epochs) + packed([word])
        try:
            wire.run(INVALIDATE, len(names), len(names) + 1, words, insist=insist)
        finally:
            self._known.changed(names)

    def later(self, ticket: str | None, renews: Sequence[str] = ()) -> None:
        self._owed.add(ticket, renews)
        self._known.changed(renews)  # so that they are asked for, and what is owed is paid before that

    def known(self, names: Sequence[str]) -> Vector | None:
        return self._pushes.vector(names)

    # -- entries

    def fetch(self, key: str, names: Sequence[str]) -> Found:
        begun = self._known.begin()
        found = self._fetch(key, names)
        self._known.keep(begun, names, found.vector)
        return found

    def _fetch(self, key: str, names: Sequence[str]) -> Found:
        entry, *vector = self._up().ask(self._question(key, tuple(names)))
        if None in vector:
            keys = bulk(self._entry_key(key)) + packed(names, self._epochs)
            entry, *vector = self._up().run(EPOCHS, 1 + len(names), 2 + len(names), keys + bulk(_nonce().encode()))
        return Found(entry, tuple(vector))

    def put(self, key: str, entry: bytes, ttl: float, names: Sequence[str], vector: Vector) -> bool:
        keys = bulk(self._entry_key(key)) + packed(names, self._epochs)
        arguments = [entry, b"%d" % int(ttl * 1000), *vector]
        words = keys + b"".join(map(bulk, arguments))
        return bool(self._up().run(PUT, 1 + len(names), 1 + len(names) + len(arguments), words))

    def delete(self, key: str) -> bool:
        return bool(self._up().call(b"DEL", self._entry_key(key)))

    # -- documents

    def load(self, key: str) -> tuple[bytes, float]:
        document, seconds, micros = self._up().run(LOAD, 1, 1, bulk(self._document_key(key)))
        return document or b"", int(seconds) + int(micros) / 1e6

    def swap(self, key: str, old: bytes, new: bytes, ttl: float) -> bool:
        words = b"".join(map(bulk, (self._document_key(key), old, new, b"%d" % int(ttl * 1000))))
        return bool(self._up().run(SWAP, 1, 4, words))

    # -- announcements

    def announce(self, name: str, document: bytes, ttl: float) -> None:
        keys = (encode(self.tag + "announced"), self._announcement_key(name))
        words = b"".join(map(bulk, (*keys, encode(name), document, b"%d" % int(ttl * 1000))))
        self._up().run(ANNOUNCE, 2, 5, words)

    def announced(self) -> dict[str, bytes]:
        names = self._up().run(ANNOUNCED, 1, 1, bulk(encode(self.tag + "announced")))
        found: dict[str, bytes] = {}
        for at in range(0, len(names), _AT_ONCE):
            some = [name.decode("utf-8", "surrogatepass") for name in names[at : at + _AT_ONCE]]
            documents = self._up().call(b"MGET", *map(self._announcement_key, some))
            found.update({name: one for name, one in zip(some, documents, strict=True) if one is not None})
        return found

    def trouble(self) -> str:
        return self._wire.breaker.trouble

    def clear(self) -> None:
        # Not one step, and need not be: an entry whose epoch is gone already counts for nothing.
        self._unlink(self._epochs)
        self._unlink(self._entries)
        self._known.all_changed()

    def wipe(self) -> None:
        """Remove all keys of this prefix, locks included. For tests, which have a prefix of their own."""
        self._unlink(self.tag)
        self._known.all_changed()

    def _unlink(self, beginning: str) -> None:
        pattern = _glob(encode(beginning)) + b"*"
        cursor = b"0"
        while True:
            cursor, keys = self._up().call(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"%d" % _SCAN)
            if keys:
                self._up().call(b"UNLINK", *keys)
            if cursor == b"0":
                break

    def close(self) -> None:
        """End the threads and close the connections."""
        self._owed.close()
        self._mail.close()
        self._pushes.close()
        self._wire.close()

    def eviction_policy(self) -> str:
        """What the server drops when its memory is full: its ``maxmemory-policy``. StoreUnavailable."""
        for line in self._up().call(b"INFO", b"memory").decode().splitlines():
            if line.startswith("maxmemory_policy:"):
                return str(line.partition(":")[2])
        return ""

    # -- details

    def _run(self, script: Script, epochs: Sequence[str], arguments: list[str]) -> Any:
        """A script that has the lock table and then these epochs for its keys."""
        return self._run_on(self._up(), script, epochs, arguments)

    def _run_on(
        self, wire: Wire, script: Script, epochs: Sequence[str], arguments: list[str], *, insist: bool = False
    ) -> Any:
        keys = len(_TABLE) + len(epochs)
        words = self._table + (packed(epochs, self._epochs) if epochs else b"") + packed(arguments)
        return wire.run(script, keys, keys + len(arguments), words, insist=insist)

    def _up(self) -> Wire:
        """The way to the server, once it has been told what is owed."""
        if self._owed.due:
            self._owed.settle()
        return self._wire

    def _insisting(self) -> Wire:
        """The way to the server for what was written, which others must not miss because a call of this process has
        just failed. It is told what is owed before, if that can be done."""
        with contextlib.suppress(StoreUnavailable):
            self._up()
        return self._wire

    def _pay(self, tickets: list[str], epochs: list[str]) -> None:
        for at in range(0, len(epochs), _SCAN):  # first: the next holder must have the new ones
            self._renew(self._wire, epochs[at : at + _SCAN])
        for ticket in tickets:
            _, told = self._run_on(self._wire, RELEASE, (), [ticket, self._mail.name])
            self._mail.deliver(told)

    def _epoch_keys(self, names: Sequence[str]) -> list[bytes]:
        return [encode(self._epochs + name) for name in names]

    def _document_key(self, key: str) -> bytes:
        return encode(self.tag + "d:" + key)

    def _announcement_key(self, name: str) -> bytes:
        return encode(self.tag + "a:" + name)

    def _entry_key(self, key: str) -> bytes:
        return encode(self._entries + key)

    def _become(self, ticket: str, answer: Any) -> Pending | None:
        """What became of a ticket, from a script's answer. None: it neither holds nor waits."""
        state, detail, told = answer
        self._mail.deliver(told)
        if state == _QUEUED:
            return self._mail.expect(ticket, int(detail) / 1e6)
        self._mail.forget(ticket)
        if state != _GRANTED:
            return None
        pending = Pending()
        _, pending.grant = parse(detail)
        return pending

    def _current(self, ticket: str, left: float) -> Pending | None:
        """The ticket as far as it is known here; where that may be wrong, as the table has it."""
        pending = self._mail.find(ticket)
        if pending is not None and (pending.grant is not None or (left > 0 and self._clock() < pending.look_at)):
            return pending
        return self._become(ticket, self._run(LOOK, (), [ticket, self._mail.name]))

    def _leave(self, ticket: str, pending: Pending | None) -> Grant | None:
        if pending is None or pending.grant is None:
            return None
        self._mail.forget(ticket)  # who asks once more gets what the table says then
        return pending.grant


def _mget(entries: str, epochs: str, key: str, names: tuple[str, ...]) -> bytes:
    """The command that brings the entry under ``key`` and the epochs of these names; the first two begin their keys."""
    return command(b"MGET", encode(entries + key), *[encode(epochs + name) for name in names])


def _nonce() -> str:
    """What makes the epochs of one call unlike those of every other."""
    return os.urandom(8).hex()


def _microseconds(seconds: float) -> str:
    return str(round(seconds * 1_000_000))


def _wants(wants: Sequence[bytes]) -> Wants:
    return tuple((want[:-2].decode(), Mode(int(want[-1:]))) for want in wants)


def _glob(name: bytes) -> bytes:
    """A name as a pattern that matches only itself."""
    return b"".join(b"\\" + bytes((byte,)) if byte in b"*?[]^-\\" else bytes((byte,)) for byte in name)


_stores: weakref.WeakSet[RedisStore] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # Connections and the thread are the parent's; another thread may have held a mutex in mid-change.
    for store in list(_stores):
        store._start_over()


after_in_child(_after_fork_in_child)
