"""A Redis of its own for each test, stores on it, and other processes that use it."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from pooling.groups import plan
from pooling.store._driver import RedisDriver
from pooling.store.protocol import LockRequest
from pooling.store.redis import RedisStore
from tests.servers import PrivateRedis
from tests.waiting import until

__all__ = ["until"]

DEADLINE = 30.0  # seconds, for what must happen soon
PREFIX = "fleet"
_numbers = itertools.count()


def request(*groups: str, ticket: str | None = None, **more: Any) -> LockRequest:
    more = {"lease": 30.0, "patience": 60.0, **more}
    return LockRequest(ticket or f"{id(_numbers):x}.{next(_numbers)}", plan([], groups, {}).wants, **more)


def store_at(url: str, **options: Any) -> RedisStore:
    options = {"prefix": PREFIX, "budget": 10.0, **options}
    return RedisStore(RedisDriver(redis.Redis.from_url(url)), **options)


class Process:
    """Another process; see worker.py and site.py for what it does."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.fleet.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, line: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write((line if isinstance(line, str) else json.dumps(line)) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process ended"
        return json.loads(line)

    def ask(self, line: Any) -> Any:
        self.tell(line)
        return self.answer()

    def end(self) -> None:
        """Let it come to its end by itself."""
        self._process.communicate(timeout=DEADLINE)

    def kill(self) -> None:
        """kill -9, so that it has no chance to say goodbye."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def store(private_redis: PrivateRedis) -> Iterator[RedisStore]:
    made = store_at(private_redis.url)
    yield made
    made.close()


@pytest.fixture
def start(private_redis: PrivateRedis) -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start_one(module: str = "worker", *more: str) -> Process:
        started.append(Process(module, private_redis.url, *([PREFIX] if module == "worker" else more)))
        return started[-1]

    yield start_one
    for process in started:
        process.kill()


@pytest.fixture
def client(private_redis: PrivateRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(private_redis.url) as made:
        yield made


def in_thread(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """Start it; the result of the call returned here is its result."""
    done: list[Any] = []

    def work() -> None:
        try:
            done.append((function(*arguments), None))
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            done.append((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def result() -> Any:
        thread.join(DEADLINE)
        assert done, "it is still waiting"
        value, error = done[0]
        if error is not None:
            raise error
        return value

    return result


def at_rest(client: redis.Redis) -> bool:
    """Nothing but the number of the last token, epochs and entries."""
    tag = f"{{{PREFIX}}}:"
    return {key.decode().removeprefix(tag) for key in client.scan_iter(f"{tag}*")} <= {"seq"}
