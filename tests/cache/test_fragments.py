"""`{% locked_cache %}`: what is found is right, and what is not known to be right is not stored."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, User
from django.core.signals import request_started
from django.db import close_old_connections, connection, connections, transaction
from django.http import HttpResponse
from django.template import TemplateSyntaxError, engines
from django.test import RequestFactory
from django.utils import timezone, translation

from pooling import GroupError, invalidate, locked, locked_cache, runtime, sightings
from pooling.groups import read_epochs
from tests.app.models import Note

ran: list[object] = []


@pytest.fixture(autouse=True)
def clean() -> Any:
    ran.clear()
    sightings._seen.clear()
    token = sightings._began.set(None)
    yield
    sightings._began.reset(token)


def template(body: str, arguments: str = '300 reads="notes"') -> Any:
    text = "{% load pooling %}{% locked_cache " + arguments + " %}" + body + "{% endlocked_cache %}"
    return engines["django"].from_string(text)


def show(page: Any, request: Any = None, *, begin: bool = True, **context: Any) -> str:
    """Render as a request of its own."""
    if begin:
        sightings.begin()
    return str(page.render(context, request))


class Counting:
    """In a template: says what it is, and counts how often."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __str__(self) -> str:
        ran.append(self.value)
        return str(self.value)


def notes() -> str:
    ran.append("notes")
    return ";".join(Note.objects.order_by("pk").values_list("text", flat=True))


def stored(page: Any, request: Any = None, **context: Any) -> bool:
    """Is it found in the third request at the latest?"""
    for _ in range(2):
        show(page, request, **context)
    ran.clear()
    show(page, request, **context)
    return not ran


def get(user: Any = None, path: str = "/page", **extra: Any) -> Any:
    request = RequestFactory().get(path, **extra)
    request.user = AnonymousUser() if user is None else user
    request.session = {}  # type: ignore[assignment]
    return request


def elsewhere(work: Any) -> Any:
    """In another thread, with a connection of its own, to its end."""

    def run() -> Any:
        try:
            return work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result(30)


@locked(writes=["notes"])
def write(text: str) -> None:
    Note.objects.update(text=text)


@pytest.fixture
def repeatable_read(transactional_db: None) -> Any:
    settings = connections.settings["default"]
    before = settings["OPTIONS"]
    connection.close()
    settings["OPTIONS"] = connection.settings_dict["OPTIONS"] = {**before, "isolation_level": "repeatable read"}
    yield
    connection.close()
    settings["OPTIONS"] = connection.settings_dict["OPTIONS"] = before


# -- coherence


def test_it_is_stored_in_the_second_request_and_found_in_the_third() -> None:
    page = template("{{ value }}")
    assert [show(page, value=Counting(n)) for n in (1, 2, 3, 4)] == ["1", "2", "2", "2"]
    invalidate("notes/7")
    assert [show(page, value=Counting(n)) for n in (5, 6, 7)] == ["5", "6", "6"]


def test_django_tells_when_a_request_begins() -> None:
    page = template("{{ value }}")
    for n in (1, 2, 3):
        request_started.disconnect(close_old_connections)
        try:
            request_started.send(None)
        finally:
            request_started.connect(close_old_connections)
        show(page, begin=False, value=Counting(n))
    assert ran == [1, 2]


def test_without_a_request_nothing_is_stored() -> None:
    page = template("{{ value }}")
    assert [show(page, begin=False, value=Counting(n)) for n in (1, 2, 3)] == ["1", "2", "3"]


def test_what_was_read_before_a_write_is_not_stored_after_it() -> None:
    """The view reads, somebody writes, and only then the fragment is begun."""
    page = template("{{ value }}")
    show(page, value="old")
    sightings.begin()
    value = "old"  # read
    invalidate("notes")
    assert show(page, begin=False, value=value) == "old"  # looks
    assert show(page, begin=False, value=value) == "old"
    assert show(page, value="new") == "new"


def test_an_old_snapshot_is_not_stored(repeatable_read: None) -> None:
    Note.objects.create(text="old")
    page = template("{{ notes }}")
    assert show(page, notes=notes) == "old"
    sightings.begin()
    with transaction.atomic():
        notes()
        elsewhere(lambda: write("new"))
        assert show(page, begin=False, notes=notes) == "old"
        assert show(page, begin=False, notes=notes) == "old"
    assert show(page, notes=notes) == "new"
    assert show(page, notes=notes) == "new"


