"""``{% load pooling %}``: ``{% locked_cache 300 reads="catalog" %}…{% endlocked_cache %}``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from django import template
from django.template.base import FilterExpression, Node, NodeList, Parser, Token, Variable
from django.utils.safestring import SafeString

from .. import conf, fragments
from .._names import closest
from ..cache import personal
from ..cache.options import lifetime
from ..cache.tracking import unwrapped
from ..errors import GroupError
from ..groups import Template, validate

register = template.Library()

_KEYWORD = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_KEYWORDS = ("reads", "vary_on", "key")
_EXAMPLE = '{% locked_cache 300 reads="catalog/{pk}" vary_on=user.pk %}'


@register.tag
def locked_cache(parser: Parser, token: Token) -> Node:
    """Cache what is between this tag and ``endlocked_cache`` for as long as nobody writes what it reads::

        {% locked_cache 300 reads="catalog/{pk}" "prices" vary_on=user.pk theme key="sidebar" %}…{% endlocked_cache %}

    The timeout is in seconds; None is as long as possible, 0 never. ``reads``: groups, of which ``{name}`` is filled
    from the context, or variables with a group or a list of them. ``vary_on``: whatever else the text depends on.
    ``key``: a name instead of that of the template and the place in it, to share the fragment between templates.

    TemplateSyntaxError for what is no such tag; GroupError for a malformed group.
    """
    waiting: list[Any] = list(parser.tokens)  # the next one is the last
    given = _arguments(parser, token)
    nodelist = parser.parse(("endlocked_cache",))
    parser.delete_first_token()
    # The text belongs to the key: a template that was changed has other fragments.
    inside = waiting[len(parser.tokens) :]
    text = "\0".join(f"{one.token_type.value}{one.contents}" for one in reversed(inside))
    source = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    # How much comes after it tells it from all others of the template; its offset is known in DEBUG only.
    return FragmentNode(nodelist, *given, source=source, place=len(waiting))


def _arguments(
    parser: Parser, token: Token
) -> tuple[FilterExpression, list[FilterExpression | Template], list[FilterExpression], FilterExpression | None]:
    bits = token.split_contents()[1:]
    if not bits or _KEYWORD.fullmatch(bits[0]):
        raise template.TemplateSyntaxError(f"locked_cache needs a timeout first, in seconds or None: {_EXAMPLE}")
    found: dict[str, list[FilterExpression]] = {word: [] for word in _KEYWORDS}
    word = ""
    for bit in bits[1:]:
        match = _KEYWORD.fullmatch(bit)
        if match:
            word, bit = match[1], match[2]
            if word not in _KEYWORDS:
                near = closest(word, _KEYWORDS)
                raise template.TemplateSyntaxError(f"locked_cache has no {word}=. Did you mean {near}=? {_EXAMPLE}")
        if not word:
            raise template.TemplateSyntaxError(f"locked_cache: what is {bit}? Write reads={bit} or vary_on={bit}.")
        if not bit:
            raise template.TemplateSyntaxError(f"locked_cache: {word}= has no value. No space belongs behind the '='.")
        found[word].append(parser.compile_filter(bit))
    if not found["reads"]:
        raise template.TemplateSyntaxError(
            f"locked_cache needs reads=, the groups that the fragment is made from: {_EXAMPLE}"
        )
    if len(found["key"]) > 1:
        raise template.TemplateSyntaxError("locked_cache: give key= one name. Values to differ by belong to vary_on=.")
    timeout = parser.compile_filter(bits[0])
    if not isinstance(timeout.var, Variable) or timeout.var.literal is not None:
        try:
            lifetime(timeout.resolve(template.Context()))
        except (TypeError, ValueError) as error:
            raise template.TemplateSyntaxError(str(error)) from error
    reads = [_literal(one) or one for one in found["reads"]]
    return timeout, reads, found["vary_on"], found["key"][0] if found["key"] else None


def _literal(expression: FilterExpression) -> Template | None:
    """A group that stands in the template itself, whose errors are found when that is compiled."""
    if isinstance(expression.var, str) and not expression.filters:
        return Template.parse(str(expression.var))
    return None


class FragmentNode(Node):
    """The tag in a compiled template."""

    child_nodelists = ("nodelist",)

    def __init__(
        self,
        nodelist: NodeList,
        timeout: FilterExpression,
        reads: list[FilterExpression | Template],
        vary_on: list[FilterExpression],
        key: FilterExpression | None,
        *,
        source: str,
        place: int,
    ) -> None:
        self.nodelist = nodelist
        self.timeout = timeout
        self.reads = reads
        self.vary_on = vary_on
        self.key = key
        self.source = source
        self.place = place
        paths = [path for path in map(_path, vary_on) if path]
        self.covered = frozenset[str]().union(*map(personal.covered_by, paths))

    def render(self, context: Any) -> SafeString:
        if not conf.settings().ENABLED:
            return self.nodelist.render(context)
        return fragments.render(self.declared(context), context, self.nodelist.render)

    def declared(self, context: Any) -> fragments.Declared:
        origin = getattr(self, "origin", None)
        place: tuple[str | None, ...]
        if self.key is not None:
            place = ("key", str(self.key.resolve(context)))
            name = f"The fragment {place[1]!r}"
        else:
            file = getattr(origin, "template_name", None) or getattr(origin, "name", None)
            place = ("template", None if file is None else str(file), str(self.place))
            name = f"The fragment in line {self.token.lineno if self.token else '?'} of {file}"
        return fragments.Declared(
            name=name,
            identity=(*place, self.source),
            timeout=lifetime(self.timeout.resolve(context)),
            groups=tuple(sorted(set(self.groups(context)))),
            values=tuple(_value(one.resolve(context, ignore_failures=True)) for one in self.vary_on),
            covered=self.covered,
            why=self.why_not(context),
        )

    def groups(self, context: Any) -> Iterator[str]:
        for one in self.reads:
            if isinstance(one, Template):
                yield one.fill(lambda name, source=one.source: _argument(context, name, source))  # type: ignore[misc]
                continue
            value = one.resolve(context, ignore_failures=True)
            if isinstance(value, str):
                yield validate(str(value))
            elif isinstance(value, Iterable):
                yield from (validate(group) for group in value)
            else:
                raise GroupError(
                    f"locked_cache: reads={one.token} is {value!r} here. It must be a group such as 'catalog/books', "
                    f"or a list of them."
                )

    def why_not(self, context: Any) -> str | None:
        for one in self.vary_on:
            if isinstance(one.var, Variable) and one.var.lookups and one.var.lookups[0] not in context:
                return f"vary_on={one.token}: the context has no {one.var.lookups[0]!r}. Correct the name"
        if "forloop" in context and not self.vary_on:
            return (
                "it stands in a loop and has no vary_on=, so that all turns would show the first one's text. Name what "
                "differs, vary_on=item.pk; if nothing does, put the fragment outside, or say vary_on=''"
            )
        return None


def _path(expression: FilterExpression) -> tuple[str, ...] | None:
    """``user.pk`` as ("user", "pk"); None for a literal, and where a filter changes the value."""
    if expression.filters or not isinstance(expression.var, Variable):
        return None
    return tuple(expression.var.lookups) if expression.var.lookups else None


def _argument(context: Any, name: str, source: str) -> object:
    if name not in context:
        raise GroupError(
            f"locked_cache: reads={source!r} uses {{{name}}}, but the context has no such variable. Correct it, "
            f"or name the value: {{% with {name}=… %}} around the fragment."
        )
    return context[name]


def _value(value: Any) -> object:
    """Of safe strings and lazy objects what they stand for; a visitor who is nobody is None."""
    value = unwrapped(value)
    if isinstance(value, str):
        return str.__str__(value)
    if getattr(value, "is_anonymous", False) and getattr(value, "pk", 0) is None:
        return None
    return value
