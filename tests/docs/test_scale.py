"""The benchmark whose tables are in docs/scale.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from django.http import HttpResponse
from django.test import RequestFactory

from benchmarks import scale
from pooling import fences, locked, locked_cache, runtime

from .. import stores


@pytest.mark.django_db(transaction=True)
def test_what_one_request_asks_of_redis(
    private_redis: Any, settings: Any, monkeypatch: Any, rf: RequestFactory
) -> None:
    """The first table of the page."""
    settings.CACHES = stores.caches(private_redis.url)
    monkeypatch.setattr(runtime, "RedisStore", stores.PatientRedisStore)
    fences.forget()
    runtime.reset_runtime()
    page = locked_cache(60, reads=["events"])(lambda request: HttpResponse("page"))
    one = locked(writes=["events/7"])(lambda request: HttpResponse("one"))
    five = locked(writes=[f"events/{number}" for number in range(5)])(lambda request: HttpResponse("five"))
    get, post = rf.get("/"), rf.post("/")
    one(post)
    page(get)

    with redis.Redis.from_url(private_redis.url) as client, redis.Redis.from_url(private_redis.url) as other:
        other.ping()  # a new connection introduces itself

        def sent(use: Callable[[], object]) -> int:
            """Requests; what scripts do inside of one is none."""
            with client.monitor() as monitor:
                use()
                other.echo("end")
                found = 0
                for command in monitor.listen():
                    if command["command"] == "ECHO end":
                        return found
                    found += command["client_type"] != "lua"
            raise AssertionError("The monitor ended.")

        assert sent(lambda: page(get)) == 1
        for write in (one, five):
            assert sent(lambda write=write: write(post)) == 2  # type: ignore[misc]
        for _ in range(2):
            one(post)
            # One more if an older page is in memory: its versions are asked for first.
            assert 5 <= sent(lambda: page(get)) <= 8
    runtime.reset_runtime()


def test_a_table_of_a_redis(private_redis: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(scale, "CLIENTS", (1, 2))
    works = scale.redis_works(private_redis)
    made = scale.table("One Redis", private_redis, works, rounds=1, seconds=0.05)
    lines = made.markdown().splitlines()[2:]
    assert [line.count("|") for line in lines] == [6] * (len(works) + 2)
    assert "| 1 client | 2 clients |" in lines[0]
    for line, name in zip(lines[2:], works, strict=True):
        assert f"| {name} | " in line
        assert float(line.split("|")[2].replace(",", "")) > 0


def test_a_client_that_fails(private_redis: Any, capfd: Any) -> None:
    def broken(number: int) -> Callable[[], object]:
        raise ValueError("this client is broken")

    with pytest.raises(RuntimeError, match="A client failed"):
        scale.measure(private_redis, broken, 2, 0.05)
    assert "this client is broken" in capfd.readouterr().err