def test_a_page_hold_proves_it_at_once(repeatable_read: None) -> None:
    Note.objects.create(text="old")
    page = template("{{ notes }}")

    @locked_cache(300, reads=["notes"])
    def view(request: Any) -> HttpResponse:
        return HttpResponse(page.render({"notes": notes}, request))

    assert view(RequestFactory().get("/1"))["Cache-Status"].endswith("stored")
    assert view(RequestFactory().get("/2")).content == b"old"
    assert ran == ["notes"]  # the second page has the first one's fragment
    write("new")
    assert view(RequestFactory().get("/1")).content == b"new"
    assert view(RequestFactory().get("/2")).content == b"new"


def test_a_page_hold_whose_groups_were_renewed_round_the_lock_stores_nothing(repeatable_read: None) -> None:
    Note.objects.create(text="old")
    page = template("{{ notes }}")

    def round_it() -> None:
        Note.objects.update(text="new")
        invalidate("notes")

    @locked_cache(300, reads=["notes"])
    def view(request: Any) -> HttpResponse:
        with transaction.atomic():
            notes()
            if request.path == "/1":
                elsewhere(round_it)
            return HttpResponse(page.render({"notes": notes}, request))

    view(RequestFactory().get("/1"))
    assert view(RequestFactory().get("/2")).content == b"new"


def test_while_somebody_has_the_group_for_writing_its_versions_do_not_count() -> None:
    page = template("{{ value }}")

    def look() -> None:
        for _ in range(3):
            show(page, value="old")

    with locked(writes=["notes/7"], atomic=False):
        elsewhere(look)
        ran.clear()
        elsewhere(lambda: show(page, value=Counting("old")))
        assert ran == ["old"]
        assert read_epochs(["notes"]) not in sightings._seen


def test_a_rolled_back_transaction_stores_nothing(transactional_db: None) -> None:
    Note.objects.create(text="old")
    page = template("{{ notes }}")
    show(page, notes=notes)
    sightings.begin()
    with transaction.atomic():
        Note.objects.update(text="never")
        assert show(page, begin=False, notes=notes) == "never"
        transaction.set_rollback(True)
    assert show(page, notes=notes) == "old"


def test_a_request_that_begins_in_a_transaction_stores_nothing(transactional_db: None) -> None:
    page = template("{{ value }}")
    show(page, value="old")
    with transaction.atomic():
        show(page, value="old")
    assert show(page, value="new") == "new"


# -- what contains it


def in_page(reads: list[str], text: str) -> Any:
    page = engines["django"].from_string("{% load pooling %}" + text)

    @locked_cache(300, reads=reads)
    def view(request: Any) -> HttpResponse:
        return HttpResponse(page.render({"value": Counting(len(ran))}, request))

    return view


def test_a_page_that_declares_it_is_stored_and_dropped_with_it() -> None:
    view = in_page(["notes"], '{% locked_cache 300 reads="notes/7" %}{{ value }}{% endlocked_cache %}')
    get = RequestFactory().get
    assert view(get("/"))["Cache-Status"].endswith("stored")
    assert "hit" in view(get("/"))["Cache-Status"]
    invalidate("notes/7")
    assert view(get("/")).content == b"1"


def test_a_page_hears_of_what_a_fragment_in_its_fragment_reads() -> None:
    inner = '{% locked_cache 300 reads="notes" %}{{ value }}{% endlocked_cache %}'
    view = in_page(["x"], '{% locked_cache 300 reads="x" %}' + inner + "{% endlocked_cache %}")
    assert 'detail="fragments read notes"' in view(RequestFactory().get("/"))["Cache-Status"]


def test_a_page_is_kept_no_longer_than_its_fragments() -> None:
    view = in_page(["notes"], '{% locked_cache 20 reads="notes" %}{{ value }}{% endlocked_cache %}')
    view(RequestFactory().get("/"))
    status = view(RequestFactory().get("/"))["Cache-Status"]
    assert 0 < int(status.rpartition("ttl=")[2]) <= 20


@pytest.mark.parametrize("outer", ["notes", "x"])
def test_a_fragment_in_a_fragment(outer: str) -> None:
    inner = '{% locked_cache 300 reads="notes/7" %}{{ value }}{% endlocked_cache %}'
    page = template(inner + "{{ around }}", f'300 reads="{outer}"')
    for _ in range(3):
        show(page, value=Counting("in"), around=Counting("out"))
    ran.clear()
    show(page, value=Counting("in"), around=Counting("out"))
    assert ran == []
    invalidate("notes/7")
    show(page, value=Counting("in"), around=Counting("out"))
    assert "in" in ran


# -- what it depends on


