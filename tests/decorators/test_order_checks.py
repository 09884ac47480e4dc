"""What `manage.py check` says of locks inside transactions and of GROUP_ORDER, beside what the requests really do."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import clear_url_caches, get_resolver, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache

from pooling.decorators import locked, locked_cache
from pooling.errors import LockOrderError

Decorator = Callable[[Any], Any]
ANSWER = HttpResponse
LOCK = locked(writes=["a"])
CACHE = locked_cache(60, reads=["a"])


@pytest.fixture
def routes() -> Iterator[Callable[[Any], None]]:
    """Makes a view the only one of the site, at /it."""
    module = ModuleType("the_urls")
    settings = override_settings(ROOT_URLCONF=module, MIDDLEWARE=["pooling.middleware.BusyMiddleware"])

    def only(view: Any) -> None:
        module.urlpatterns = [path("it", view)]  # type: ignore[attr-defined]
        clear_url_caches()

    only(lambda request: ANSWER())
    with settings:
        yield only
    clear_url_caches()


def found() -> list[str]:
    gc.collect()
    return [str(message.id) for message in run_checks(tags=["pooling"])]


def fails() -> bool:
    """Does a request end in a LockOrderError?"""
    try:
        assert Client().get("/it").status_code == 200
    except LockOrderError:
        return True
    return False


def of_class(*decorators: Decorator) -> Any:
    """A class-based view whose get() has these decorators, the outermost first."""

    def get(self: Any, request: HttpRequest) -> HttpResponse:
        return ANSWER()

    handler: Any = get
    for decorator in reversed(decorators):
        handler = decorator(handler)
    return subclass(View, get=handler)


def subclass(parent: Any, **attributes: Any) -> Any:
    return type("It", (parent,), attributes)


def on_method(*decorators: Any) -> Decorator:
    return method_decorator(list(decorators) if len(decorators) > 1 else decorators[0])


def foreign(func: Any) -> Any:
    """A decorator of another library."""

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs)

    return wrapper


HANDLERS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "locked": (lambda: of_class(on_method(LOCK)).as_view(), ["E006"]),
    "locked_cache": (lambda: of_class(on_method(CACHE)).as_view(), ["E006"]),
    "among others": (lambda: of_class(on_method(never_cache, LOCK), foreign).as_view(), ["E006"]),
    "by name": (lambda: method_decorator(LOCK, name="get")(of_class()).as_view(), ["E006"]),
    "inherited": (lambda: subclass(of_class(on_method(LOCK))).as_view(), ["E006"]),
    "on the function": (lambda: of_class(LOCK).as_view(), ["E006"]),
    "foreign outside": (lambda: foreign(of_class(on_method(LOCK)).as_view()), ["E006"]),
    "no transaction": (lambda: of_class(on_method(locked(writes=["a"], atomic=False))).as_view(), []),
    "declined": (lambda: transaction.non_atomic_requests(of_class(on_method(LOCK)).as_view()), []),
    "dispatch": (lambda: method_decorator(LOCK, name="dispatch")(of_class()).as_view(), []),
    "dispatch and get": (lambda: method_decorator(LOCK, name="dispatch")(of_class(on_method(LOCK))).as_view(), []),
    "as_view": (lambda: LOCK(of_class().as_view()), []),
    "as_view around get": (lambda: LOCK(of_class(on_method(LOCK)).as_view()), []),
    "function": (lambda: LOCK(lambda request: ANSWER()), []),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", HANDLERS)
def test_a_lock_on_a_handler_under_atomic_requests(
    name: str, routes: Callable[[Any], None], atomic_requests: None
) -> None:
    make, wanted = HANDLERS[name]
    routes(make())
    assert found() == [f"pooling.{number}" for number in wanted]
    assert fails() is bool(wanted)


def test_a_handler_that_no_request_reaches_is_not_reported(
    routes: Callable[[Any], None], atomic_requests: None
) -> None:
    routes(of_class(on_method(LOCK)).as_view(http_method_names=["post"]))
    assert found() == []


@pytest.mark.django_db(transaction=True)
def test_a_lock_on_a_handler_without_atomic_requests(routes: Callable[[Any], None]) -> None:
    routes(of_class(on_method(LOCK)).as_view())
    assert found() == []
    assert not fails()


@pytest.mark.django_db(transaction=True)
def test_an_asynchronous_handler(routes: Callable[[Any], None], atomic_requests: None) -> None:
    """Django refuses ATOMIC_REQUESTS around an async view itself, before any lock is asked for."""

    async def get(self: Any, request: HttpRequest) -> HttpResponse:
        return ANSWER()

    routes(subclass(View, get=method_decorator(LOCK)(get)).as_view())
    gc.collect()
    (message,) = run_checks(tags=["pooling"])
    assert message.id == "pooling.E006"
    assert "RuntimeError of Django" in message.msg
    assert "name='dispatch'" in str(message.hint)
    assert "atomic=False" not in str(message.hint)
    with pytest.raises(RuntimeError, match="ATOMIC_REQUESTS"):
        Client().get("/it")
    routes(method_decorator(LOCK, name="dispatch")(subclass(View, get=get)).as_view())
    assert found() == []
    assert not fails()


def test_what_is_no_pattern_is_left_to_the_check_of_django(routes: Callable[[Any], None]) -> None:
    routes(of_class(on_method(ATOMIC, LOCK)).as_view())
    get_resolver().url_patterns.append("about/")  # type: ignore[arg-type]
    assert found() == ["pooling.E007"]
    assert "urls.E004" in [message.id for message in run_checks(tags=["urls"])]


def test_a_urlconf_that_cannot_be_imported_says_so(routes: Callable[[Any], None]) -> None:
    with override_settings(ROOT_URLCONF="there.is.none"), pytest.raises(ModuleNotFoundError, match="'there'"):
        found()


def function(*decorators: Decorator) -> Any:
    def view(request: HttpRequest) -> HttpResponse:
        return ANSWER()

    result: Any = view
    for decorator in reversed(decorators):
        result = decorator(result)
    return result


ATOMIC = transaction.atomic
OUTSIDE: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "outside": (lambda: function(ATOMIC, LOCK), ["E007"]),
    "with arguments": (lambda: function(ATOMIC(using="default", savepoint=False), LOCK), ["E007"]),
    "cached": (lambda: function(ATOMIC, CACHE), ["E007"]),
    "foreign between": (lambda: function(never_cache, ATOMIC, foreign, LOCK), ["E007"]),
    "around as_view": (lambda: ATOMIC(LOCK(of_class().as_view())), ["E007"]),
    "around as_view, on dispatch": (
        lambda: ATOMIC(method_decorator(LOCK, name="dispatch")(of_class()).as_view()),
        ["E007"],
    ),
    "list of a method": (lambda: of_class(on_method(ATOMIC, LOCK)).as_view(), ["E007"]),
    "list of a method, other way": (lambda: of_class(on_method(LOCK, ATOMIC)).as_view(), []),
    "two of a method": (lambda: of_class(on_method(ATOMIC), on_method(LOCK)).as_view(), ["E007"]),
    "list of dispatch": (lambda: method_decorator([ATOMIC, LOCK], name="dispatch")(of_class()).as_view(), ["E007"]),
    "inside": (lambda: function(LOCK, ATOMIC), []),
    "between two locks": (lambda: function(LOCK, ATOMIC, LOCK), []),
    "no transaction": (lambda: function(ATOMIC, locked(writes=["a"], atomic=False)), []),
    "in a partial": (lambda: functools.partial(function(ATOMIC, LOCK)), ["E007"]),
    "other context managers": (lambda: function(override_settings(X=1), LOCK), []),
    "around dispatch, lock on get": (lambda: around_dispatch(ATOMIC, of_class(on_method(LOCK))).as_view(), ["E007"]),
    "around dispatch, cache on get": (lambda: around_dispatch(ATOMIC, of_class(on_method(CACHE))).as_view(), ["E007"]),
    "around as_view, lock on get": (lambda: ATOMIC(of_class(on_method(LOCK)).as_view()), ["E007"]),
    "around dispatch, plain lock on get": (lambda: around_dispatch(ATOMIC, of_class(LOCK)).as_view(), ["E007"]),
    "around dispatch, in lock": (
        lambda: LOCK(around_dispatch(ATOMIC, of_class(on_method(LOCK))).as_view()),
        [],
    ),
    "around dispatch, lock of dispatch between": (
        lambda: around_dispatch(ATOMIC, around_dispatch(LOCK, of_class(on_method(LOCK)))).as_view(),
        ["E007"],
    ),
    "around dispatch, again on get": (
        lambda: around_dispatch(ATOMIC, of_class(on_method(ATOMIC, LOCK))).as_view(),
        ["E007"],
    ),
    "around dispatch, no transaction": (
        lambda: around_dispatch(ATOMIC, of_class(on_method(locked(writes=["a"], atomic=False)))).as_view(),
        [],
    ),
}


def around_dispatch(decorator: Any, view_class: Any) -> Any:
    return method_decorator(decorator, name="dispatch")(view_class)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_transaction_outside_the_lock(name: str, routes: Callable[[Any], None]) -> None:
    make, wanted = OUTSIDE[name]
    routes(make())
    assert found() == [f"pooling.{number}" for number in wanted]
    assert fails() is bool(wanted)


def test_a_transaction_around_a_coroutine_function_ends_before_it_begins(routes: Callable[[Any], None]) -> None:
    async def view(request: HttpRequest) -> HttpResponse:
        return ANSWER()

    routes(transaction.atomic(locked(writes=["a"])(view)))
    assert found() == []


def test_a_class_based_view_is_called_by_its_class(routes: Callable[[Any], None]) -> None:
    routes(ATOMIC(LOCK(of_class().as_view())))
    gc.collect()
    (message,) = run_checks(tags=["pooling"])
    assert message.obj == f"{__name__}.It"
    assert message.msg.startswith(f"locked() of {__name__}.It is inside transaction.atomic() on 'default'")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("lock", ["get", "dispatch"])
def test_a_transaction_around_an_asynchronous_dispatch_ends_before_the_handler_begins(
    lock: str, routes: Callable[[Any], None]
) -> None:
    async def get(self: Any, request: HttpRequest) -> HttpResponse:
        return ANSWER()

    routes(around_dispatch(ATOMIC, method_decorator(LOCK, name=lock)(subclass(View, get=get))).as_view())
    assert found() == []
    assert not fails()


@pytest.mark.django_db(transaction=True)
def test_a_plain_function_of_a_module(routes: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch) -> None:
    def job() -> None: ...

    job.__qualname__ = "job"
    inner = LOCK(job)
    outer = transaction.atomic(inner)
    assert found() == []  # nobody can tell that there is anything around it
    monkeypatch.setitem(globals(), "job", outer)
    assert found() == ["pooling.W010"]
    with pytest.raises(LockOrderError):
        outer()
    with LOCK:
        outer()  # so it is no error


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        (["evnets"], ["pooling.W007"]),
        (["events"], []),
        (["zebras"], []),  # of a `with`, maybe
        (["events", "event"], []),  # both may be meant
    ],
)
def test_a_misspelled_rank(order: list[str], wanted: list[str], routes: Callable[[Any], None]) -> None:
    view = locked(reads=["events/{pk}"])(lambda request, pk: ANSWER())
    with override_settings(POOLING={"GROUP_ORDER": order}):
        assert found() == wanted
        if wanted:
            (message,) = run_checks(tags=["pooling"])
            assert "'events'" in str(message.hint)
    del view


def test_nothing_is_said_while_pooling_is_off(routes: Callable[[Any], None], atomic_requests: None) -> None:
    routes(of_class(on_method(ATOMIC, LOCK)).as_view())
    assert sorted(set(found())) == ["pooling.E006", "pooling.E007"]
    with override_settings(POOLING={"ENABLED": False}):
        assert found() == []
    assert connection.settings_dict["ATOMIC_REQUESTS"]
