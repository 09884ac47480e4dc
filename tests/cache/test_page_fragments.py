"""Fragments in a page of `locked_cache`. A page that was stored with fragments in it, made then or taken from the
cache, is never served after a writer of any of their groups has answered; and the view need not declare these."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connections
from django.http import HttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import RequestFactory

from pooling import LockOrderError, containers, groups, invalidate, locked, locked_cache, runtime, sightings
from pooling.cache import frame

from .test_fragments import elsewhere

SIDE = '{% locked_cache 300 reads="notes/7" key="side" %}{{ side }}{% endlocked_cache %}'

shelf: dict[str, str] = {}
runs: list[str] = []


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    shelf.clear()
    shelf["side"] = shelf["main"] = "old"
    runs.clear()
    sightings._seen.clear()
    token = sightings._began.set(None)
    yield
    sightings._began.reset(token)


def look(name: str) -> Callable[[], str]:
    def read() -> str:
        runs.append(name)
        return shelf[name]

    return read


@locked(writes=["notes/7"], atomic=False, wait=0)
def write(text: str) -> None:
    shelf["side"] = text


def made(text: str) -> Any:
    return engines["django"].from_string("{% load pooling %}" + text)


def in_page(text: str = SIDE, *, reads: Any = ("x",), during: Callable[[], Any] = lambda: None, **options: Any) -> Any:
    page = made("{{ main }}" + text)

    @locked_cache(300, reads=list(reads), **options)
    def view(request: Any) -> HttpResponse:
        runs.append("view")
        answer = HttpResponse(page.render({"main": look("main"), "side": look("side"), "path": request.path}, request))
        during()
        return answer

    return view


def ask(view: Any, path: str = "/", **headers: str) -> Any:
    sightings.begin()
    return view(RequestFactory().get(path, headers=headers))


def told(view: Any, path: str = "/") -> str:
    return str(ask(view, path)["Cache-Status"])


def warm_fragment(text: str = SIDE) -> None:
    """The fragment alone, until it is in the cache."""
    for _ in range(2):
        sightings.begin()
        made(text).render({"side": look("side")})


# -- it is stored, and a write of what only the fragment reads makes it a miss


@pytest.mark.parametrize("level", ["validated", "remote", "near"])
def test_the_second_request_stores_it_and_a_write_makes_it_a_miss(level: str) -> None:
    view = in_page(level=level)
    assert told(view).endswith('fwd=uri-miss; detail="fragments read notes/7"')
    assert told(view).endswith("stored")
    assert told(view).startswith("pooling; hit")
    write("new")
    assert ask(view).content == b"oldnew"
    assert told(view).startswith("pooling; hit")  # stored at once: what its fragments read was known
    invalidate("notes")
    assert told(view).endswith("fwd=stale; stored")
    assert runs.count("view") == 4


def test_a_fragment_that_is_in_the_cache_brings_its_versions() -> None:
    warm_fragment()
    view = in_page()
    assert told(view).endswith("stored")
    assert told(view).startswith("pooling; hit")
    write("new")
    assert ask(view).content == b"oldnew"


def test_what_the_view_declares_goes_on_to_count() -> None:
    warm_fragment()
    view = in_page()
    told(view)
    shelf["main"] = "new"
    invalidate("x")
    assert ask(view).content == b"newold"


def test_known_groups_are_locked_with_those_of_the_view() -> None:
    held: list[tuple[str, ...]] = []
    view = in_page(during=lambda: held.append(runtime.manager().current()[0].reads))
    for _ in range(2):
        told(view)
    assert held == [("x",), ("notes/7", "x")]


def test_a_fragment_that_is_never_stored_itself() -> None:
    view = in_page('{% locked_cache 0 reads="notes/7" %}{{ side }}{% endlocked_cache %}')
    assert [told(view).rpartition("; ")[2] for _ in range(2)] == ['detail="fragments read notes/7"', "stored"]
    write("new")
    assert ask(view).content == b"oldnew"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_template_response(kind: str) -> None:
    page = made(SIDE)

    def answer(request: Any) -> TemplateResponse:
        runs.append("view")
        return TemplateResponse(request, page, {"side": look("side")})

    async def answer_async(request: Any) -> TemplateResponse:
        return answer(request)

    view = locked_cache(300, reads=["x"])(answer if kind == "sync" else answer_async)
    call = view if kind == "sync" else async_to_sync(view)
    for _ in range(2):
        ask(call)
    assert told(call).startswith("pooling; hit")
    write("new")
    assert ask(call).content == b"new"


def test_fragments_within_fragments() -> None:
    inner = '{% locked_cache 300 reads="notes/7" key="in" %}{{ side }}{% endlocked_cache %}'
    outer = '{% locked_cache 300 reads="y" key="out" %}{{ main }}' + inner + "{% endlocked_cache %}"
    page = made(outer)
    for _ in range(3):
        sightings.begin()
        page.render({"main": look("main"), "side": look("side")})
    assert runs == ["main", "side", "main", "side"]  # stored, although it does not name what the inner one reads
    view = in_page(outer)
    assert told(view).endswith("stored")
    write("new")
    assert ask(view).content == b"oldoldnew"
    assert told(view).startswith("pooling; hit")
    shelf["main"] = "new"
    invalidate("y")
    assert ask(view).content == b"newnewnew"


def test_a_page_in_a_page() -> None:
    inner = in_page()
    for _ in range(2):
        ask(inner, "/in")

    @locked_cache(300, reads=["x"])
    def outer(request: Any) -> HttpResponse:
        return HttpResponse(inner(RequestFactory().get("/in")).content)

    assert told(outer, "/out").endswith("stored")
    assert told(outer, "/out").startswith("pooling; hit")
    write("new")
    assert ask(outer, "/out").content == b"oldnew"


@pytest.mark.parametrize("kind", ["page", "kept page", "page with timeout 0", "locked"])
def test_what_is_read_by_what_the_view_calls(kind: str) -> None:
    decorate = (
        locked(reads=["notes/7"]) if kind == "locked" else locked_cache(0 if "0" in kind else 300, reads=["notes/7"])
    )

    @decorate
    def called(request: Any) -> HttpResponse:
        return HttpResponse(look("side")())

    @locked_cache(300, reads=["main"])
    def view(request: Any) -> HttpResponse:
        return HttpResponse(called(RequestFactory().get("/in")).content)

    if kind == "kept page":
        ask(called, "/in")  # which is stored, and brings the versions that it was made under
    else:
        assert told(view).endswith('detail="fragments read notes/7"')
    assert told(view).endswith("stored")
    assert told(view).startswith("pooling; hit")
    write("new")
    assert ask(view).content == b"new"


def test_an_old_page_brings_no_versions() -> None:
    def page(request: Any) -> HttpResponse:
        if runs:
            raise RuntimeError
        return HttpResponse("old")

    earlier, later = (locked_cache(300, reads=reads, stale_if_error=60)(page) for reads in (["x"], ["x", "y"]))
    for _ in range(2):
        ask(earlier)
    runs.append("fails")
    around = containers.Container(None)
    with containers.entered(around):
        assert ask(later).content == b"old"
    assert around.contents == {"x", "y"}
    assert around.vector(("x",)) is None


def test_answers_that_vary_have_fragments_of_their_own() -> None:
    page = made("{% if one %}" + SIDE + "{% endif %}")

    @locked_cache(300, reads=["x"])
    def view(request: Any) -> HttpResponse:
        context = {"one": request.headers["X-One"] == "1", "side": look("side")}
        return HttpResponse(page.render(context), headers={"Vary": "X-One"})

    for _ in range(2):
        ask(view, x_one="1")
    ask(view, x_one="0")
    write("new")
    assert "hit" in ask(view, x_one="0")["Cache-Status"]
    assert ask(view, x_one="1").content == b"new"


def test_a_browser_that_has_the_page_learns_of_the_write() -> None:
    view = in_page()
    ask(view)
    tag = ask(view)["ETag"]
    assert ask(view, if_none_match=tag).status_code == 304
    write("new")
    after = ask(view, if_none_match=tag)
    assert (after.status_code, after.content) == (200, b"oldnew")


def test_an_old_page_is_served_for_a_while_only_if_that_was_asked_for() -> None:
    warm_fragment()
    view = in_page(stale=60)
    told(view)
    with locked(writes=["notes/7"], atomic=False):  # nobody can make the next one meanwhile
        answer = elsewhere(lambda: ask(view))
        assert answer.content == b"oldold"
        assert 'detail="written"' in answer["Cache-Status"]
        shelf["side"] = "new"
    assert ask(view).content == b"oldnew"


def test_who_comes_meanwhile_waits_for_the_second_who_can_store_it() -> None:
    view = in_page()
    gate = threading.Barrier(8)

    def come() -> bytes:
        gate.wait(30)
        try:
            return bytes(ask(view).content)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert {one.result(30) for one in [pool.submit(come) for _ in range(8)]} == {b"oldold"}
    assert runs.count("view") <= 2


# -- what is forgotten, and what is too much


def test_what_was_learned_and_is_gone_is_learned_again() -> None:
    view = in_page()
    for _ in range(2):
        told(view)
    runtime.store().delete(view.key(RequestFactory().get("/")))
    runtime.bodies().start_over()
    write("new")
    assert [told(view) for _ in range(3)][1].endswith("stored")


def test_other_groups_each_time_make_nobody_wait() -> None:
    page = made("{% locked_cache 0 reads=group %}{{ side }}{% endlocked_cache %}")

    @locked_cache(300, reads=["x"])
    def view(request: Any) -> HttpResponse:
        runs.append("view")
        return HttpResponse(page.render({"group": f"notes/{len(runs)}", "side": "old"}))

    def mark() -> Any:
        return frame.decode(runtime.store().fetch(view.key(RequestFactory().get("/")), ()).entry)

    assert told(view).endswith('"fragments read notes/1"')
    assert mark().reads == ("notes/1",)  # the next one is to be stored: whoever comes waits for it
    assert told(view).endswith('"fragments read notes/2"')
    assert mark().reads == ()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_view_that_takes_locks_inside_goes_on_to_work_when_its_fragments_are_known(kind: str, caplog: Any) -> None:
    """Its fragments' groups, were they locked, would come after those that it asks for inside."""

    @locked(writes=["b"], atomic=False)
    def inside() -> None:
        runs.append("inside")

    page = made(SIDE)

    def answer(request: Any) -> HttpResponse:
        inside()
        return HttpResponse(page.render({"side": look("side")}, request))

    async def answer_later(request: Any) -> HttpResponse:
        return await sync_to_async(answer)(request)

    @locked_cache(300, reads=["a"])
    def sync_view(request: Any) -> HttpResponse:
        return answer(request)

    async_view = locked_cache(300, reads=["a"])(answer_later)
    view = sync_view if kind == "sync" else async_to_sync(async_view)

    for _ in range(2):
        assert ask(view).content == b"old"
    assert told(view).startswith("pooling; hit")  # the fragment was known by then
    for text in ("new", "newer"):
        write(text)
        assert ask(view).content == text.encode()
    assert caplog.text.count("made without the locks of the fragments") == 1


