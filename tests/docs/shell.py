"""Are these commands and files ones that the programs take? Nothing here is carried out that changes anything."""

from __future__ import annotations

import configparser
import functools
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
import yaml

from scripts.manual import subcommands

from .blocks import ROOT

MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
BOOTSTRAP = (ROOT / "scripts" / "bootstrap.sh").read_text("utf-8")


def lines(code: str) -> list[str]:
    """The commands of a block, without comments and prompts."""
    joined = code.replace("\\\n", " ")
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines()) if line]


def check(line: str) -> None:
    """AssertionError, or SystemExit from an argument parser, for a command that would not run."""
    words = shlex.split(line)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    name = Path(words[0]).name
    assert name in CHECKS, f"{line}: these tests know nothing of {name!r}. Teach it to tests/docs/shell.py."
    CHECKS[name](words[1:])


def _make(words: list[str]) -> None:
    targets = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert targets
    for word in words:
        variable, equals, _ = word.partition("=")
        if equals:
            assert re.search(rf"\b{variable}\b", MAKEFILE), f"The Makefile says nothing of {variable}"
        else:
            assert word in targets[1].split(), f"The Makefile has no target {word}"


def _python(words: list[str]) -> None:
    if words[0] == "-m":
        _module(words[1], words[2:])
    else:
        assert words[0] == "manage.py", words
        _manage(words[1], words[2:])


def _module(name: str, words: list[str]) -> None:
    assert importlib.util.find_spec(name), f"There is no module {name}"
    options = [word.partition("=")[0] for word in words if word.startswith("-")]
    if options:
        command = [sys.executable, "-m", name, "--help"]
        text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert not set(options) - set(re.findall(r"--?[\w-]+", text)), f"{name} has no {options}"


def _manage(name: str, words: list[str]) -> None:
    if name == "pooling":
        commands = subcommands()
        assert words[0] in commands, f"manage.py pooling has no {words[0]}"
        commands[words[0]].parse_args(words[1:])
        return
    from django.core.management import CommandError, get_commands, load_command_class

    apps = get_commands()
    assert name in apps, f"manage.py has no {name}"
    try:
        load_command_class(str(apps[name]), name).create_parser("manage.py", name).parse_args(words)
    except CommandError as error:
        raise AssertionError(str(error)) from error


def _pip(words: list[str]) -> None:
    assert words[0] == "install"
    known = (ROOT / "setup.py").read_text("utf-8")
    for word in words[1:]:
        name = re.split(r"[\[<>=]", word)[0]
        assert word in (".", "--no-cache-dir", "-r", "requirements.txt") or f'"{name}' in known, (
            f"setup.py has no {word}"
        )


def _apt(words: list[str]) -> None:
    assert words[0] in ("install", "update")
    for word in words[1:]:
        assert word.startswith("-") or re.search(rf"need {re.escape(word)}\b", BOOTSTRAP), f"Nothing else needs {word}"


def _gunicorn(words: list[str]) -> None:
    from gunicorn.config import Config

    config = Config()
    found = vars(config.parser().parse_args(words))
    for name, value in found.items():
        if value is not None and name != "args":
            config.set(name, value)
    assert config.worker_class
    assert found["args"] in (["shop.wsgi"], ["shop.asgi"], []), found["args"]


def _celery(words: list[str]) -> None:
    from celery.bin.celery import celery

    known = {option for param in celery.params for option in param.opts}
    worker = words.index("worker")
    known_by_worker = {option for param in celery.commands["worker"].params for option in param.opts}
    for part, options in ((words[:worker], known), (words[worker + 1 :], known_by_worker)):
        for word in part:
            assert not word.startswith("-") or word.partition("=")[0] in options, f"celery has no {word}"


def _redis_cli(words: list[str]) -> None:
    assert words in (["info"], ["--latency"]), words


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "make": _make,
    "python": _python,
    "pip": _pip,
    "apt-get": _apt,
    "gunicorn": _gunicorn,
    "celery": _celery,
    "redis-cli": _redis_cli,
}


