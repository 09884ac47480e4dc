"""The scripts that run in Redis, and commands in the form in which they are sent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_FOLDER = Path(__file__).parent / "lua"


def bulk(item: bytes) -> bytes:
    """One word of a command (RESP)."""
    return b"$%d\r\n%b\r\n" % (len(item), item)


def command(*words: bytes) -> bytes:
    """A whole command."""
    return b"*%d\r\n%b" % (len(words), b"".join(map(bulk, words)))


def encode(word: str) -> bytes:
    # A group has no lone surrogates, but a key may be made of anything.
    return word.encode("utf-8", "surrogatepass")


def packed(words: Iterable[str], prefix: str = "") -> bytes:
    """Many words, each behind the prefix. Almost all are ASCII, where one encoding does for all of them."""
    before = len(prefix)
    text = "".join([f"${before + len(word)}\r\n{prefix}{word}\r\n" for word in words])
    if text.isascii():
        return text.encode()
    return b"".join([bulk(encode(prefix + word)) for word in words])


class Script:
    """A script for the server. Sent by its digest; whole where the server does not know it."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._by_digest = bulk(b"EVALSHA") + bulk(hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())
        self._whole = bulk(b"EVAL") + bulk(text)

    def command(self, keys: int, words: int, packed: bytes, *, whole: bool = False) -> bytes:
        """``packed``: ``keys`` names of keys and then the arguments, ``words`` of both."""
        how = self._whole if whole else self._by_digest
        return b"*%d\r\n%b%b%b" % (3 + words, how, bulk(b"%d" % keys), packed)


def _read(*names: str) -> Script:
    return Script(b"\n".join((_FOLDER / f"{name}.lua").read_bytes() for name in names))


ACQUIRE, RELEASE, LOOK, RENEW, PARTIES = (
    _read("_epochs", "_table", name) for name in ("acquire", "release", "look", "renew", "parties")
)
ADVANCE, ANNOUNCE, ANNOUNCED, LOAD, SWAP = (
    _read(name) for name in ("advance", "announce", "announced", "load", "swap")
)
COMMITTING, EPOCHS, INVALIDATE, PUT = (_read("_epochs", name) for name in ("committing", "epochs", "invalidate", "put"))
