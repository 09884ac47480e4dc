"""Group paths, lock modes and the canonical order. Pure: no Django, no I/O, no state.

A group is a path such as ``catalog/books/42``. A reader of a group shares it, a writer has it alone, and either
announces its intention on every ancestor, so that a group may be as fine as a row or as coarse as a table, mixed
at will. The five modes and their compatibility are those of Gray, Lorie, Putzolu and Traiger, "Granularity of
Locks and Degrees of Consistency in a Shared Data Base" (1976).
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import GroupError

MAX_BYTES = 191  # the longest utf8mb4 column that every supported server can index
# Groups of one request, those above them counted: more would keep the store from everybody else for too long. 4,000
# take Redis some 15 ms, and more on a busy machine; there 12,000 took longer than one call may, and Redis was taken for
# down.
MAX_GROUPS = 4000
# Bytes of one escaped value; longer ones are replaced by a digest of that size, so that three values of any length
# fit into one group. Level by level: a group and what is below it must escape the same value to the same text.
_LONG_VALUE = 48
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ESCAPE = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029\ud800-\udfff%/{}\\]")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MEANT = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)?[^{}]*\}?")  # what was meant for a placeholder


class Mode(enum.IntEnum):
    """Lock modes. The numbers only have to be stable; `compatible` and `join` carry the meaning."""

    IS = 1
    IX = 2
    SIX = 3
    X = 4
    S = 5


_COMPATIBLE: Mapping[Mode, frozenset[Mode]] = {
    Mode.IS: frozenset({Mode.IS, Mode.IX, Mode.S, Mode.SIX}),
    Mode.IX: frozenset({Mode.IS, Mode.IX}),
    Mode.S: frozenset({Mode.IS, Mode.S}),
    Mode.SIX: frozenset({Mode.IS}),
    Mode.X: frozenset(),
}
# What each mode includes: holding the key, one may do all that the values allow.
_INCLUDES: Mapping[Mode, frozenset[Mode]] = {
    Mode.IS: frozenset({Mode.IS}),
    Mode.IX: frozenset({Mode.IS, Mode.IX}),
    Mode.S: frozenset({Mode.IS, Mode.S}),
    Mode.SIX: frozenset({Mode.IS, Mode.IX, Mode.S, Mode.SIX}),
    Mode.X: frozenset(Mode),
}
CONFLICTS: Mapping[Mode, frozenset[Mode]] = {m: frozenset(Mode) - c for m, c in _COMPATIBLE.items()}


def compatible(held: Mode, wanted: Mode) -> bool:
    """May two different holders have these modes on one group at the same time?"""
    return wanted in _COMPATIBLE[held]


def conflicts(held: Iterable[tuple[str, Mode]], wanted: Iterable[tuple[str, Mode]]) -> list[str]:
    """The groups, in the order of ``wanted``, that two different holders could not both have in these modes."""
    theirs = dict(held)
    return [group for group, mode in wanted if group in theirs and not compatible(theirs[group], mode)]


def includes(held: Mode, wanted: Mode) -> bool:
    """Does ``held`` allow everything that ``wanted`` allows?"""
    return wanted in _INCLUDES[held]


def join(a: Mode, b: Mode) -> Mode:
    """The weakest mode that includes both."""
    if includes(a, b):
        return a
    if includes(b, a):
        return b
    return Mode.SIX  # only {S, IX} are incomparable


def validate(group: str) -> str:
    """Return ``group`` if it is a well-formed path; GroupError otherwise."""
    if not isinstance(group, str):
        raise GroupError(f"A group is a string such as 'catalog/books', not {type(group).__name__}: {group!r}.")
    if not group.strip("/"):
        raise GroupError("A group is empty. Name the resource, for instance 'catalog' or 'catalog/books'.")
    if _CONTROL.search(group):
        raise GroupError(f"Group {group!r} has a control character or a lone surrogate in it. Remove it.")
    if group.startswith("/") or group.endswith("/"):
        raise GroupError(f"Group {group!r} starts or ends with '/'. Write {group.strip('/')!r}.")
    if "//" in group:
        raise GroupError(f"Group {group!r} has an empty level ('//'). Write {re.sub('/+', '/', group)!r}.")
    if "{" in group or "}" in group:
        raise GroupError(
            f"Group {group!r} has braces in it, but there are no view arguments here to fill them with. "
            f"Use pooling.group('catalog', value) to make a group from a value."
        )
    size = len(group.encode())
    if size > MAX_BYTES:
        raise GroupError(
            f"Group {group[:40] + '…'!r} is {size} bytes long; at most {MAX_BYTES} are allowed. Make it with "
            f"pooling.group(…), which shortens long values; if it is made so, of fewer levels."
        )
    return group


def escape(value: object) -> str:
    """``str(value)`` as one path level: it never adds a level, is never empty and no two values share a result.

    Letters, digits and most signs stay as they are. Whitespace, control characters, ``/ % { } \\`` become ``%XX``
    of their UTF-8 bytes; ``""``, ``None`` and very long values become words that no other value is escaped to.
    GroupError for a model's instance, and for an object whose ``str()`` only says where in the memory it is.
    """
    if value is None:
        return "%none"
    if not isinstance(value, (str, int)):
        _refuse_object(value)
    text = str(value)
    if not text:
        return "%empty"
    escaped = _ESCAPE.sub(lambda m: "".join(f"%{b:02X}" for b in m[0].encode("utf-8", "surrogatepass")), text)
    if len(escaped.encode()) > _LONG_VALUE:
        return "%sha256." + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]
    return escaped


def _refuse_object(value: object) -> None:
    kind = value.__class__  # of the object itself, where a lazy one stands for it
    if hasattr(value, "_meta") and hasattr(value, "pk"):
        raise GroupError(
            f"A group cannot be made from a {kind.__name__}: its str() need not tell two of them apart, and may "
            f"change. Pass its pk."
        )
    if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
        raise GroupError(
            f"A group cannot be made from a {kind.__name__} object: its str() is another one in each process. Pass "
            f"its pk, or whatever tells it apart."
        )


def group(*levels: object) -> str:
    """A group from its levels, each escaped as a view's argument is: ``group("catalog", slug)``."""
    if not levels:
        raise GroupError("group() needs at least one level, for instance group('catalog', slug).")
    return validate("/".join(escape(level) for level in levels))


