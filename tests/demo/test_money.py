"""A group names the row that is written, however the number was spelled in the form."""

from __future__ import annotations

import re

import pytest

from demo_site.client import Visitor

from .site import balance, page
from .test_together import at_once


def account_of(visitor: Visitor, name: str) -> str:
    found = re.search(rf'<option value="(\d+)">{name}', page(visitor, "/transfer/"))
    assert found
    return found[1]


def test_one_account_under_two_spellings_is_one_group(alice: Visitor, bob: Visitor) -> None:
    to = account_of(alice, "Carol")
    for _ in range(25):
        statuses = at_once(
            lambda: alice.request("POST", "/transfer/", [("to", to), ("amount", "1")])[0],
            lambda: bob.request("POST", "/transfer/", [("to", f"0{to}"), ("amount", "1")])[0],
        )
        assert statuses == [302, 302]
    assert "The totals add up." in page(alice, "/report/")


@pytest.mark.parametrize("to", ["", "nobody", "999999999", "9" * 40, "-1", "accounts/1", "1 2"])
def test_a_target_that_is_none_is_refused(alice: Visitor, to: str) -> None:
    before = balance(alice)
    assert alice.request("POST", "/transfer/", [("to", to), ("amount", "1")])[0] == 400
    assert balance(alice) == before
