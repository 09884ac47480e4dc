"""What of the manual is made from the code: the hooks that ``mkdocs.yml`` names.

A comment ``<!-- generated: NAME -->`` in a page is replaced by what `PARTS` makes of that name. The parts are read from
where the code itself says them: docstrings, dataclass fields, the command's own parser. What lacks a docstring
raises ManualError, so that the strict build fails. `Docstrings` does for mkdocstrings what `as_markdown` does here.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).resolve().parent.parent
MARKER = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)

# An entry of a list in a docstring: ``name``, or several, then its text; the text goes on in indented lines.
_NAMES = r"``[^`]+``(?:, ``[^`]+``)*"
_FIRST = re.compile(rf"({_NAMES})  +(\S.*)")
_FURTHER = re.compile(rf"({_NAMES}) +(\S.*)")


class ManualError(Exception):
    """Something that the manual must tell is not said in the code."""


def entries(paragraph: str) -> Iterator[tuple[str, str]]:
    """The (names, text) pairs of a paragraph of a docstring; none if it is not such a list."""
    found: list[list[str]] = []
    for line in paragraph.splitlines():
        start = (_FURTHER if found else _FIRST).fullmatch(line)
        if start:
            found.append([start[1], start[2]])
        elif found and line.startswith(" "):
            found[-1].append(line.strip())
        else:
            return
    for names, *texts in found:
        yield names.replace("``", "`"), " ".join(texts)


def as_markdown(docstring: str) -> str:
    """A docstring of this project with its lists as lists of Markdown."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        items = [f"* {names}: {text}" for names, text in entries(paragraph)]
        parts.append("\n".join(items) if items else paragraph.replace("``", "`"))
    return "\n\n".join(parts)


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)


def explained_in(docstring: str | None) -> dict[tuple[str, ...], str]:
    """All entries of the lists in a docstring."""
    return {
        tuple(re.findall(r"`([^`]+)`", names)): text.replace("``", "`")
        for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(docstring or ""))
        for names, text in entries(paragraph)
    }


def explained(cls: type) -> dict[str, str]:
    """What the docstrings of a dataclass, and of those that it extends, say of each field."""
    return {
        name: text
        for one in reversed(cls.__mro__)
        for names, text in explained_in(one.__dict__.get("__doc__")).items()
        for name in names
    }


def fields(cls: type) -> list[tuple[str, str, str]]:
    """(name, default, meaning) of each field. ManualError for one that no docstring explains, and the reverse."""
    texts = explained(cls)
    known = {field.name: field for field in dataclasses.fields(cls)}
    if wrong := sorted(set(texts) ^ set(known)):
        raise ManualError(f"The docstring of {cls.__name__} and its fields differ in {', '.join(wrong)}.")
    return [(name, _default(field), texts[name]) for name, field in known.items()]


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        value = list(field.default) if isinstance(field.default, tuple) else field.default
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return repr(value).replace("'", '"')


# -- the parts


def settings() -> str:
    from pooling.conf import Settings

    return table(
        ("Key", "Default", "Meaning"),
        [(f"`{name}`", f"`{default}`", text) for name, default, text in fields(Settings)],
    )


def pool_options() -> str:
    from pooling.backends.mysql.options import BackendOptions

    return table(
        ("Option", "Default", "Meaning"),
        [(f"`{name}`", f"`{default}`", text) for name, default, text in fields(BackendOptions)],
    )


def keepalive_options() -> str:
    from pooling.backends.mysql.tcp import TcpKeepalive

    return table(
        ("Key", "Default", "Meaning"),
        [(f"`{name}`", f"`{default}`", text) for name, default, text in fields(TcpKeepalive)],
    )


def statistics() -> str:
    """The counters, each with the comment behind it."""
    from pooling.pool.stats import Counters

    texts = dict(re.findall(r'^ +"(\w+)": .+?  # (.+)$', inspect.getsource(Counters.totals), re.MULTILINE))
    names = list(Counters().totals(()))
    if missing := sorted(set(names) - set(texts)):
        raise ManualError(f"No comment in pooling.pool.stats.Counters explains {', '.join(missing)}.")
    return table(("Key", "What is counted"), [(f"`{name}`", texts[name]) for name in names])


