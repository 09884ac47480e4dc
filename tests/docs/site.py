"""The manual's site, in a process of its own: ``python -m tests.docs.site check PAGE LINE | prepare | run PAGE``.

``check``    the settings in the block at that line, under the system checks, with a pool and a store made from them.
``prepare``  makes the tables in the database that DOCS_DATABASE names.
``run``      runs all other Python of the page, from top to bottom, and then uses it as `tests.docs.uses` says.

A traceback names the page and the line in it.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

from . import blocks

ENGINE = "pooling.backends.mysql"


def base() -> dict[str, Any]:
    """Settings of a site that has done all that the quick start says, on the test run's servers."""
    return {
        "SECRET_KEY": "for the tests only",
        "ALLOWED_HOSTS": ["*"],
        "ROOT_URLCONF": "tests.docs.urls",
        "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
        "USE_TZ": True,
        "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
        "INSTALLED_APPS": ["django.contrib.contenttypes", "django.contrib.auth", "pooling", "shop"],
        "MIGRATION_MODULES": dict.fromkeys(["contenttypes", "auth", "pooling"]),  # tables only: that is quicker
        "MIDDLEWARE": ["pooling.middleware.BusyMiddleware"],
        "DATABASES": {
            "default": {
                "ENGINE": ENGINE,
                "NAME": os.environ.get("DOCS_DATABASE", "shop"),
                "HOST": os.environ["POOLING_DB_HOST"],
                "PORT": os.environ["POOLING_DB_PORT"],
                "USER": os.environ["POOLING_DB_USER"],
                "PASSWORD": os.environ["POOLING_DB_PASSWORD"],
                "OPTIONS": {"pool": {"max_size": 8, "timeout": 20}},
            }
        },
        "CACHES": {
            "default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": os.environ["POOLING_REDIS_URL"]}
        },
        # A prefix for each process: pages do not see each other. A budget that a busy machine does not exceed either.
        "POOLING": {"KEY_PREFIX": f"docs-{os.getpid()}", "STORE_BUDGET": 10},
    }


def with_block(settings: dict[str, Any], block: blocks.Block) -> dict[str, Any]:
    """``settings`` with what the block sets; ``...`` in a list stands for what is there already."""
    names: dict[str, Any] = {}
    run(block, names)
    found = {name: value for name, value in names.items() if name.isupper()}
    for name, value in found.items():
        if isinstance(value, list) and ... in value:
            at = value.index(...)
            there = [item for item in settings.get(name, []) if item not in value]
            found[name] = [*value[:at], *there, *value[at + 1 :]]
    return {**settings, **found}


def run(block: blocks.Block, names: dict[str, Any]) -> None:
    code = compile("\n" * (block.line - 1) + block.code, block.page, "exec")
    exec(code, names)


def set_up(settings: dict[str, Any]) -> None:
    import django
    from django.conf import settings as django_settings

    django_settings.configure(**settings)
    django.setup()


def dotted(block: blocks.Block) -> str:
    return block.file.removesuffix(".py").replace("/", ".")


def module_of(found: list[blocks.Block]) -> ModuleType:
    """All blocks of a page are one module, under the names of all files that they belong to."""
    names = [dotted(block) for block in found if block.file] or ["shop.page"]
    module = ModuleType(names[0])
    for name in names:
        sys.modules[name] = module
    for block in found:
        run(block, module.__dict__)
    return module


def check(page: str, line: int) -> None:
    (block,) = (block for block in blocks.blocks(page) if block.line == line)
    settings = with_block(base(), block)
    set_up(settings)
    from django.core import checks
    from django.db import connections

    module_of([one for one in blocks.python(page) if one.file and f'"{dotted(one)}.' in block.code])
    # W013 is about the budget above, which is for the tests only.
    if found := [message for message in checks.run_checks(tags=["pooling"]) if message.id != "pooling.W013"]:
        raise SystemExit("\n".join(map(str, found)))
    for alias in connections:
        wrapper: Any = connections[alias]
        if settings["DATABASES"][alias]["ENGINE"].startswith("pooling."):
            assert wrapper.pool is not None or "pool" not in wrapper.settings_dict["OPTIONS"]
    from django.db import router

    _ = router.routers
    from pooling import runtime

    runtime.manager()


def prepare() -> None:
    import MySQLdb

    with MySQLdb.connect(**_server()) as server:
        server.cursor().execute(f"CREATE DATABASE {os.environ['DOCS_DATABASE']} CHARACTER SET utf8mb4")
    set_up(base())
    from django.core.management import call_command

    call_command("migrate", run_syncdb=True, verbosity=0)


def use(page: str) -> None:
    set_up(base())
    from . import uses

    uses.USES[page](module_of(blocks.python(page)))
    from pooling import runtime

    runtime.store().clear()


def _server() -> dict[str, Any]:
    found = base()["DATABASES"]["default"]
    return {
        "host": found["HOST"],
        "port": int(found["PORT"]),
        "user": found["USER"],
        "password": found["PASSWORD"],
    }


if __name__ == "__main__":
    sys.path.insert(0, str(blocks.ROOT / "tests" / "docs"))  # where the package `shop` is
    os.environ.setdefault("METRICS_TOKEN", "for the tests only")
    what, *words = sys.argv[1:]
    if what == "check":
        check(words[0], int(words[1]))
    elif what == "prepare":
        prepare()
    else:
        use(words[0])
