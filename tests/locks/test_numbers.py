"""Seconds are judged alike wherever they are given; each place keeps its own type of error."""

from __future__ import annotations

import math

import pytest
from django.core.exceptions import ImproperlyConfigured

from pooling import _numbers, conf
from pooling.locks import Options
from pooling.pool import PoolOptions

NO_NUMBERS = [True, "3", None, [1]]
OUT_OF_RANGE = [-1, math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_no_number(value):
    words = f"must be a number of seconds, not {value!r}."
    for make, error in ((_lease, TypeError), (_setting, ImproperlyConfigured), (_pool, ValueError)):
        with pytest.raises(error) as caught:
            make(value)
        assert type(caught.value) is error
        assert str(caught.value).endswith(words)


@pytest.mark.parametrize("value", [0, *OUT_OF_RANGE])
def test_a_number_that_cannot_be_meant(value):
    words = f"must be a finite number of seconds, more than 0, not {value!r}."
    for make, error in ((_lease, ValueError), (_setting, ImproperlyConfigured), (_pool, ValueError)):
        with pytest.raises(error) as caught:
            make(value)
        assert type(caught.value) is error
        assert str(caught.value).endswith(words)


def test_zero_where_it_may_be():
    assert _numbers.seconds("wait", 0, zero=True) == 0.0
    assert conf.seconds("wait", 0, zero=True) == 0.0
    with pytest.raises(ImproperlyConfigured, match="at least 0, not -1"):
        conf.seconds("wait", -1, zero=True)
    with pytest.raises(ValueError, match="at least 0, not -1"):
        Options(wait=-1)


def _lease(value):
    return Options(lease=value)


def _setting(value):
    return conf.parse({"LOCK_LEASE": value})


def _pool(value):
    return PoolOptions.parse({"timeout": value})