def ancestors(path: str) -> list[str]:
    """The proper ancestors of a path, topmost first: ``a/b/c`` -> ``["a", "a/b"]``."""
    found = []
    cut = path.find("/")
    while cut >= 0:
        found.append(path[:cut])
        cut = path.find("/", cut + 1)
    return found


def covers(outer: str, inner: str) -> bool:
    """Is ``inner`` the group ``outer`` or below it?"""
    return inner == outer or inner.startswith(outer + "/")


@dataclass(frozen=True, slots=True)
class Template:
    """A group whose levels may be ``{name}``, filled with the view's arguments.

    A level is either literal or exactly one placeholder. Two placeholders in one level would let
    ``("1-2", "3")`` and ``("1", "2-3")`` address the same group through ``{a}-{b}``.
    """

    source: str
    levels: tuple[tuple[str, bool], ...]  # (text or argument's name, is it a placeholder)

    @classmethod
    def parse(cls, source: str) -> Template:
        if not isinstance(source, str):
            raise GroupError(
                f"A group template is a string such as 'catalog/{{slug}}' or a callable, "
                f"not {type(source).__name__}: {source!r}."
            )
        levels: list[tuple[str, bool]] = []
        for level in source.split("/"):
            match = _PLACEHOLDER.fullmatch(level)
            if match:
                levels.append((match[1], True))
            elif meant := _MEANT.fullmatch(level):
                right = f"`{{{meant[1]}}}`" if meant[1] else "its name, such as `{pk}`"
                raise GroupError(
                    f"Group template {source!r}: {level!r} is not the name of an argument: write {right}. Attributes, "
                    f"positions and formats are not supported; use a callable."
                )
            elif "{" in level or "}" in level:
                raise GroupError(
                    f"Group template {source!r}: the level {level!r} mixes a placeholder with other text. Give each "
                    f"placeholder a level of its own, for instance 'events/{{id}}'."
                )
            else:
                levels.append((level, False))
        validate("/".join("x" if is_name else text for text, is_name in levels) if source else "")
        return cls(source, tuple(levels))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(text for text, is_name in self.levels if is_name)

    def fill(self, lookup: Callable[[str], object]) -> str:
        """The group for these arguments. ``lookup(name)`` returns a value; what it raises passes through."""
        if len(self.levels) == 1 and not self.levels[0][1]:
            return self.source
        return validate("/".join(escape(lookup(text)) if is_name else text for text, is_name in self.levels))


