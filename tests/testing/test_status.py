"""Reading ``Cache-Status``, also what others write there."""

from __future__ import annotations

import pytest
from django.http import HttpResponse
from hypothesis import given
from hypothesis import strategies as st

from pooling.cache import answers
from pooling.cache.status import read


def written(*parts: str, detail: str | None = None) -> str:
    return str(answers.status(HttpResponse(), *parts, detail=detail)["Cache-Status"])


@pytest.mark.parametrize(
    ("parts", "detail", "kind"),
    [
        (("hit", "ttl=300"), None, "fresh"),
        (("hit", "ttl=0"), None, "fresh"),
        (("fwd=uri-miss", "collapsed"), None, "fresh"),
        (("hit", "ttl=-1"), "written", "stale"),
        (("hit", "ttl=-9"), "expired", "stale"),
        (("hit", "ttl=-2"), "the view failed", "stale"),
        (("fwd=stale",), "the view failed", "stale"),
        (("fwd=stale", "fwd-status=503"), "the view failed", "stale"),
        (("fwd=stale",), "the view could not begin", "stale"),
        (("fwd=uri-miss", "stored"), None, "made"),
        (("fwd=stale", "stored"), "early", "made"),
        (("fwd=vary-miss",), "Set-Cookie", "made"),
        (("fwd=method",), None, "made"),
        (("fwd=bypass",), "timeout 0", "made"),
    ],
)
def test_an_answer_is_one_of_three_things(parts: tuple[str, ...], detail: str | None, kind: str) -> None:
    told = read(written(*parts, detail=detail))
    assert told is not None
    assert [name for name in ("fresh", "stale", "made") if getattr(told, name)] == [kind]
    assert told.stored == ("stored" in parts)
    assert told.detail == (detail or "")


def test_why_it_was_not_stored() -> None:
    def why(*parts: str, detail: str | None = None) -> str:
        told = read(written(*parts, detail=detail))
        assert told is not None
        return told.why_not_stored

    assert why("fwd=uri-miss", detail="Set-Cookie") == "Set-Cookie"
    assert why("fwd=method") == "method"
    assert why("fwd=uri-miss", "stored") == ""
    assert why("hit", "ttl=3") == ""
    assert why("fwd=stale", detail="the view failed") == ""


def test_of_several_the_outermost_cached_view_counts() -> None:
    told = read('inner; hit, pooling; fwd=miss; stored, pooling; hit; ttl=7 , CDN; fwd=stale; detail="x, pooling; hit"')
    assert told is not None
    assert (told.text, told.hit, told.ttl, told.stored) == ("pooling; hit; ttl=7", True, 7, False)


@pytest.mark.parametrize("header", [None, "", "other; hit", "poolings; hit", '"pooling; hit"', ",,;", 'x; a="'])
def test_nothing_is_read_where_no_cached_view_said_anything(header: str | None) -> None:
    assert read(header) is None


@given(st.text(), st.sampled_from([("hit", "ttl=-3"), ("fwd=uri-miss",), ("fwd=stale", "stored")]))
def test_any_detail_is_read_as_it_was_told(detail: str, parts: tuple[str, ...]) -> None:
    told = read("first; hit, " + written(*parts, detail=detail) + ", last; hit")
    assert told is not None
    assert told.detail == answers._NOT_PRINTABLE.sub("?", detail)
    assert told.hit == ("hit" in parts)


@given(st.text(alphabet=' ,;="\\pooling-hit0?', max_size=80))
def test_whatever_others_write_raises_nothing(header: str) -> None:
    read(header)
