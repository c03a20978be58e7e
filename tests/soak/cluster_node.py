"""One node of the soaked cluster: `python -m tests.soak.cluster_node URL-of-NATS [PAUSE]`.

It prints its URL. The pause, in seconds, is that between two items.
"""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator

import anyio

import wsrpc
from wsrpc.cluster import Cluster, ClusterLimits
from wsrpc.cluster.bus.base import Handler, Off
from wsrpc.cluster.bus.nats import NatsBus

__all__ = ["GRACE", "Node", "Worker"]

# Seconds between two items of the topic, if nothing else is said, and for a drain.
PAUSE = 0.05
GRACE = 5.0


class Worker:
    """Lives in each client."""

    def __init__(self) -> None:
        self.runs: dict[str, int] = {}

    @wsrpc.method
    async def run(self, mark: str) -> str:
        self.runs[mark] = self.runs.get(mark, 0) + 1
        return mark

    @wsrpc.method
    async def count(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    @wsrpc.method
    async def hang(self) -> None:
        await anyio.sleep_forever()


class LossyBus(NatsBus):
    """Loses a part of what links carry, for as long as it is told to."""

    rate = 0.0

    async def subscribe(self, subject: str, handler: Handler) -> Off:
        def take(subject: str, data: bytes, reply: str) -> None:
            if not (".link." in subject and self.rate and random.random() < self.rate):
                handler(subject, data, reply)

        return await super().subscribe(subject, take)


class Node:
    """Lives in each node."""

    def __init__(self, bus: LossyBus, pause: float) -> None:
        self.bus = bus
        self.pause = pause
        self.cluster: Cluster

    async def came(self, session: wsrpc.Session) -> None:
        if session.principal == "worker":
            await self.cluster.group("all").join(session)
            await self.cluster.pool("jobs").add(session, capacity=4)

    @wsrpc.method
    async def ask(self, session: str, mark: str) -> str:
        """Call one client, wherever it is."""
        return await self.cluster.session(session).clientize(Worker, timeout=20).run(mark)

    @wsrpc.method
    async def hang(self, session: str) -> None:
        await self.cluster.session(session).clientize(Worker, timeout=None).hang()

    @wsrpc.method
    async def through(self, session: str, n: int) -> AsyncIterator[int]:
        async with self.cluster.session(session).clientize(Worker).count(n) as items:
            async for item in items:
                yield item

    @wsrpc.method
    async def job(self, mark: str) -> str:
        """Call any worker; a job that may have begun is not repeated."""
        return await self.cluster.pool("jobs").call(Worker.run, mark)

    @wsrpc.method
    def ticks(self) -> AsyncIterator[wsrpc.Tracked[int]]:
        return self.cluster.topic("ticks", int, history=100_000).subscribe(
            start="latest", wait=None
        )

    @wsrpc.method
    async def numbers(self) -> AsyncIterator[wsrpc.Tracked[int]]:
        last = wsrpc.current().last_id
        number = 0 if last is None else int(last) + 1
        while True:
            yield wsrpc.Tracked(str(number), number)
            number += 1
            await anyio.sleep(self.pause)

    @wsrpc.method
    async def square(self, n: int) -> int:
        return n * n

    @wsrpc.method(idempotent=True)
    async def sessions(self) -> list[str]:
        return [member.session for member in self.cluster.presence.list()]

    @wsrpc.method(idempotent=True)
    async def resumed(self) -> tuple[int, int]:
        """How often sessions between nodes went on over another link, and holes in links."""
        snapshot = self.cluster.snapshot()
        return snapshot.tunnel_resumes, snapshot.link_gaps

    @wsrpc.method
    async def lose(self, rate: float) -> None:
        self.bus.rate = rate

    async def tick(self) -> None:
        while True:
            try:
                topic = self.cluster.topic("ticks", int, history=100_000)
                async with topic.produce(standby=True) as producer:
                    number = 0
                    while True:
                        number += 1
                        await producer.durable(number)
                        await anyio.sleep(self.pause)
            except wsrpc.RpcError:
                # Another one has taken over while this one stood still.
                await anyio.sleep(0.5)


async def authenticate(handshake: wsrpc.Handshake, auth: str | None) -> str | None:
    """A client that says so is a worker; the others only look."""
    return auth


async def main(nats: str, pause: float) -> None:
    bus = LossyBus(nats, name="soak")
    node = Node(bus, pause)
    server = wsrpc.Server(
        [node],
        authenticate=authenticate,
        on_connect=node.came,
        limits=wsrpc.Limits(drain_grace=GRACE),
    )
    limits = ClusterLimits(dead_after=4.0)
    async with (
        Cluster(server, bus, name="soak", limits=limits) as node.cluster,
        server.listen(port=0) as listener,
        anyio.create_task_group() as group,
    ):
        print(listener.url, flush=True)
        group.start_soon(node.tick)
        await server.drained_on_signal()
        group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], float(sys.argv[2]) if sys.argv[2:] else PAUSE)