# --- what a request locks ---------------------------------------------------------------------------------------

OrderKey = tuple[Any, ...]


def order_key(path: str, ranks: Mapping[str, int]) -> OrderKey:
    """Sort key of the canonical order: rank of the top-level group where one is given, then the path, level by level.

    Groups without a rank come after all that have one. An ancestor always precedes what is below it.
    """
    levels = tuple(path.split("/"))
    return (ranks.get(levels[0], len(ranks)), levels)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one request asks for, in canonical order.

    ``reads`` and ``writes`` are what was declared, less what another declared group covers already.
    ``wants`` adds the intentions on ancestors, one joined mode per group.
    """

    reads: tuple[str, ...]
    writes: tuple[str, ...]
    wants: tuple[tuple[str, Mode], ...]


def plan(reads: Iterable[str], writes: Iterable[str], ranks: Mapping[str, int]) -> Plan:
    """Work out modes, ancestors and order for well-formed groups. GroupError if they are too many."""
    all_writes = set(writes)
    kept_writes = {w for w in all_writes if not any(a in all_writes for a in ancestors(w))}
    all_reads = set(reads) - all_writes
    kept_reads = {r for r in all_reads if not any(a in all_writes or a in all_reads for a in ancestors(r))}
    modes: dict[str, Mode] = {}
    for paths, mine, above in ((kept_reads, Mode.S, Mode.IS), (kept_writes, Mode.X, Mode.IX)):
        for path in paths:
            modes[path] = join(modes[path], mine) if path in modes else mine
            for ancestor in ancestors(path):
                modes[ancestor] = join(modes[ancestor], above) if ancestor in modes else above

    if len(modes) > MAX_GROUPS:
        parent = next((found[-1] for path in modes if (found := ancestors(path))), "")
        raise GroupError(
            f"A request names {len(kept_reads) + len(kept_writes)} groups, {len(modes)} with those above them; at most "
            f"{MAX_GROUPS} are allowed. Name what is above them{f', such as {parent!r}' if parent else ''}, or do the "
            f"work in parts."
        )

    def key(path: str) -> OrderKey:
        return order_key(path, ranks)

    return Plan(
        reads=tuple(sorted(kept_reads, key=key)),
        writes=tuple(sorted(kept_writes, key=key)),
        wants=tuple((path, modes[path]) for path in sorted(modes, key=key)),
    )


# --- epochs: which versions a cached answer depends on, which ones a write renews --------------------------------

UP = "U:"  # it, or anything below it, was written
DOWN = "D:"  # it was written, and with it everything below


def read_epochs(reads: Iterable[str]) -> tuple[str, ...]:
    """What an answer made from ``reads`` depends on: U of each, D of each proper ancestor. Sorted, no doubles."""
    names = set()
    for path in reads:
        names.add(UP + path)
        names.update(DOWN + ancestor for ancestor in ancestors(path))
    return tuple(sorted(names))


def write_epochs(writes: Iterable[str]) -> tuple[str, ...]:
    """The epochs that a write of ``writes`` renews: U and D of each, U of each ancestor. Sorted, no doubles."""
    names = set()
    for path in writes:
        names.add(UP + path)
        names.add(DOWN + path)
        names.update(UP + ancestor for ancestor in ancestors(path))
    return tuple(sorted(names))
