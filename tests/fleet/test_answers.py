"""Reading the server's answers, in whatever pieces they come."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pooling.store import _answers
from pooling.store._answers import Answers, Ended
from pooling.store._resp3 import Failure


class Pieces:
    """A socket on which ``data`` comes in pieces of these sizes, and then the end."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self.data = data
        self.sizes = sizes

    def recv(self, most: int) -> bytes:
        size = self.sizes.pop(0) if self.sizes else most
        piece, self.data = self.data[:size], self.data[size:]
        return piece


def encoded(answer: Any) -> bytes:
    if isinstance(answer, bytes):
        return b"$%d\r\n%b\r\n" % (len(answer), answer)
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    if isinstance(answer, Failure):
        return f"-{answer.text}\r\n".encode()
    if answer is None:
        return b"$-1\r\n"
    return b"*%d\r\n" % len(answer) + b"".join(map(encoded, answer))


ANSWERS = st.recursive(
    st.one_of(st.none(), st.integers(), st.binary(), st.sampled_from([b"\r\n", b"$5\r\n"]), st.just(Failure("ERR no"))),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=20,
)


@given(st.lists(ANSWERS, min_size=1, max_size=3), st.lists(st.integers(1, 9)))
def test_they_are_read_as_they_were_sent(answers: list[Any], sizes: list[int]) -> None:
    pieces = Pieces(b"", sizes)
    reader = Answers(pieces)
    for answer in answers:
        pieces.data = encoded(answer)  # one at a time: the next request is sent when this one is answered
        assert reader.next() == answer
    with pytest.raises(Ended):
        reader.next()


def test_a_long_one_is_put_together_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_answers, "_CHUNK", 10)
    text = bytes(range(256)) * 40
    assert Answers(Pieces(encoded([text, 7, text]), [])).next() == [text, 7, text]


def test_other_forms() -> None:
    assert Answers(Pieces(b"+OK\r\n", [])).next() == b"OK"
    assert Answers(Pieces(b"*-1\r\n", [])).next() is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "no answer begins with b'HTTP"),
        (b"\r\n", "no answer begins with b''"),
        (b":x\r\n", "invalid literal"),
        (b"+OK\r\n+OK\r\n", "more than one answer"),
    ],
)
def test_what_is_no_answer(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Answers(Pieces(data, [])).next()


def test_one_that_ends_too_early() -> None:
    for end in range(1, len(encoded([b"abc", 5]))):
        with pytest.raises(Ended):
            Answers(Pieces(encoded([b"abc", 5])[:end], [])).next()