def test_what_is_asked_for_in_the_wrong_order_by_itself_is_an_error() -> None:
    @locked(reads=["a"], atomic=False)
    def inside() -> None: ...

    view = in_page(reads=["b"], during=lambda: inside() if runs.count("view") > 1 else None)
    ask(view)
    with pytest.raises(LockOrderError):
        ask(view)
    assert runs.count("view") == 3


def test_a_header_names_some_groups_only() -> None:
    view = in_page('{% locked_cache 300 reads="a" "b" "c" "d" "e" "f" "g" %}{{ side }}{% endlocked_cache %}')
    assert told(view).endswith('detail="fragments read a, b, c, d, e and 2 more"')
    assert told(view).endswith("stored")


def test_more_groups_than_one_request_may_have(caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "MAX_GROUPS", 2)
    view = in_page()
    for _ in range(3):
        assert 'detail="fragments read 1 groups, too many"' in told(view)
    assert caplog.text.count("because of the fragments in it") == 1


# -- a writer in between


def test_a_write_after_the_fragment_and_before_the_page_is_stored() -> None:
    warm_fragment()
    later = [lambda: elsewhere(lambda: write("new"))]
    view = in_page(during=lambda: later.pop()() if later else None)
    first = ask(view)
    assert (first.content, first["Cache-Status"]) == (b"oldold", 'pooling; fwd=uri-miss; detail="changed meanwhile"')
    assert ask(view).content == b"oldnew"
    assert ask(view).content == b"oldnew"


