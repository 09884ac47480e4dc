"""What `manage.py check` says of holds inside holds, beside what the calls really do."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import re
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import get_resolver, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache

from pooling.decorators import locked, locked_cache
from pooling.errors import LockOrderError
from pooling.nesting_checks import called

from .test_order_checks import foreign, function, of_class, on_method, routes, subclass

__all__ = ["routes"]

Routes = Callable[[Any], None]


def messages() -> list[CheckMessage]:
    gc.collect()
    return run_checks(tags=["pooling"])


def found() -> list[str]:
    return [str(message.id) for message in messages()]


# -- decorators around decorators


def lock(*writes: str, reads: Any = (), **options: Any) -> Any:
    return locked(reads=reads, writes=writes, **options)


def cache(*reads: str, **options: Any) -> Any:
    return locked_cache(60, reads=reads, **options)


def some_groups(request: HttpRequest) -> list[str]:
    return ["b", "a"]


STACKS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "backwards": (lambda: function(lock("b"), lock("a")), ["E008"]),
    "forwards": (lambda: function(lock("a"), lock("b")), []),
    "covered": (lambda: function(lock("a"), lock("a/b")), []),
    "grows": (lambda: function(lock(reads=["a"]), lock("a")), ["E008"]),
    "grows above": (lambda: function(lock("a/b"), lock("a")), ["E008"]),
    "far apart": (lambda: function(lock("b"), lock("c"), lock("a")), ["E008"]),
    "others between": (lambda: function(never_cache, lock("b"), foreign, lock("a")), ["E008"]),
    "a callable outside": (lambda: function(locked(writes=["b", some_groups]), lock("a")), []),
    "a callable inside": (lambda: function(lock("b"), locked(reads=[lambda request: []], writes=["a"])), ["E008"]),
    "write below a page": (lambda: function(cache("b"), lock("a")), ["E008"]),
    "write what the page reads": (lambda: function(cache("a"), lock("a")), ["E008"]),
    "later than the page": (lambda: function(cache("a"), lock("b")), []),
    "dispatch and get": (
        lambda: method_decorator(lock("b"), name="dispatch")(of_class(on_method(lock("a")))).as_view(),
        ["E008"],
    ),
    "as_view and get": (lambda: lock("b")(of_class(on_method(lock("a"))).as_view()), ["E008"]),
    "written for other methods only": (
        lambda: function(locked_cache(60, reads=["a"], writes=["c"]), lock("b")),
        [],
    ),
    "covered for other methods": (lambda: function(locked_cache(60, reads=["b"], writes=["a"]), lock("a")), []),
    "page in a hold": (lambda: function(lock(reads=["a"]), cache("a")), ["W008"]),
    "page in a hold, backwards": (lambda: function(lock("b"), cache("a")), ["E008", "W008"]),
    "page in the hold of dispatch": (
        lambda: method_decorator(lock(reads=["a"]), name="dispatch")(of_class(on_method(cache("b")))).as_view(),
        ["W008"],
    ),
    "hold in a page": (lambda: function(cache("a"), lock(reads=["a"])), []),
    "page in a page": (lambda: function(cache("a"), cache("b")), []),
}


UNDECIDED = ("a callable outside", "covered for other methods")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", STACKS)
def test_decorators_around_decorators(name: str, routes: Routes) -> None:
    make, wanted = STACKS[name]
    routes(make())
    assert sorted(found()) == [f"pooling.{number}" for number in wanted]
    if "E008" in wanted:
        with pytest.raises(LockOrderError):
            Client().get("/it")
        return
    with contextlib.suppress(LockOrderError) if name in UNDECIDED else contextlib.nullcontext():
        Client().get("/it")
        if "W008" in wanted:
            assert "hit" not in Client().get("/it").headers["Cache-Status"]


def test_one_argument_is_the_same_in_both(routes: Routes) -> None:
    def make(*between: Any) -> Any:
        def view(request: HttpRequest, pk: str) -> HttpResponse:
            return HttpResponse()

        for decorator in (lock("a/{pk}"), *between, lock(reads=["a/{pk}"])):
            view = decorator(view)
        return view

    routes(make())
    (message,) = messages()
    assert message.id == "pooling.E008"
    assert "asks to write 'a/{pk}' while 'a/{pk}' is held, which is a lock that cannot grow" in message.msg
    assert "writes=['a/{pk}']" in str(message.hint)
    routes(make(transaction.atomic))
    assert found() == ["pooling.E008"]
    routes(make(foreign))  # which may have changed it
    assert found() == []


def test_group_order_decides(routes: Routes) -> None:
    routes(function(lock("b/1"), lock("a")))
    (message,) = messages()
    assert "put 'a' before 'b' in POOLING['GROUP_ORDER']" in str(message.hint)
    with override_settings(POOLING={"GROUP_ORDER": ["b", "a"]}):
        assert found() == []
    with override_settings(POOLING={"ENABLED": False}):
        assert found() == []


def test_a_view_that_is_there_twice_is_reported_once(routes: Routes) -> None:
    parent = of_class(on_method(lock("b")), on_method(lock("a")))
    routes(parent.as_view())
    one, other = subclass(parent).as_view(), subclass(parent).as_view()
    get_resolver().url_patterns.extend([path("one", one), path("other", other)])
    assert found() == ["pooling.E008"]


# -- calls


@pytest.fixture
def module(routes: Routes) -> Iterator[Callable[..., Any]]:
    """Functions of a module: `define(source)` executes it, with `locked`, `view` and so on, and returns its names."""
    kept: list[Any] = []

    def define(source: str) -> dict[str, Any]:
        names = {"locked": locked, "locked_cache": locked_cache, "functools": functools, "asyncio": asyncio}
        names |= {"__name__": "a_module", "foreign": foreign, "HttpResponse": HttpResponse, "View": View}
        exec(compile(source, "a_module.py", "exec"), names)
        kept.append(names)
        return names

    yield define
    kept.clear()


CALLEE = """
@locked(writes=["a"], atomic=False)
def first(*args): return 1

