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
    """One Lua file with what it needs in front of it. Sent by its digest; whole where the server does not know it."""

    def __init__(self, name: str, *needs: str) -> None:
        self.name = name
        self.text = "\n".join((_FOLDER / f"{part}.lua").read_text("utf-8") for part in (*needs, name)).encode()
        self._by_digest = bulk(b"EVALSHA") + bulk(hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode())
        self._whole = bulk(b"EVAL") + bulk(self.text)

    def command(self, keys: int, words: int, packed: bytes, *, whole: bool = False) -> bytes:
        """``packed``: ``keys`` names of keys and then the arguments, ``words`` of both."""
        how = self._whole if whole else self._by_digest
        return b"*%d\r\n%b%b%b" % (3 + words, how, bulk(b"%d" % keys), packed)


ACQUIRE, RELEASE, LOOK, RENEW, PARTIES = (
    Script(name, "_epochs", "_table") for name in ("acquire", "release", "look", "renew", "parties")
)
EPOCHS, PUT = (Script(name, "_epochs") for name in ("epochs", "put"))