def test_a_write_round_the_lock_of_a_known_group() -> None:
    def round_it() -> None:
        shelf["side"] = "new"
        invalidate("notes/7")

    later: list[Any] = []
    view = in_page(during=lambda: later.pop()() if later else None)
    for _ in range(2):
        told(view)
    invalidate("x")
    later.append(lambda: elsewhere(round_it))
    assert ask(view).content == b"oldold"
    assert ask(view).content == b"oldnew"


def test_two_fragments_of_one_group_with_a_write_between_them() -> None:
    """The first one's text is older than the versions under which the second was found."""
    second = SIDE.replace('"side"', '"other"')
    warm_fragment()

    def change() -> str:
        def both() -> None:
            write("new")
            warm_fragment(second)

        if shelf["side"] == "old":
            elsewhere(both)
        return ""

    page = made(SIDE + "{{ change }}" + second)

    @locked_cache(300, reads=["x"])
    def view(request: Any) -> HttpResponse:
        return HttpResponse(page.render({"side": look("side"), "change": change}))

    assert ask(view).content == b"oldnew"
    for _ in range(3):
        assert ask(view).content == b"newnew"


def test_one_fragment_that_is_known_does_not_speak_for_another() -> None:
    """The second shows what the view has read before the write, the first is from the cache and newer."""
    page = made(SIDE + '{% locked_cache 0 reads="notes/7" %}{{ before }}{% endlocked_cache %}')

    @locked_cache(300, reads=["x"])
    def view(request: Any) -> HttpResponse:
        before = shelf["side"]
        if before == "old":
            elsewhere(lambda: (write("new"), warm_fragment()))
        return HttpResponse(page.render({"side": look("side"), "before": before}))

    assert ask(view).content == b"newold"
    assert ask(view).content == b"newnew"


def test_a_fragment_that_was_made_while_its_group_was_being_written_proves_nothing() -> None:
    """Its writer has renewed the versions and may die before it does so again."""
    view = in_page()
    with locked(writes=["notes/7"], atomic=False):
        for path in ("/1", "/2", "/3"):
            assert elsewhere(lambda path=path: told(view, path)).endswith('"fragments read notes/7"')  # type: ignore[misc]
