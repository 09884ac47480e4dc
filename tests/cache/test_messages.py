"""What is said of arguments that make no sense."""

from __future__ import annotations

from typing import Any

import pytest

from pooling import GroupError
from pooling.decorators import invalidate, locked_cache


def test_a_page_made_from_nothing_is_told_to_declare_reads() -> None:
    with pytest.raises(TypeError, match=r"reads=\['events'\]") as caught:
        locked_cache(300, reads=[])
    assert "writes" not in str(caught.value)


@pytest.mark.parametrize("groups", [["a"], ("a",), {"a"}])
def test_a_list_of_groups_is_told_to_be_unpacked(groups: Any) -> None:
    with pytest.raises(GroupError, match=r"invalidate\(\*groups\)"):
        invalidate(groups)


@pytest.mark.parametrize("using", [1, True, [7]])
def test_invalidate_with_something_else_than_aliases(using: Any) -> None:
    with pytest.raises(TypeError, match=r"invalidate\(using=…\) must be a database alias"):
        invalidate("a", using=using)