@functools.cache
def _uwsgi_options() -> set[str]:
    program = Path(sys.executable).parent / "pyuwsgi"
    text = subprocess.run([program, "--help"], capture_output=True, text=True).stdout
    return set(re.findall(r"(?:^\s+|\|)--([\w-]+)", text, re.MULTILINE))


def check_uwsgi(code: str) -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(code)
    assert parser.sections() == ["uwsgi"]
    wrong = set(parser["uwsgi"]) - _uwsgi_options()
    assert not wrong, f"uWSGI has no {wrong}"


def check_yaml(code: str) -> None:
    for found in yaml.safe_load_all(code):
        check_rules(found) if "groups" in found else check_kubernetes(found)


def check_rules(found: dict[str, Any]) -> None:
    """Rules of Prometheus, and only of metrics that there are."""
    from pooling.contrib.prometheus import Collector

    known = set()
    for family in Collector().describe():
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "summary": ["_sum", "_count"]}
        known |= {family.name + ending for ending in endings.get(family.type, [""])}
    for group in found["groups"]:
        assert set(group) == {"name", "rules"}
        for rule in group["rules"]:
            assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
            assert re.fullmatch(r"\d+[smh]", rule["for"])
            used = set(re.findall(r"pooling_\w+", rule["expr"]))
            assert used <= known, f"There is no {', '.join(used - known)}"
            for opening, closing in ("()", "[]", "{}"):
                assert rule["expr"].count(opening) == rule["expr"].count(closing), rule["expr"]


def check_cron(code: str) -> None:
    for line in lines(code):
        *times, command = line.split(None, 5)
        assert all(re.fullmatch(r"[\d*/,-]+", one) for one in times), line
        for part in re.split(r"&&|\|\|", command):
            if part.split()[0] == "python":
                check(part)


def check_kubernetes(found: dict[str, Any]) -> None:
    assert found["apiVersion"]
    assert found["kind"] == "Deployment"
    assert found["metadata"]["name"]
    spec = found["spec"]
    assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    pod = spec["template"]["spec"]
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        assert container["image"]
        if container.get("command", [""])[0] == "python":
            check(shlex.join(container["command"]))
        for variable in container.get("env", []):
            assert set(variable) == {"name", "value"}
            assert isinstance(variable["value"], str)


_INSTRUCTIONS = {"FROM", "RUN", "WORKDIR", "COPY", "CMD", "ENV", "EXPOSE", "USER"}


def check_dockerfile(code: str) -> None:
    found = [line.split(" ", 1) for line in lines(code)]
    assert found[0][0] == "FROM"
    for instruction, rest in found:
        assert instruction in _INSTRUCTIONS, instruction
        if instruction == "CMD":
            check(shlex.join(json.loads(rest)))
        elif instruction == "RUN":
            for command in rest.split("&&"):
                check(command.strip())


def check_redis(code: str, server: Any) -> None:
    """Each line is given to the server, and a user that is made here is one with whom the store works."""
    with redis.Redis.from_url(server.url) as client:
        for line in lines(code):
            words = shlex.split(line)
            if words[0] == "user":
                client.execute_command("ACL", "SETUSER", *words[1:])
                password = next(word[1:] for word in words if word.startswith(">"))
                _use(redis.Redis(host=server.host, port=server.port, username=words[1], password=password))
            else:
                client.config_set(words[0], words[1])


def _use(client: redis.Redis) -> None:
    from pooling.groups import plan
    from pooling.store._driver import RedisDriver
    from pooling.store.protocol import LockRequest
    from pooling.store.redis import RedisStore

    store = RedisStore(RedisDriver(client), budget=10.0)
    try:
        store.eviction_policy()
        for ticket in ("one", "two"):
            store.acquire(LockRequest(ticket, plan([], ["events/7"], {}).wants, 30.0, 60.0, owner={}))
        assert store.wait("two", 0.05) is None
        store.release("one")
        assert store.wait("two", 10.0) is not None
        store.release("two")
        store.invalidate(["U:events"])
        store.clear()
    finally:
        store.close()
