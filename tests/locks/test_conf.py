"""The ``POOLING`` setting."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from pooling import conf
from pooling.conf import Settings, parse

TEXTS = ["CACHE_ALIAS", "KEY_PREFIX"]
SECONDS = ["LOCK_WAIT", "LOCK_LEASE", "STORE_BUDGET", "NEAR_HEARTBEAT"]
FLAGS = ["FENCE", "ETAGS", "ENABLED"]

BAD = [
    *((key, value) for key in TEXTS for value in ("", None, 7, ["default"])),
    *((key, value) for key in SECONDS for value in (0, -1, math.nan, math.inf, 1e10, "5", None, True)),
    *(("LOCK_LEASE", value) for value in (0.01, 0.999)),
    *(("PUBLISH_SECONDS", value) for value in (-1, math.nan, math.inf, "5", None, True)),
    *((key, value) for key in FLAGS for value in (1, 0, "yes", None)),
    *(
        (key, value)
        for key in ("ENTRY_BYTES", "NEAR_CACHE_BYTES")
        for value in (-1, 1.5, "64 MiB", True, None, math.nan)
    ),
    *(("ON_STORE_DOWN", value) for value in ("wait", "", None, True)),
    *(("ORDER_LEARNING", value) for value in (True, 0, "", "warn", 1, ["log"])),
    *(("GROUP_ORDER", value) for value in ("catalog", 7, None, [7], ["a/b"], ["a", "b", "a"], [""], ["a//b"], ["a\n"])),
    *(("GROUPS", value) for value in ([], "a", None, {"": []}, {"a/": []}, {7: []}, {"a": "shop.Book"}, {"a": [7]})),
]


@pytest.mark.parametrize(("key", "value"), BAD)
def test_each_bad_value_is_refused_naming_its_key(key, value):
    with pytest.raises(ImproperlyConfigured) as caught:
        parse({key: value})
    assert f"POOLING['{key}']" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"GROUP_ORDER": ["a", 1]}, "POOLING['GROUP_ORDER'][1] must be a non-empty string, not 1."),
        ({"GROUP_ORDER": "a"}, "POOLING['GROUP_ORDER'] must be a list: ['a']."),
        ({"GROUPS": {"a": "shop.Book"}}, "POOLING['GROUPS']['a'] must be a list: ['shop.Book']."),
        ({"GROUPS": {"a": ["shop.Book", ""]}}, "POOLING['GROUPS']['a'][1] must be a non-empty string, not ''."),
        ({"KEY_PREFIX": ""}, "POOLING['KEY_PREFIX'] must be a non-empty string, not ''."),
    ],
)
def test_the_words_for_lists(given, words):
    with pytest.raises(ImproperlyConfigured) as caught:
        parse(given)
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("key", "near"),
    [("LOCK_WIAT", "LOCK_WAIT"), ("lock_lease", "LOCK_LEASE"), ("CACHE", "CACHE_ALIAS"), ("GROUP_ODER", "GROUP_ORDER")],
)
def test_an_unknown_key_names_the_nearest(key, near):
    with pytest.raises(ImproperlyConfigured, match=f"no key '{key}'. Did you mean '{near}'"):
        parse({key: 1})


@pytest.mark.parametrize("key", ["", "???", 7, None])
def test_a_key_that_resembles_nothing(key):
    with pytest.raises(ImproperlyConfigured, match=r"It knows CACHE_ALIAS, .*; .* comes nearest"):
        parse({key: 1})


@pytest.mark.parametrize("raw", [[], "x", None, 7])
def test_something_else_than_a_dict(raw):
    with pytest.raises(ImproperlyConfigured, match="must be a dict"):
        parse(raw)


def test_every_key_is_validated():
    assert {field.name for field in dataclasses.fields(Settings)} == set(conf._VALIDATORS)
    assert {key for key, _ in BAD} == set(conf._VALIDATORS)


def test_defaults_are_valid_and_frozen():
    made = parse({})
    assert made == Settings()
    assert parse(dataclasses.asdict(made)) == made
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.LOCK_WAIT = 3


def test_good_values():
    made = parse(
        {
            "GROUP_ORDER": ["events", "accounts"],
            "GROUPS": {"events": ["shop.Event", "shop.Seat"]},
            "LOCK_WAIT": 3,
            "NEAR_CACHE_BYTES": 0,
            "ON_STORE_DOWN": "fence",
        }
    )
    assert made.ranks == {"events": 0, "accounts": 1}
    assert made.GROUPS == {"events": ("shop.Event", "shop.Seat")}
    assert made.LOCK_WAIT == 3.0
    assert isinstance(made.LOCK_WAIT, float)


def test_an_order_with_an_inner_group_says_what_to_write():
    with pytest.raises(ImproperlyConfigured, match="write 'a' instead of 'a/b'"):
        parse({"GROUP_ORDER": ["a/b"]})


def test_settings_are_read_lazily_and_again_after_a_change(monkeypatch):
    project = SimpleNamespace(POOLING={"LOCK_WAIT": 1})
    monkeypatch.setattr(conf, "django_settings", project)
    monkeypatch.setattr(conf, "_current", None)
    assert conf.settings().LOCK_WAIT == 1
    project.POOLING = {"LOCK_WAIT": 2}
    assert conf.settings() is conf.settings()
    assert conf.settings().LOCK_WAIT == 1
    setting_changed.send(sender=None, setting="OTHER", value=None, enter=True)
    assert conf.settings().LOCK_WAIT == 1
    setting_changed.send(sender=None, setting="POOLING", value=project.POOLING, enter=True)
    assert conf.settings().LOCK_WAIT == 2
    del project.POOLING
    setting_changed.send(sender=None, setting="POOLING", value=None, enter=False)
    assert conf.settings() == Settings()
