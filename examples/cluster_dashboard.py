"""A dashboard: a late viewer begins with the present state, and goes on from there.

One node produces; viewers connect to any node. `snapshot=` gives the state after all items
published so far, so that a late viewer needs no history; the history in JetStream is for viewers
that lost their connection, and have to go on where they were. Needs the extras `nats` and
`nats-server`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio

import wsrpc
from wsrpc.cluster import Cluster, Snapshot, Topic
from wsrpc.cluster.bus.embedded import NatsServer


class Board:
    """Lives in each node."""

    def __init__(self) -> None:
        self.cluster: Cluster  # there before the first client is
        self.totals: dict[str, int] = {}
        self.half = anyio.Event()

    @property
    def sales(self) -> Topic[tuple[str, int], dict[str, int]]:
        return self.cluster.topic("sales", tuple[str, int], dict[str, int])

    @wsrpc.method
    def watch(self) -> AsyncIterator[wsrpc.Tracked[tuple[str, int] | Snapshot[dict[str, int]]]]:
        return self.sales.subscribe()

    async def sell(self, sold: list[tuple[str, int]], viewers: anyio.Event) -> None:
        """Produce; every node may run this, and one of them does."""
        async with self.sales.produce(snapshot=lambda: dict(self.totals), standby=True) as producer:
            for number, (what, amount) in enumerate(sold):
                if number == len(sold) // 2:
                    self.half.set()
                    await viewers.wait()  # half of it is sold before the first viewer comes
                self.totals[what] = self.totals.get(what, 0) + amount
                await producer.durable((what, amount))


async def view(url: str, begun: anyio.Event) -> dict[str, int]:
    """The totals that a viewer shows in the end."""
    totals: dict[str, int] = {}
    async with wsrpc.connect(url) as session:
        async for item in session.clientize(Board).watch():
            if isinstance(item.value, Snapshot):
                totals = dict(item.value.snapshot)
                print(f"a viewer begins with {totals}")
                begun.set()
            else:
                what, amount = item.value
                totals[what] = totals.get(what, 0) + amount
    return totals


async def main() -> tuple[dict[str, int], list[dict[str, int]]]:
    boards = Board(), Board()
    first, second = (wsrpc.Server([board]) for board in boards)
    sold = [(what, amount) for amount in range(1, 201) for what in ("tea", "coffee")]
    shown: list[dict[str, int]] = []
    viewers = anyio.Event()

    async def look(url: str) -> None:
        shown.append(await view(url, viewers))

    with NatsServer() as nats:
        async with (
            Cluster(first, nats.url) as boards[0].cluster,
            Cluster(second, nats.url) as boards[1].cluster,
            first.listen() as here,
            second.listen() as there,
            anyio.create_task_group() as group,
        ):
            group.start_soon(boards[0].sell, sold, viewers)
            await boards[0].half.wait()
            group.start_soon(look, here.url)
            group.start_soon(look, there.url)
    print(f"sold {boards[0].totals}; the viewers show {shown}")
    return boards[0].totals, shown


if __name__ == "__main__":
    anyio.run(main)
