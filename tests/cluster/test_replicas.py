"""Topics with three copies, on three NATS servers: one of them is killed."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import anyio
import pytest

import wsrpc
from tests.cluster.support import QUICK
from tests.support import until
from wsrpc.cluster import Cluster, ClusterConfigError, ClusterLimits
from wsrpc.cluster.bus.embedded import NatsServer
from wsrpc.cluster.bus.nats import NatsBus

pytestmark = [
    pytest.mark.nats,
    pytest.mark.slow,
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),
]

ITEMS = 300


def free_ports(n: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def three_servers() -> Iterator[list[NatsServer]]:
    ports = free_ports(3)
    routes = ",".join(f"nats://127.0.0.1:{port}" for port in ports)
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                NatsServer(
                    extra=(
                        *("--cluster_name", "three"),
                        *("--cluster", f"nats://127.0.0.1:{port}"),
                        *("--routes", routes),
                    )
                )
            )
            for port in ports
        ]


def three_copies() -> ClusterLimits:
    fields = {name: getattr(QUICK, name) for name in ClusterLimits.__slots__}
    return ClusterLimits(**{**fields, "replicas": 3})


async def a_leader(urls: list[str]) -> None:
    """Wait until the three servers agree on a leader, without which JetStream answers nothing."""
    bus = NatsBus(urls)
    await bus.open(lambda: None, lambda: None)
    try:
        while True:
            try:
                await bus.client.jetstream().account_info()
            except Exception:  # noqa: BLE001  (whatever it says, it is not there yet)
                await anyio.sleep(0.1)
            else:
                return
    finally:
        await bus.close()


@pytest.mark.parametrize("victim", ["the reader's", "another"])
async def test_a_topic_with_three_copies_goes_on_when_one_server_is_killed(victim: str) -> None:
    with three_servers() as servers, anyio.fail_after(100):
        urls = [server.url for server in servers]
        await a_leader(urls)
        got: list[int] = []
        async with (
            Cluster(wsrpc.Server([]), urls, limits=three_copies()) as here,
            Cluster(wsrpc.Server([]), urls[::-1], limits=three_copies()) as there,
            anyio.create_task_group() as group,
        ):
            await until(lambda: len(here.nodes) == len(there.nodes) == 2)

            async def read() -> None:
                async for item in there.topic("n", int).subscribe(start="earliest", wait=None):
                    assert isinstance(item.value, int)
                    got.append(item.value)
                    if len(got) == 2 * ITEMS:
                        return

            async with here.topic("n", int).produce() as producer:
                group.start_soon(read)
                for i in range(ITEMS):
                    await producer.durable(i)
                await until(lambda: len(got) == ITEMS)
                servers[2 if victim == "the reader's" else 1].stop(signal.SIGKILL)
                for i in range(ITEMS, 2 * ITEMS):
                    await producer.durable(i)
                with anyio.fail_after(60):
                    while len(got) < 2 * ITEMS:
                        await anyio.sleep(0.05)
        assert got == list(range(2 * ITEMS))


async def test_three_copies_on_one_server_are_an_error_that_says_so() -> None:
    with NatsServer() as server, anyio.fail_after(30):
        async with Cluster(wsrpc.Server([]), server.url, limits=three_copies()) as cluster:
            with pytest.raises(ClusterConfigError, match=r"3 copies \(ClusterLimits.replicas\)"):
                async with cluster.topic("n", int).produce():
                    pass
