"""The one-way import rules of the package, checked on the syntax tree: ``python scripts/import_rules.py``.

A module may import from its own layer's unit and from the layers below. The units of one layer do not know each other.
What is imported under ``if TYPE_CHECKING`` or inside a function counts as well: a dependency is one wherever it stands.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "pooling"

# Lowest first; each layer is a tuple of units and each unit a tuple of modules with all that is below them.
LAYERS: tuple[tuple[tuple[str, ...], ...], ...] = (
    (("errors", "groups", "histogram", "moments", "_names", "_numbers", "_forks"),),
    (("pool",), ("store.protocol",)),
    (("locks",), ("cache",)),
    (("backends",), ("store",)),
    (
        (
            *("conf", "runtime", "fleet", "signals", "breaking", "telling", "trace", "spec", "wrapping", "sources"),
            *("models", "migrations", "fences", "alone", "frames", "learning", "steps", "hold"),
            *("containers", "sightings", "fragments"),
            *(
                "addresses",
                "flights",
                "searching",
                "keeping",
                "single_flight",
                "caching",
                "decorators",
                "middleware",
                "server_timing",
            ),
            *("decorated", "checks", "order_checks", "nesting_checks", "routes", "warming"),
        ),
    ),
    (("status", "apps", "urls", "admin"),),
    (("management",), ("templatetags",), ("testing",), ("contrib",)),
)
SURFACE = 4  # where a module that is not named above belongs
# Modules that stand higher than the folder that they are in: they ask the settings and the store in use.
RAISED = {"cache.invalidate": SURFACE}

NO_DJANGO = ("_names", "_numbers", "_forks", "errors", "groups", "histogram", "moments", "pool", "locks", "store")
# Who alone may import it. django-redis nobody: what it makes of its settings comes through Django's `caches`.
ONLY_FROM: dict[str, tuple[str, ...]] = {
    "MySQLdb": ("backends.mysql.connection",),
    "redis": ("store._driver",),
    "django_redis": (),
    "pytest": ("testing.fixtures",),
    "prometheus_client": ("contrib.prometheus",),
    "opentelemetry": ("contrib.opentelemetry",),
    "debug_toolbar": ("contrib.debug_toolbar",),
}


def within(module: str, prefixes: tuple[str, ...]) -> str | None:
    """The longest of the prefixes that is the module or a package around it."""
    found = [p for p in prefixes if module == p or module.startswith(p + ".")]
    return max(found, key=len) if found else None


def place(module: str) -> tuple[int, tuple[str, ...]]:
    """Layer and unit of a module, named without the package."""
    if raised := within(module, tuple(RAISED)):
        return RAISED[raised], LAYERS[RAISED[raised]][0]
    best: tuple[str, int, tuple[str, ...]] | None = None
    for level, units in enumerate(LAYERS):
        for unit in units:
            name = within(module, unit)
            if name and (best is None or len(name) > len(best[0])):
                best = (name, level, unit)
    return best[1:] if best else (SURFACE, LAYERS[SURFACE][0])


def imports(tree: ast.AST, module: str, is_package: bool, known: set[str]) -> Iterator[tuple[int, str]]:
    """Line and full name of every module that the tree imports, ``import_module("…")`` with a literal included."""
    around = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*around[: len(around) - node.level + 1], *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield node.lineno, inner if inner in known else base
        elif isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            argument = node.args[0]
            if name in ("import_module", "__import__") and isinstance(argument, ast.Constant):
                yield node.lineno, str(argument.value)


def named() -> set[str]:
    """Every module that the rules speak of."""
    layered = {name for units in LAYERS for unit in units for name in unit}
    return layered | set(RAISED) | set(NO_DJANGO) | {name for names in ONLY_FROM.values() for name in names}


def violations(root: Path) -> list[str]:
    """What is wrong below ``root/pooling``, one line each: ``file:line: what``."""
    files = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        files[".".join(parts[:-1] if is_package else parts)] = (path, is_package)
    found = []
    for module, (path, is_package) in files.items():
        own = module.removeprefix(PACKAGE).removeprefix(".")
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        for line, target in sorted(set(imports(tree, module, is_package, set(files)))):
            if complaint := judge(own, target):
                found.append(f"{path.relative_to(root)}:{line}: {complaint}")
    return found


def judge(own: str, target: str) -> str | None:
    """May the module ``own`` (without the package; "" is the package itself) import ``target``?"""
    top = target.split(".")[0]
    if top in ONLY_FROM and not within(own, ONLY_FROM[top]):
        allowed = " and ".join(f"{PACKAGE}.{m}" for m in ONLY_FROM[top])
        return f"{f'only {allowed}' if allowed else 'nothing'} may import {top}"
    if top == "django" and within(own, NO_DJANGO):
        return f"{PACKAGE}.{own} must not import Django"
    if top != PACKAGE or own == "":
        return None  # the package's own __init__ re-exports from everywhere
    inner = target.removeprefix(PACKAGE).removeprefix(".")
    if not inner:
        return f"import from the module that defines the name, not from {PACKAGE} itself"
    (my_level, my_unit), (level, unit) = place(own), place(inner)
    if level > my_level:
        return f"{PACKAGE}.{own} is below {target} and must not import it"
    if level == my_level and unit != my_unit:
        return f"{PACKAGE}.{own} and {target} are on one level and must not know each other"
    return None


def main() -> int:
    found = violations(Path(__file__).resolve().parent.parent)
    for line in found:
        sys.stderr.write(line + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
