"""Several Redises together: a master and its replica with a Sentinel, and a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis

from demo_site.servers import HOST, free_port
from tests.servers import PrivateRedis

from .conftest import until

SLOTS = 16384


@contextmanager
def watched_over(folder: Path) -> Iterator[tuple[PrivateRedis, PrivateRedis, PrivateRedis]]:
    """A master called "shop", its replica and a sentinel that knows both."""
    master, replica = PrivateRedis(folder / "master"), PrivateRedis(folder / "replica")
    sentinel = PrivateRedis(folder / "sentinel")
    try:
        master.start()
        replica.start()
        with redis.Redis(port=replica.port) as client:
            client.replicaof(HOST, master.port)
            until(lambda: client.info("replication")["master_link_status"] == "up")
        _watch_over(sentinel, master)
        with redis.Redis(port=sentinel.port) as client:
            until(lambda: client.sentinel_master("shop")["num-slaves"] == 1)
        yield master, replica, sentinel
    finally:
        for server in (sentinel, replica, master):
            server.stop()


def through(sentinel: PrivateRedis) -> dict[str, Any]:
    """OPTIONS of a django-redis alias whose LOCATION is ``redis://shop/0``."""
    return {
        "CLIENT_CLASS": "django_redis.client.SentinelClient",
        "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
        "SENTINELS": [(HOST, sentinel.port)],
    }


def is_master(sentinel: PrivateRedis, server: PrivateRedis) -> bool:
    """Does the sentinel say so, and the server itself?"""
    with redis.Redis(port=sentinel.port) as client, redis.Redis(port=server.port) as there:
        told = client.sentinel_get_master_addr_by_name("shop")
        return bool(told[1] == server.port and there.info("replication")["role"] == "master")


def _watch_over(sentinel: PrivateRedis, master: PrivateRedis) -> None:
    folder = Path(sentinel.datadir)
    folder.mkdir(parents=True)

    def command() -> list[str]:
        settings = [
            f"port {sentinel.port}",
            f"bind {HOST}",
            f"unixsocket {sentinel.socket}",
            f"sentinel monitor shop {HOST} {master.port} 1",
            "sentinel down-after-milliseconds shop 500",
            "sentinel failover-timeout shop 2000",
        ]
        (folder / "sentinel.conf").write_text("\n".join(settings) + "\n")
        return [PrivateRedis._command(sentinel)[0], str(folder / "sentinel.conf"), "--sentinel"]

    sentinel._command = command  # type: ignore[method-assign]
    sentinel.start()


@contextmanager
def cluster(folder: Path, size: int) -> Iterator[list[PrivateRedis]]:
    """Nodes that share the slots in equal parts, in the order of their numbers."""
    nodes, buses = [], [free_port() for _ in range(size)]
    for number, bus in enumerate(buses):
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--cluster-port", str(bus)]
        node = PrivateRedis(folder / f"node{number}", options=options)
        node._command = _of_a_cluster(node)  # type: ignore[method-assign]
        nodes.append(node)
    with ExitStack() as stack:
        for node in nodes:
            stack.callback(node.stop)
            node.start()
        clients = [stack.enter_context(redis.Redis(port=node.port)) for node in nodes]
        bounds = [round(SLOTS * number / size) for number in range(size + 1)]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            client.execute_command("CLUSTER MEET", HOST, nodes[0].port, buses[0])
        for client in clients:
            until(lambda client=client: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
            until(lambda client=client: len(client.execute_command("CLUSTER NODES")) == size)
        yield nodes


def move_slot(nodes: Sequence[PrivateRedis], slot: int, source: int, target: int) -> None:
    """Move a slot with all its keys, as ``redis-cli --cluster reshard`` does."""
    with ExitStack() as stack:
        clients = [stack.enter_context(redis.Redis(port=node.port)) for node in nodes]
        ids = [client.execute_command("CLUSTER MYID").decode() for client in clients]
        clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
        clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
        while keys := clients[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            where = (HOST, nodes[target].port, "", 0, 5000)
            clients[source].execute_command("MIGRATE", *where, "KEYS", *keys)
        for number in (target, source):
            clients[number].execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])


def _of_a_cluster(node: PrivateRedis) -> Any:
    original = node._command

    def command() -> list[str]:
        words = original()
        at = words.index("--databases")
        return words[:at] + words[at + 2 :]  # a cluster has one only

    return command
