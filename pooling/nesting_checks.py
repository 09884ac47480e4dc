"""System checks of holds inside holds: what decorators declare, one around the other, or around a call of another.

As in `order_checks`, what is reported as an error would certainly fail. What a block or a callable names is seen at run
time only, and so are calls through other objects or functions.
"""

from __future__ import annotations

import dis
import functools
import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register

from . import conf
from .decorated import Layer, Site, handlers, seen
from .groups import Template, order_key
from .order_checks import once
from .spec import Spec, name_of

BEFORE, ABOVE, SAME, BELOW, AFTER = "before", "above", "same", "below", "after"


@dataclass(frozen=True)
class Refusal:
    """``group`` cannot be asked for while ``held`` is."""

    group: Template
    verb: str
    outer: Spec
    held: Template
    late: bool  # against the order; or else it would make a lock grow

    def __str__(self) -> str:
        why = "comes later in the order" if self.late else "is a lock that cannot grow while it is held"
        return f"asks to {self.verb} {self.group.source!r} while {self.held.source!r} is held, which {why}"

    def advice(self, where: str) -> str:
        way = "writes" if self.verb == "write" else "reads"
        advice = f"Declare {way}=[{self.group.source!r}] in {where} as well, so that all is taken at once"
        top, held_top = (template.levels[0][0] for template in (self.group, self.held))
        if self.late and top != held_top:
            advice += f"; or put {top!r} before {held_top!r} in POOLING['GROUP_ORDER']"
        return advice + "."


def relation(one: Template, other: Template, ranks: Mapping[str, int], *, same_arguments: bool) -> str | None:
    """Where ``one`` stands beside ``other`` in the canonical order, whatever the values of their arguments are; None
    if it depends on these. ``same_arguments``: those of one name are equal."""
    for (mine, is_name), (theirs, is_too) in zip(one.levels, other.levels, strict=False):
        if is_name or is_too:
            if same_arguments and is_name and is_too and mine == theirs:
                continue
            return None
        if mine != theirs:
            if one.levels[0] != other.levels[0]:
                return BEFORE if order_key(mine, ranks) < order_key(theirs, ranks) else AFTER
            return BEFORE if mine < theirs else AFTER
    more = len(one.levels) - len(other.levels)
    return SAME if more == 0 else ABOVE if more < 0 else BELOW


def may_cover(outer: Template, inner: Template) -> bool:
    """Is ``outer``, for some values, the group ``inner`` or above it?"""
    return len(outer.levels) <= len(inner.levels) and all(
        is_name or is_too or mine == theirs
        for (mine, is_name), (theirs, is_too) in zip(outer.levels, inner.levels, strict=False)
    )


def refusal(
    outer: Sequence[Spec], inner: Spec, ranks: Mapping[str, int], *, same_arguments: bool = False
) -> Refusal | None:
    """Why ``inner`` can never be granted while all of ``outer`` are held; None if it can, or if that is not certain."""
    held = [(spec, source, write) for spec in outer for write, source in _sources(spec)]
    if any(not isinstance(source, Template) for _, source, _ in held):
        return None  # it may cover anything
    for verb_writes, group in _certain(inner):
        if any(may_cover(source, group) and (write or not verb_writes) for _, source, write in held):
            continue
        for spec, source, write in held:
            if write and spec.what == "locked_cache":
                continue  # not in each request
            where = relation(group, source, ranks, same_arguments=same_arguments)
            grows = where == ABOVE or (where in (SAME, BELOW) and verb_writes and not write)
            if grows or where == BEFORE:
                return Refusal(group, "write" if verb_writes else "read", spec, source, where == BEFORE)
    return None


def _sources(spec: Spec) -> Iterator[tuple[bool, Any]]:
    yield from ((False, source) for source in spec.reads)
    yield from ((True, source) for source in spec.writes)


def _certain(spec: Spec) -> Iterator[tuple[bool, Template]]:
    """The templates that every call asks for, each with: is it written?"""
    for write, source in _sources(spec):
        if isinstance(source, Template) and not (write and spec.what == "locked_cache"):
            yield write, source