def checks() -> str:
    from pooling import checks, nesting_checks, order_checks

    rows = [
        (f"`{number}`", text.replace("``", "`"))
        for number, text in re.findall(r"^(pooling\.[EW]\d{3})  +(.+)$", checks.__doc__ or "", re.MULTILINE)
    ]
    code = "".join(map(inspect.getsource, (checks, order_checks, nesting_checks)))
    used = set(re.findall(r'"(pooling\.[EW]\d{3})"', code))
    if wrong := sorted(used ^ {row[0].strip("`") for row in rows}):
        raise ManualError(f"The docstring of pooling.checks and the code of the checks differ in {', '.join(wrong)}.")
    return table(("Check", "What it reports"), rows)


def errors() -> str:
    from pooling import errors

    parts = []
    for name, cls in vars(errors).items():
        if not (inspect.isclass(cls) and issubclass(cls, errors.PoolingError)):
            continue
        if not cls.__doc__:
            raise ManualError(f"pooling.errors.{name} has no docstring.")
        bases = " and ".join(f"`{one.__name__}`" for one in cls.__bases__ if one is not Exception)
        parts.append(f"### `{name}`\n\n{as_markdown(cls.__doc__)}" + (f"\n\nIt is a {bases}." if bases else ""))
    return "\n\n".join(parts)


def signals() -> str:
    """The signals, each with the string that stands behind it in the module."""
    body = ast.parse((ROOT / "pooling" / "signals.py").read_text("utf-8")).body
    parts = []
    for statement, after in zip(body, [*body[1:], None], strict=True):
        if not (isinstance(statement, ast.Assign) and ast.unparse(statement.value).startswith("Signal(")):
            continue
        name = ast.unparse(statement.targets[0])
        if not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)):
            raise ManualError(f"pooling.signals.{name} has no string behind it that explains it.")
        parts.append(f"### `pooling.signals.{name}`\n\n{as_markdown(str(after.value.value))}")
    return "\n\n".join(parts)


def subcommands() -> dict[str, ArgumentParser]:
    """What ``manage.py pooling`` can do, by name."""
    from pooling.management.commands.pooling import Command

    parser = ArgumentParser(prog="manage.py pooling")
    Command().add_arguments(parser)
    (choices,) = (action for action in parser._actions if isinstance(action, _SubParsersAction))
    return dict(choices.choices)


def commands() -> str:
    parts = []
    for name, parser in subcommands().items():
        if not parser.description:
            raise ManualError(f"`manage.py pooling {name}` has no description.")
        usage = " ".join(parser.format_usage().removeprefix("usage: ").split()).replace("[-h] ", "")
        lines = [f"### `{name}`", "", parser.description, "", "```text", usage, "```", ""]
        for action in parser._actions:
            if action.dest == "help":
                continue
            word = action.option_strings[0] if action.option_strings else action.metavar or action.dest
            value = f" {action.metavar}" if action.option_strings and isinstance(action.metavar, str) else ""
            text = (action.help or "").replace("%(default)s", str(action.default))
            lines.append(f"* `{word}{value}`{f': {text}' if text else ''}")
        parts.append("\n".join(lines).rstrip())
    return "\n\n".join(parts)


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings,
    "pool-options": pool_options,
    "keepalive-options": keepalive_options,
    "statistics": statistics,
    "checks": checks,
    "errors": errors,
    "signals": signals,
    "commands": commands,
}


def fill(markdown: str) -> str:
    """A page with its generated parts. ManualError for a name that no part has."""

    def part(match: re.Match[str]) -> str:
        try:
            make = PARTS[match[1]]
        except KeyError:
            raise ManualError(f"No part of the manual is called {match[1]!r}. There are {', '.join(PARTS)}.") from None
        return make()

    return MARKER.sub(part, markdown)


# -- hooks


def on_startup(**kwargs: Any) -> None:
    """mkdocs runs this before a build: the command's module imports a model, which wants an app that is there."""
    import django
    from django.conf import settings as django_settings

    sys.path.insert(0, str(ROOT))
    if not django_settings.configured:
        django_settings.configure(INSTALLED_APPS=["pooling"])
        django.setup()


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """mkdocs runs this for each page."""
    return fill(markdown)


class Docstrings(griffe.Extension):
    """mkdocstrings shows docstrings as they are written here, with their lists as lists."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = as_markdown(textwrap.dedent(obj.docstring.value))