def test_a_loop_needs_something_to_differ_by(caplog: Any) -> None:
    one = "{% locked_cache 300 reads='notes' ARGS %}{{ n }}{% endlocked_cache %}"
    tag = "{% load pooling %}{% for n in items %}" + one + "{% endfor %}"
    plain = engines["django"].from_string(tag.replace("ARGS", ""))
    varied = engines["django"].from_string(tag.replace("ARGS", "vary_on=n"))
    for _ in range(3):
        assert show(plain, items=[1, 2, 3]) == "123"
        assert show(varied, items=[1, 2, 3]) == "123"
    assert "stands in a loop" in caplog.text
    assert show(varied, items=[3, 1]) == "31"


@pytest.mark.parametrize(
    ("one", "other"),
    [(("ab", "c"), ("a", "bc")), (("1",), (1,)), (("",), (None,)), (("a\r\nb",), ("a\nb",)), (("x" * 10**6,), ("x",))],
)
def test_hostile_values_do_not_meet(one: Any, other: Any) -> None:
    page = template("{{ value }}", '300 reads="notes" vary_on=a b')
    for values, text in ((one, "one"), (other, "other")):
        a, b = (*values, None)[:2]
        for _ in range(3):
            assert show(page, value=text, a=a, b=b) == text


def test_a_placeholder_adds_no_level() -> None:
    page = template("{{ value }}", '300 reads="notes/{slug}" vary_on=slug')
    for _ in range(3):
        show(page, value="old", slug="a/b")
    invalidate("notes/a")
    assert show(page, value="new", slug="a/b") == "old"
    invalidate("notes/a%2Fb")
    assert show(page, value="new", slug="a/b") == "new"


def test_language_time_zone_and_escaping_are_in_the_key() -> None:
    page = template("{{ value }}")
    for language in ("en", "de"):
        with translation.override(language):
            for _ in range(3):
                assert show(page, value=language) == language
    for zone in ("UTC", "Asia/Tokyo"):
        with timezone.override(zone):
            for _ in range(3):
                show(page, value=zone)
            assert show(page, value="?") == zone
    escaped = engines["django"].from_string(
        "{% load pooling %}{% autoescape off %}{% locked_cache 9 reads='n' key='k' %}{{ v }}{% endlocked_cache %}"
        "{% endautoescape %}{% locked_cache 9 reads='n' key='k' %}{{ v }}{% endlocked_cache %}"
    )
    for _ in range(3):
        assert show(escaped, v="<b>") == "<b>&lt;b&gt;"


@pytest.mark.parametrize(
    "body",
    [
        "{{ user }}",
        "{{ request.user.username }}",
        "{% if user.is_authenticated %}x{% endif %}",
        "{% if perms.app.change_note %}x{% endif %}",
        "{% for m in messages %}{{ m }}{% endfor %}",
        "{% csrf_token %}",
        "{{ request.COOKIES.theme }}",
        "{{ request.session.name }}",
        "{{ request.META.REMOTE_ADDR }}",
        "{{ request.path }}",
        "{{ request.GET.q }}",
        "{{ request.build_absolute_uri }}",
        "{{ mine.username }}",
    ],
)
def test_what_is_of_the_visitor_is_not_stored(body: str, client: Any, caplog: Any, db: None) -> None:
    page = template(body + "{{ value }}")
    request = get(User(pk=1, username="ann"))
    request.COOKIES["theme"] = "dark"
    context = {"value": Counting("x"), "mine": request.user}
    assert not stored(page, request, **context)
    assert "touched" in caplog.text


@pytest.mark.parametrize(
    ("body", "vary_on"),
    [
        ("{{ user.username }}", "user.pk"),
        ("{{ user.username }}", "request.user.pk"),
        ("{{ request.COOKIES.theme }}", "request.COOKIES.theme"),
        ("{{ request.session.name }}", "request.session.name"),
        ("{{ request.path }}", "request.path"),
        ("{{ request.GET.q }}", "request.get_full_path"),
    ],
)
def test_what_vary_on_tells_apart_is_stored_for_each(body: str, vary_on: str) -> None:
    page = template(body + "{{ value }}", f'300 reads="notes" vary_on={vary_on}')
    for name in ("ann", "bob"):
        request = get(User(pk=len(name) + ord(name[0]), username=name), f"/{name}?q={name}")
        request.COOKIES["theme"] = request.session["name"] = name
        assert stored(page, request, value=Counting("x"))
        assert name in show(page, request, value="x")


