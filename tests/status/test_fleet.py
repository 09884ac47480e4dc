"""Several processes put together."""

from __future__ import annotations

import json
import os

import pytest
from django.core.management.color import no_style
from django.template.loader import render_to_string
from hypothesis import given
from hypothesis import strategies as st

from pooling import runtime
from pooling.cache.stats import CacheStats
from pooling.groups import Mode
from pooling.management import tables
from pooling.status import fleet, here, verdict
from pooling.status.publisher import PREFIX
from pooling.status.shown import shown
from pooling.store.memory import MemoryStore
from pooling.store.protocol import Party

from .documents import document, group, histogram, pool


def party(seconds: float, holding: bool, group: str = "shop", view: str = "shop.views.book") -> Party:
    return Party("t1", (("shop", Mode.IX), (group, Mode.X)), {"view": view, "pid": "7"}, seconds, holding)


class TellingStore(MemoryStore):
    """What others have announced is given; all else is real."""

    shared = True
    told: dict[str, bytes]

    def announced(self) -> dict[str, bytes]:
        return self.told


def beside(monkeypatch, *texts: bytes) -> fleet.Fleet:
    """This process beside others that have published this."""
    store = TellingStore()
    store.told = {f"{PREFIX}{number}": text for number, text in enumerate(texts)}
    monkeypatch.setattr(runtime, "store", lambda: store)
    return fleet.look()


def test_what_processes_counted_is_added_up():
    one = document(
        1,
        pools=[pool(busy=2, idle=3, size=5, waiting=1, wait=histogram(0.5, zeros=99))],
        groups=[group("shop", waits=(1.0,)), group("news")],
        cache={
            "views": [CacheStats("v", hits=3, misses=1, computed=1, compute_seconds=2.0).as_dict()],
            "near": {"entries": 0, "bytes": 0, "limit": 1},
        },
        history={"every": 5.0, "columns": list(here.COLUMNS), "rows": [[1] * 7, [2] * 7]},
    )
    other = document(
        2,
        pools=[pool(busy=1, idle=0, size=1, wait=histogram(2.0, 2.0)), pool("replica")],
        groups=[group("shop", waits=(3.0,)), group("cart", waits=(1.0,))],
        cache={
            "views": [
                CacheStats("v", hits=1, misses=3, computed=1, compute_seconds=2.0).as_dict(),
                CacheStats("w", misses=1).as_dict(),
            ],
            "near": {"entries": 0, "bytes": 0, "limit": 1},
        },
        history={"every": 5.0, "columns": list(here.COLUMNS), "rows": [[10] * 7]},
    )
    found = fleet.together([other, one], [])
    assert [one["process"]["pid"] for one in found.processes] == [1, 2]
    assert found.totals == {
        **{"processes": 2, "size": 11, "busy": 5, "idle": 6, "waiting": 1, "requests_num": 0, "requests_errors": 0},
        **{"hits": 4, "misses": 5, "hit_ratio": 4 / 9, "saved_seconds": 8.0},
    }
    assert [(one["group"], one["rank"], one["share"]) for one in found.groups] == [
        ("shop", 1, 0.8),
        ("cart", 2, 0.2),
        ("news", 3, 0.0),
    ]
    assert found.pool_wait["count"] == 102
    assert found.pool_wait["p50"] == 0
    assert found.pool_wait["max"] == 2.0
    assert [(view.view, view.hits) for view in found.views] == [("v", 4), ("w", 0)]
    assert found.history["rows"] == [[1] * 7, [12] * 7]  # the newest above the newest
    assert json.loads(json.dumps(found.as_dict()))["totals"]["size"] == 11


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[]",
        b"null",
        b"[" * 100_000,
        json.dumps({**document(), "process": {**document()["process"], "program": "\ud800"}}).encode(),
        json.dumps({**document(), "version": here.VERSION + 1}).encode(),
        json.dumps({**document(), "pools": [{}]}).encode(),
        json.dumps({**document(), "groups": [{**group("x"), "hold": {"buckets": {"999": 1}}}]}).encode(),
        json.dumps({**document(), "history": {"columns": [], "rows": []}}).encode(),
        json.dumps({**document(), "process": {"host": "h", "pid": "x", "id": "i"}}).encode(),
    ],
)
def test_what_is_no_document_of_this_version_is_a_stranger(text, monkeypatch):
    found = beside(monkeypatch, text, json.dumps(document(7)).encode())
    assert found.strangers == 1
    assert sorted(one["process"]["pid"] for one in found.processes) == sorted([7, os.getpid()])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(key=st.sampled_from([*document()]), value=JSON)
