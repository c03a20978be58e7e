"""A node of two that drains under load: no call and no item is lost, and all clients move.

Each client follows a topic and a tracked stream and makes short calls, its node's and another client's,
while one node gets SIGTERM.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Awaitable, Callable

import anyio

import wsrpc
from wsrpc.cluster.bus.embedded import NatsServer

from .cluster_node import GRACE, Node, Worker
from .support import Verdict, child, main

__all__ = ["moved"]

# Seconds between two items, and between two calls, of a client; and before and after the drain.
PAUSE = 0.5
AROUND = 3.0


class Client:
    """One client, and what it has seen."""

    def __init__(self, crowd: list[Client], number: int) -> None:
        self.crowd = crowd
        self.number = number
        self.worker = Worker()
        self.session: wsrpc.Session | None = None
        self.seen: Counter[str] = Counter()
        self.errors: list[str] = []

    async def run(self, urls: list[str]) -> None:
        connecting = wsrpc.connect(urls, controllers=[self.worker], auth="worker")
        async with connecting as self.session, anyio.create_task_group() as group:
            group.start_soon(self.noted, self.ticks)
            group.start_soon(self.noted, self.numbers)
            group.start_soon(self.noted, self.calls)

    async def noted(self, what: Callable[[Node], Awaitable[None]]) -> None:
        assert self.session is not None
        try:
            await what(self.session.clientize(Node, timeout=None))
        except wsrpc.WsrpcError as error:
            self.errors.append(repr(error))

    async def ticks(self, node: Node) -> None:
        last = 0
        async for tick in node.ticks():
            position = int(tick.id.partition(".")[2])
            self.note("ticks", position - last if last else 1)
            last = position

    async def numbers(self, node: Node) -> None:
        last = -1
        async for item in node.numbers():
            self.note("numbers", item.value - last)
            last = item.value

    def note(self, what: str, step: int) -> None:
        """An item that is so far from the last one."""
        self.seen[what] += 1
        self.seen["lost"] += max(0, step - 1)
        self.seen["duplicated"] += step == 0
        self.seen["reordered"] += step < 0

    async def calls(self, node: Node) -> None:
        turn = 0
        while True:
            turn += 1
            self.seen["wrong"] += await node.square(turn) != turn * turn
            self.seen["calls"] += 1
            await anyio.sleep(PAUSE)


async def moved(clients: int = 500, seed: int = 1, *, timed: bool = True) -> bool:
    """Show it; returns whether all is well."""
    verdict = Verdict(f"moved: {clients} clients, and one of two nodes drains", seed, timed=timed)
    crowd: list[Client] = []
    crowd += [Client(crowd, i) for i in range(clients)]
    took = 0.0
    left: list[Client] = []
    with NatsServer() as nats:
        module = "tests.soak.cluster_node"
        async with (
            child(verdict, module, nats.url, PAUSE) as going,
            child(verdict, module, nats.url, PAUSE) as staying,
        ):
            async with anyio.create_task_group() as group:
                for one in crowd:
                    urls = [going.url, staying.url]
                    group.start_soon(one.run, urls[:: 1 if one.number % 2 else -1])
                begun = await _all_go_on(crowd, 120)
                verdict.check("all have begun", begun, begun)
                there = {_node(one) for one in crowd}
                verdict.equal("nodes that have clients", len(there), 2)
                await anyio.sleep(AROUND)
                took = await going.end(signal.SIGTERM)
                settled = await _all_go_on(crowd, 60)
                verdict.check("all go on in the end", settled, settled)
                await anyio.sleep(AROUND)
                async with wsrpc.connect(staying.url) as session:
                    stays = session.id.partition("-")[0]
                left = [one for one in crowd if _node(one) != stays]
                group.cancel_scope.cancel()
        verdict.equal("exit code", going.code, 0)
    seen: Counter[str] = Counter()
    for one in crowd:
        seen += one.seen
    errors = [error for one in crowd for error in one.errors]
    print(f"        {dict(sorted(seen.items()))}")
    for error in errors[:5]:
        print(f"        {error}")
    verdict.zero("calls and streams that failed", len(errors))
    verdict.zero("calls answered wrongly", seen["wrong"])
    for what in ("lost", "duplicated", "reordered"):
        verdict.zero(what, seen[what])
    verdict.zero("clients that are not on the other node", len(left))
    verdict.within("the process has ended, from SIGTERM", [took], GRACE + 1)
    return verdict.end()


def _node(client: Client) -> str:
    return "" if client.session is None else client.session.id.partition("-")[0]


async def _all_go_on(crowd: list[Client], seconds: float) -> bool:
    """Wait until each has got something more of each kind."""
    kinds = ("ticks", "numbers", "calls")
    before = [(one, {kind: one.seen[kind] for kind in kinds}) for one in crowd]
    with anyio.move_on_after(seconds):
        while not all(one.seen[kind] > was[kind] for one, was in before for kind in kinds):
            await anyio.sleep(0.05)
        return True
    return False


if __name__ == "__main__":
    main(moved)