def test_part_of_a_user_does_not_cover_the_user() -> None:
    page = template("{{ user.username }}{{ value }}", '300 reads="notes" vary_on=user.is_staff')
    assert not stored(page, get(User(pk=1, username="ann")), value=Counting("x"))


def test_a_page_learns_what_its_fragment_touched() -> None:
    page = template(
        "{{ request.COOKIES.theme }}{{ user.username }}", '300 reads="notes" vary_on=request.COOKIES.theme user.pk'
    )

    @locked_cache(300, reads=["notes"])
    def view(request: Any) -> HttpResponse:
        return HttpResponse(page.render({}, request))

    for _ in range(3):
        request = get(User(pk=1, username="ann"))
        assert 'detail="touched cookie:theme, user"' in view(request)["Cache-Status"]


def test_a_page_learns_what_a_fragment_touched_that_is_not_stored() -> None:
    page = template("{{ request.COOKIES.theme }}{{ request.path }}")

    @locked_cache(300, reads=["notes"])
    def view(request: Any) -> HttpResponse:
        return HttpResponse(page.render({}, request))

    assert view(get())["Cache-Status"].endswith('detail="touched cookie:theme"')


def test_an_inner_fragment_is_not_stored_for_what_the_outer_one_differs_by() -> None:
    inner = '{% locked_cache 300 reads="notes" %}{{ request.path }}{% endlocked_cache %}'
    page = template(inner, '300 reads="notes" vary_on=request.path')
    for path in ("/1", "/2"):
        for _ in range(3):
            assert show(page, get(path=path)) == path


def test_a_misspelt_name_in_vary_on_shares_nothing(caplog: Any) -> None:
    assert not stored(template("{{ value }}", '300 reads="notes" vary_on=usr.pk'), value=Counting("x"))
    assert "no 'usr'" in caplog.text


# -- the rest


def test_an_async_view() -> None:
    page = template("{{ value }}")

    @locked_cache(300, reads=["notes"])
    async def view(request: Any) -> HttpResponse:
        return HttpResponse(page.render({"value": Counting(request.path)}, request))

    for path in ("/1", "/2"):
        assert async_to_sync(view)(RequestFactory().get(path)).content == b"/1"
    assert ran == ["/1"]


def test_a_changed_text_is_another_fragment() -> None:
    assert stored(template("one {{ value }}", '300 reads="notes" key="k"'), value="x")
    assert show(template("two {{ value }}", '300 reads="notes" key="k"'), value="x") == "two x"


def test_a_fragment_that_is_too_large_or_has_no_time_or_no_groups_is_not_stored() -> None:
    assert not stored(template("{{ value }}" + "x" * (2 << 20)), value=Counting("x"))
    assert not stored(template("{{ value }}", '0 reads="notes"'), value=Counting("x"))
    assert not stored(template("{{ value }}", "300 reads=none"), value=Counting("x"), none=[])
    assert stored(template("{{ value }}", "None reads=some"), value=Counting("x"), some=["notes", "x"])


def test_what_is_in_the_store_is_text_and_a_broken_entry_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    page = template("{{ value }}")
    puts = []
    store = runtime.store()
    put = store.put
    monkeypatch.setattr(store, "put", lambda *args: (puts.append(args), put(*args))[1])
    assert stored(page, value="ü<")
    ((key, entry, ttl, names, vector),) = puts
    assert entry.endswith("ü&lt;".encode())
    put(key, entry[:-1], ttl, names, vector)
    assert show(page, value="again") == "again"


def test_switched_off_it_only_renders(settings: Any) -> None:
    settings.POOLING = {"ENABLED": False}
    assert not stored(template("{{ value }}"), value=Counting("x"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "timeout first"),
        ('reads="x"', "timeout first"),
        ("300", "needs reads="),
        ('300 "x"', 'Write reads="x"'),
        ('300 read="x"', "Did you mean reads="),
        ('300 reads="x" key="a" "b"', "one name"),
        ("300 reads= x", "no value"),
        ('"soon" reads="x"', "number of seconds"),
    ],
)
def test_what_is_no_such_tag(arguments: str, says: str) -> None:
    with pytest.raises(TemplateSyntaxError, match=says):
        template("", arguments)


def test_malformed_groups() -> None:
    with pytest.raises(GroupError, match="starts or ends"):
        template("", '300 reads="/x"')
    with pytest.raises(GroupError, match="no such variable"):
        show(template("", '300 reads="x/{pk}"'))
    with pytest.raises(GroupError, match="is None here"):
        show(template("", "300 reads=nothing"))
    with pytest.raises(GroupError, match="braces"):
        show(template("", "300 reads=bad"), bad=["{x}"])
