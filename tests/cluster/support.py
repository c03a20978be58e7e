"""What tests of clusters share: a node with its clients, and workers that they expose."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup, TaskStatus

import wsrpc
from tests.support import soon
from wsrpc.cluster import Cluster, ClusterLimits


class Worker:
    """What clients expose."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.notes: list[str] = []
        self.live = 0
        self.peak = 0
        self.ended = 0
        self.release = anyio.Event()

    @wsrpc.method
    async def whoami(self) -> str:
        return self.name

    @wsrpc.method(idempotent=True)
    async def square(self, n: int) -> int:
        return n * n

    @wsrpc.method(oneway=True)
    async def note(self, text: str) -> None:
        self.notes.append(text)

    @wsrpc.method
    async def fail(self) -> str:
        raise wsrpc.RpcError("not_found", f"{self.name} has none")

    @wsrpc.method
    async def wait(self) -> str:
        self.live += 1
        self.peak = max(self.peak, self.live)
        try:
            await self.release.wait()
        finally:
            self.live -= 1
            self.ended += 1
        return self.name

    @wsrpc.method(idempotent=True)
    async def wait_safely(self) -> str:
        return await self.wait()

    @wsrpc.method
    async def count(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    @wsrpc.method
    async def endless(self) -> AsyncIterator[int]:
        i = 0
        try:
            while True:
                yield i
                i += 1
        finally:
            self.ended += 1


class Place:
    """One node, and a way to its server."""

    def __init__(self, cluster: Cluster, server: wsrpc.Server, url: str, group: TaskGroup) -> None:
        self.cluster = cluster
        self.server = server
        self.url = url
        self.group = group
        self.over = anyio.Event()

    async def connect(self, *controllers: Any, **options: Any) -> wsrpc.Session:
        """One more client, which stays to the end of the test."""
        connecting = wsrpc.connect(self.url, controllers=controllers, **options)
        session: wsrpc.Session = await self.group.start(self._stay, connecting)
        return session

    async def _stay(self, connecting: wsrpc.connect, *, task_status: TaskStatus[Any]) -> None:
        async with connecting as session:
            task_status.started(session)
            await self.over.wait()

    async def workers(self, n: int) -> list[tuple[wsrpc.Session, Worker]]:
        """So many clients that expose a worker each."""
        found = []
        for i in range(n):
            worker = Worker(f"w{i}")
            found.append((await self.connect(worker), worker))
        return found

    def has(self, session: wsrpc.Session) -> wsrpc.Session:
        """The server's end of a session."""
        return self.server.sessions[session.id]


@asynccontextmanager
async def node(
    controllers: Sequence[Any] = (), *, limits: ClusterLimits | None = None, **options: Any
) -> AsyncIterator[Place]:
    """A cluster of one node, with a server on a socket, for a bounded time."""
    server = wsrpc.Server(controllers, **options)
    with soon():
        async with (
            Cluster(server, limits=limits) as cluster,
            server.listen() as listener,
            anyio.create_task_group() as group,
        ):
            place = Place(cluster, server, listener.url, group)
            try:
                yield place
            finally:
                place.over.set()