def test_no_document_makes_the_page_fail(key, value):
    with pytest.MonkeyPatch.context() as patch:
        found = beside(patch, json.dumps({**document(), key: value}).encode(), json.dumps(document(7)).encode())
    assert len(found.processes) + found.strangers == 3
    json.dumps(found.as_dict(), allow_nan=False)


HOLDER = {"thread": "t", "view": "v", "seconds": 2.0, "stack": ["views.py:1 in v"]}
RICH = document(
    pools=[pool(busy=8, size=8, idle=0, waiting=1, wait=histogram(0.5), holders=[HOLDER, HOLDER])],
    groups=[group("shop", waits=(1.0,))],
    cache={
        "views": [CacheStats("v", hits=3, misses=1, computed=1, not_stored={"cookie": 1}).as_dict()],
        "near": {"entries": 0, "bytes": 0, "limit": 1},
    },
    errors=[{"kind": "E", "level": "ERROR", "text": "t", "view": "v", "at": 1.0, "count": 1}],
    history={"every": 5.0, "columns": list(here.COLUMNS), "rows": [[1] * 7, [2] * 7]},
)


def places(node, path=()):
    """The paths to all that is in a document."""
    found = list(node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ())
    return [here for key, inner in found for here in [(*path, key), *places(inner, (*path, key))]]


def changed(path, value=None, *, remove=False):
    copied = json.loads(json.dumps(RICH))
    node = copied
    for key in path[:-1]:
        node = node[key]
    if remove:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return json.dumps(copied).encode()


def see(text):
    """Show this document of another process in all the ways there are."""
    with pytest.MonkeyPatch.context() as patch:
        found = beside(patch, text)
    assert len(found.processes) + found.strangers == 2
    tables.status(found.as_dict(), 80, no_style())
    tables.stats(found.as_dict(), 80, no_style(), top=9, sort="waited")
    render_to_string("pooling/status_state.html", shown(found))
    return found


@pytest.mark.parametrize("path", places(RICH), ids=lambda path: ".".join(map(str, path)))
def test_without_any_part_it_is_shown_or_a_stranger(path):
    see(changed(path, remove=True))
    see(changed(path, None))
    see(changed(path, {}))


@given(path=st.sampled_from(places(RICH)), value=JSON)
def test_no_part_of_a_document_makes_the_page_fail(path, value):
    see(changed(path, value))


def test_a_holder_of_another_form_is_a_strangers():
    assert see(json.dumps(RICH).encode()).strangers == 0
    for value in (None, [], {**HOLDER, "stack": "views.py"}, {**HOLDER, "seconds": "1"}, {"thread": "t"}):
        assert see(changed(("pools", 0, "holders", 1), value)).strangers == 1


def test_all_is_well():
    assert verdict.problems(fleet.together([document()], [party(1.0, True), party(1.0, False)])) == []


def test_what_somebody_should_see_to():
    holder = {"thread": "t", "view": "shop.views.slow", "seconds": 12.34, "stack": []}
    found = fleet.together(
        [
            document(
                1,
                pools=[
                    pool(busy=8, idle=0, size=8, waiting=3, holders=[holder]),
                    pool("replica", state="down", error="OperationalError: 2003, no route"),
                    pool("old", state="suspended", waiting=2),
                ],
            ),
            document(2, store={"kind": "redis", "shared": True, "state": "down", "error": "No answer."}),
        ],
        [party(31.0, True), party(11.0, False, view="")],
        strangers=1,
    )
    assert verdict.problems(found) == [
        "Process web:2:abc cannot reach the store: No answer.",
        "Pool 'default' of process web:1:abc: all 8 connections are in use, 3 wait; the longest is held for 12 s by "
        "shop.views.slow.",
        "Pool 'replica' of process web:1:abc cannot reach its server db:3306/shop: OperationalError: 2003, no route",
        "Pool 'old' of process web:1:abc is suspended, and 2 wait for it.",
        "shop.views.book in process 7 has held shop for 31 s.",
        "unnamed code in process 7 has waited for shop for 11 s.",
        "1 process says what this one cannot read. Is it another version of pooling?",
    ]


def test_without_a_store_there_is_this_process(settings):
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    found = fleet.look()
    assert "cannot keep locks" in found.store_error
    assert [one["process"]["id"] for one in found.processes] == [here.process_id()]
    assert verdict.problems(found)[0].startswith("The store cannot be asked: POOLING['CACHE_ALIAS']")