def check_nesting(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """E008, W008, W009, W011."""
    if (site := seen()) is None:
        return []
    ranks = conf.settings().ranks
    stacks = [(func, site.layers(func)) for func in site.functions]
    for view in site.views:
        around = site.layers(view)
        # Between the two is dispatch(), which may change the arguments.
        stacks += [(handler, [*around, Layer(), *site.layers(handler)]) for handler in handlers(view)]
    found: list[CheckMessage | None] = []
    for func, layers in stacks:
        found += [
            _stacked(func, layers, ranks, site.answers(func)),
            _uncached(func, layers),
            *_calls(func, layers, site, ranks),
        ]
    return once(found)


def _stacked(func: Any, layers: Sequence[Layer], ranks: Mapping[str, int], answering: bool) -> CheckMessage | None:
    """``answering``: it answers requests. Other functions may be called in a hold that has all that they ask for."""
    name = name_of(func)
    outer: list[Spec] = []
    known = True
    for layer in layers:
        if layer.spec is None:
            known = known and (not outer or bool(layer.alias))  # one of others, between two of ours, may change them
            continue
        if refused := refusal(outer, layer.spec, ranks, same_arguments=known):
            calls = "each call that is not answered from the cache" if refused.outer.what != "locked" else "each call"
            calls += "" if answering else ", unless a hold further out has it already,"
            return (Error if answering else Warning)(
                f"{layer.spec.what}() of {name} {refused}, by {refused.outer.what}() around it: {calls} ends in a "
                f"LockOrderError.",
                hint=refused.advice("the outermost decorator"),
                obj=name,
                id="pooling.E008" if answering else "pooling.W011",
            )
        outer.append(layer.spec)
    return None


def _uncached(func: Any, layers: Sequence[Layer]) -> CheckMessage | None:
    kinds = [layer.spec.what for layer in layers if layer.spec is not None]
    if "locked" not in kinds or "locked_cache" not in kinds[kinds.index("locked") :]:
        return None
    name = name_of(func)
    return Warning(
        f"locked_cache() of {name} is inside locked(): in a hold no page is stored, so each request makes its own.",
        hint="Leave locked() out: locked_cache() locks what it reads when it makes a page, and what its writes= name "
        "for other methods than GET and HEAD. Is there more to be locked, put that into a view of its own.",
        obj=name,
        id="pooling.W008",
    )


# -- calls


def _calls(func: Any, layers: Sequence[Layer], site: Site, ranks: Mapping[str, int]) -> Iterator[CheckMessage]:
    """What the code of a decorated function calls by a global name, inside its own hold."""
    outer = [layer.spec for layer in layers if layer.spec is not None]
    body = inspect.unwrap(func)
    code = getattr(body, "__code__", None)
    if not outer or not isinstance(code, CodeType):
        return
    callees: dict[str, list[Spec]] = {}
    for name in code.co_names:
        value = body.__globals__.get(name)
        # By its type, and nothing else is asked of it: a lazy object would be evaluated, a proxy call its server.
        if issubclass(type(value), (FunctionType, functools.partial)) and (
            specs := [layer.spec for layer in site.layers(value) if layer.spec is not None]
        ):
            callees[name] = specs
    awaits = inspect.iscoroutinefunction(body)
    for name, line, awaited in called(code) if callees else ():
        callee = body.__globals__.get(name)
        # A coroutine that is not awaited here may run when the hold is over.
        if name not in callees or not awaits == awaited == inspect.iscoroutinefunction(inspect.unwrap(callee)):
            continue
        if refused := refusal(outer, callees[name][0], ranks):
            yield Warning(
                f"{name_of(func)} calls {name_of(callee)} in line {line}, which {refused}: unless a hold "
                f"further out has it already, the call ends in a LockOrderError.",
                hint=refused.advice(f"the decorator of {name_of(func)}"),
                obj=f"{name_of(func)}: {name_of(callee)}",
                id="pooling.W009",
            )


def called(code: CodeType) -> Iterator[tuple[str, int | None, bool]]:
    """Global names that are called directly: name, line, and whether the result is awaited at once."""
    instructions = list(dis.get_instructions(code))
    for index, load in enumerate(instructions):
        if load.opname != "LOAD_GLOBAL" or not (load.arg or 0) & 1:  # the bit: it is loaded to be called
            continue
        yield load.argval, load.positions.lineno if load.positions else None, _awaited(instructions[index:])


def _awaited(instructions: Sequence[dis.Instruction]) -> bool:
    """Is the result of the call that begins here awaited? A call stands where its function's name begins."""
    start = instructions[0].positions
    if start is None or start.col_offset is None:  # left out, by python -X no_debug_ranges
        return False
    return any(
        call.opname.startswith("CALL")
        and after.opname == "GET_AWAITABLE"
        and call.positions is not None
        and (call.positions.lineno, call.positions.col_offset) == (start.lineno, start.col_offset)
        for call, after in itertools.pairwise(instructions)
    )


def register_all() -> None:
    """Called when the app is ready. Registering again changes nothing."""
    register(check_nesting, "pooling")
