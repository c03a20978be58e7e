"""Kills a node and looks how long the rest of the cluster takes to see it.

`python -m tests.soak.cluster_watch VICTIM-URL VICTIM-PID OTHER-URL` prints `ready` and then `times`
and three numbers of seconds, from kill -9: until a caller has its typed error, until presence is
right, and until a client of the victim goes on elsewhere. It is a process of its own, since those
that make the load have no time to look.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import anyio

import wsrpc

from .cluster_node import Node, Worker


class Watch:
    """What one kill led to, in seconds."""

    def __init__(self) -> None:
        self.died = 0.0
        self.told = self.right = self.left = 0.0

    async def caller(self, node: Node, id: str) -> None:
        try:
            await node.hang(id)
        except wsrpc.RpcError:
            self.told = time.monotonic() - self.died

    async def presence(self, node: Node, prefix: str) -> None:
        while any(one.startswith(prefix) for one in await node.sessions()):
            await anyio.sleep(0.02)
        self.right = time.monotonic() - self.died

    async def client(self, session: wsrpc.Session) -> None:
        old = session.id
        while session.id == old or session.state != "connected":
            await anyio.sleep(0.01)
        self.left = time.monotonic() - self.died


async def main(victim: str, pid: int, other: str) -> None:
    watch = Watch()
    async with (
        wsrpc.connect(other) as near,
        wsrpc.connect(victim, controllers=[Worker()], reconnect=False) as far,
        wsrpc.connect([victim, other]) as leaving,
        anyio.create_task_group() as group,
    ):
        node = near.clientize(Node, timeout=None)
        while far.id not in await node.sessions():
            await anyio.sleep(0.05)
        print("ready", flush=True)
        group.start_soon(watch.caller, node, far.id)
        await anyio.sleep(0.3)
        os.kill(pid, signal.SIGKILL)
        watch.died = time.monotonic()
        group.start_soon(watch.presence, node, far.id.partition("-")[0])
        group.start_soon(watch.client, leaving)
    print(f"times {watch.told} {watch.right} {watch.left}", flush=True)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3])
