"""Which parameters of the query tell pages apart, and the query as the view sees it while it makes a page for all.

Parameters that do not count are taken out of it, also out of ``get_full_path()``: what a page shows of its query is
then the same for all who share it. A view that asks for one by name gets it, but its page is not stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from django.http import QueryDict

KEEP, IGNORE = "query:", "-query:"


@dataclass(frozen=True)
class Selection:
    """Names, or beginnings of names with ``*`` behind them: those that count, or those that do not."""

    names: frozenset[str]
    beginnings: tuple[str, ...]
    ignored: bool

    @classmethod
    def parse(cls, items: Iterable[str]) -> Selection | None:
        """From items of ``vary_on``; None if none is about the query. ValueError for both kinds together."""
        kept = [item.removeprefix(KEEP) for item in items if item.startswith(KEEP)]
        ignored = [item.removeprefix(IGNORE) for item in items if item.startswith(IGNORE)]
        if kept and ignored:
            raise ValueError(
                f"vary_on has both {KEEP + kept[0]!r} and {IGNORE + ignored[0]!r}. Name the parameters that count, "
                f"then all others are ignored; or name those to ignore, then all others count."
            )
        if not kept and not ignored:
            return None
        names = kept or ignored
        return cls(
            frozenset(name for name in names if not name.endswith("*")),
            tuple(name[:-1] for name in names if name.endswith("*")),
            bool(ignored),
        )

    def counts(self, name: object) -> bool:
        listed = name in self.names or (isinstance(name, str) and name.startswith(self.beginnings))
        return listed != self.ignored

    def text(self, request: Any) -> str:
        """The parameters that count, as a query string: sorted by name, the values of one name as they came."""
        pairs = sorted((name, values) for name, values in request.GET.lists() if self.counts(name))
        kept = QueryDict(mutable=True, encoding=request.GET.encoding)
        for name, values in pairs:
            kept.setlist(name, values)
        return kept.urlencode()


def check(item: str) -> str:
    """``item``, if it names a parameter; ValueError."""
    name = item.partition(":")[2]
    if not name or "*" in name[:-1]:
        raise ValueError(f"vary_on: {item!r} names no parameter. Write for instance '{KEEP}page' or '{IGNORE}utm_*'.")
    return item


class Kept(QueryDict):
    """``request.GET`` of a page for all."""

    def __init__(self, text: str, whole: QueryDict, selection: Selection, note: Callable[[str], None]) -> None:
        self._whole = whole
        self._selection = selection
        self._note = note
        super().__init__(text, encoding=whole.encoding)

    def _ignored(self, name: object) -> bool:
        if self._selection.counts(name):
            return False
        self._note(f"{KEEP}{name}")
        return True

    def __getitem__(self, name: str) -> Any:
        return self._whole[name] if self._ignored(name) else super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        return name in self._whole if self._ignored(name) else super().__contains__(name)

    def getlist(self, name: str, default: Any = None) -> Any:
        return self._whole.getlist(name, default) if self._ignored(name) else super().getlist(name, default)

    def __copy__(self) -> QueryDict:  # type: ignore[override]
        return self.copy()

    def __deepcopy__(self, memo: Any) -> QueryDict:  # type: ignore[override]
        return self.copy()

    def copy(self) -> QueryDict:  # type: ignore[override]
        return QueryDict(self.urlencode(), mutable=True, encoding=self.encoding)