@locked(writes=["a"], atomic=False)
async def first_async(*args): return 1

@locked(writes=["c"], atomic=False)
def third(*args): return 1
"""
OUTER = '@locked(writes=["b"], atomic=False)\n'
CALLS = {
    "called": (OUTER + "def f(): return first()", True),
    "with arguments": (OUTER + "def f(): return first(1, *(2, 3))", True),
    "in a branch": (OUTER + "def f():\n    if f:\n        return 1 + first(\n            1)", True),
    "under others": (OUTER + "@foreign\ndef f(): return first()", True),
    "awaited": (OUTER + "async def f(): return await first_async()", True),
    "awaited with arguments": (OUTER + "async def f(): return await first_async(1, *(2, 3))", True),
    "later in the order": (OUTER + "def f(): return third()", False),
    "covered": ('@locked(writes=["b", "a"], atomic=False)\ndef f(): return first()', False),
    "not awaited": (OUTER + "async def f(): return first_async().close()", False),
    "not called": (OUTER + "def f(): return first", False),
    "handed over": (OUTER + "def f(): return bool(first)", False),
    "in a function of its own": (OUTER + "def f(): return lambda: first()", False),
    "a name of its own": (OUTER + "def f(first=len): return first(())", False),
    "outside a hold": ("def f(): return first()", False),
    "a callable around": (
        '@locked(writes=["b", lambda: ["a"]], atomic=False)\ndef f(): return first()',
        False,
    ),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", CALLS)
def test_calls_of_decorated_functions(name: str, module: Callable[..., Any]) -> None:
    source, wanted = CALLS[name]
    names = module(CALLEE + source)
    assert found() == ["pooling.W009"] * wanted

    def run() -> None:
        result = names["f"]()
        if asyncio.iscoroutine(result):
            asyncio.run(result)

    if wanted:
        with pytest.raises(LockOrderError):
            run()
    else:
        run()


def test_a_call_is_told_with_its_line(module: Callable[..., Any]) -> None:
    names = module(CALLEE + OUTER + "def f():\n    pass\n    return first()")
    (message,) = messages()
    line = names["f"].__wrapped__.__code__.co_firstlineno + 3
    assert re.search(rf"a_module\.f calls a_module\.first in line {line}, which asks to write 'a'", message.msg)
    assert "writes=['a'] in the decorator of a_module.f" in str(message.hint)


def test_a_handler_calls_inside_the_hold_of_its_class(module: Callable[..., Any], routes: Routes) -> None:
    names = module(CALLEE + "class It(View):\n    def get(self, request): return HttpResponse(first())")
    routes(method_decorator(lock("b", atomic=False), name="dispatch")(names["It"]).as_view())
    assert found() == ["pooling.W009"]
    with pytest.raises(LockOrderError):
        Client().get("/it")


def test_calls_are_told_from_other_uses() -> None:
    def body() -> Any:
        one(two, three.four(), [five() for _ in six()])  # type: ignore[name-defined]  # noqa: F821
        with seven() as eight:  # type: ignore[name-defined]  # noqa: F821
            eight()
        return nine

    nine = 9
    assert isinstance(body, FunctionType)
    names = [name for name, _, _ in called(body.__code__)]
    assert {"one", "six", "seven"} <= set(names)
    assert not {"two", "three", "four", "eight", "nine"} & set(names)
