"""Responses that are copied from one: the same as those that Django makes, and each by itself."""

from __future__ import annotations

import pickle
from typing import Any

from django.http import HttpResponse

from pooling.cache import answers, frame
from pooling.cache.copies import Template

HEADERS = (("Content-Type", "text/html; charset=utf-8"), ("X-Shop", "gr\xfc\xdf"), ("ETag", 'W/"1"'))
PAGE = frame.Page(200, "Fine", HEADERS, b"body", (b"1",), 0.0, 1.0)


def made() -> HttpResponse:
    """As Django makes it."""
    response = HttpResponse(b"body", status=200, reason="Fine", content_type=HEADERS[0][1])
    for name, value in HEADERS[1:]:
        response.headers[name] = value
    return response


def state(response: HttpResponse) -> dict[str, Any]:
    return {**vars(response), "headers": list(response.headers.items())}


def test_it_is_what_django_makes() -> None:
    found = Template(made()).copy(b"body")
    assert type(found) is HttpResponse
    assert state(found) == state(made())
    assert found.serialize() == made().serialize()
    assert pickle.loads(pickle.dumps(found)).serialize() == made().serialize()  # as a cache around it keeps it


def test_further_headers_replace_those_of_the_same_name() -> None:
    expected = made()
    expected.headers["etag"] = 'W/"2"'
    expected.headers["Age"] = "3"
    found = Template(made()).copy(b"body", ("etag", 'W/"2"'), ("Age", "3"))
    assert state(found) == state(expected)


def test_nothing_that_is_done_to_one_is_seen_in_another() -> None:
    template = Template(made())
    one = template.copy(b"body")
    before = template.copy(b"body")
    one.headers["X-More"] = "1"
    del one.headers["ETag"]
    one.set_cookie("name", "value")
    one.write(b" and more")
    one.status_code = 500
    one._resource_closers.append(one.close)
    assert state(before) == state(template.copy(b"body")) == state(made())


def test_what_a_later_django_may_add_is_not_shared_either() -> None:
    response = made()
    response.added = ["a"]  # type: ignore[attr-defined]
    template = Template(response)
    one, other = template.copy(b""), template.copy(b"")
    one.added.append("b")  # type: ignore[attr-defined]
    assert other.added == ["a"]  # type: ignore[attr-defined]


def test_a_page_without_a_type_is_served_without_one() -> None:
    assert "Content-Type" not in answers.answer(PAGE._replace(headers=HEADERS[1:]), "GET", "hit").headers


def test_each_answer_says_its_own_words_behind_those_that_were_stored() -> None:
    page = PAGE._replace(headers=(*HEADERS, ("Cache-Status", "other; hit")))
    for parts in (("hit", "ttl=3"), ("hit", "ttl=2")):
        found = answers.answer(page, "GET", *parts, detail='"')
        assert found.headers["Cache-Status"] == f'other; hit, pooling; {"; ".join(parts)}; detail="\\""'
