"""One node of the cluster that `wsrpc demo --cluster` shows: `python -m … URL-of-NATS`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import anyio

import wsrpc
from wsrpc.cluster import Cluster, SessionGone

__all__ = ["CLUSTER", "Exchange", "Trader"]

CLUSTER = "demo"

# Seconds between two prices.
PAUSE = 0.02

# Prices that are kept for clients that come back.
HISTORY = 10_000


class Trader:
    """The controller of each client."""

    @wsrpc.method(idempotent=True)
    async def offer(self, amount: int) -> int:
        """The price that it pays."""
        return amount * 2


class Exchange:
    """The controller of each node."""

    def __init__(self) -> None:
        self.cluster: Cluster | None = None

    @property
    def _cluster(self) -> Cluster:
        assert self.cluster is not None
        return self.cluster

    @wsrpc.method
    def prices(self) -> AsyncIterator[wsrpc.Tracked[int]]:
        """The prices that one of the nodes makes, for the clients of all."""
        return self._cluster.topic("prices", int, history=HISTORY).subscribe(start="latest")

    @wsrpc.method(idempotent=True)
    async def trade(self, amount: int, turn: int) -> tuple[str, int]:
        """Ask a client on any node for an offer."""
        members = self._cluster.presence.list()
        found = members[turn % len(members)].session
        try:
            return found, await self._cluster.session(found).clientize(Trader).offer(amount)
        except SessionGone:
            # The client left between the two lines above.
            raise wsrpc.RpcError("aborted", "that client has just left; ask another") from None

    @wsrpc.method(idempotent=True)
    async def sessions(self) -> list[str]:
        """The sessions of all nodes."""
        return [member.session for member in self._cluster.presence.list()]

    async def make_prices(self) -> None:
        """Make prices, as soon as no other node does."""
        topic = self._cluster.topic("prices", int, history=HISTORY)
        async with topic.produce(standby=True) as producer:
            price = 0
            while True:
                price += 1
                await producer.durable(price)
                await anyio.sleep(PAUSE)


async def main(nats: str) -> None:
    exchange = Exchange()
    server = wsrpc.Server([exchange])
    async with (
        Cluster(server, nats, name=CLUSTER) as exchange.cluster,
        server.listen(port=0) as listener,
        anyio.create_task_group() as group,
    ):
        print(f"listening {listener.url}", flush=True)
        group.start_soon(exchange.make_prices)
        await server.drained_on_signal()
        group.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
