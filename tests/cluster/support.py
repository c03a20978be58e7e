"""What tests of clusters share: a node with its clients, and workers that they expose."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

import anyio
from anyio.abc import TaskGroup, TaskStatus

import wsrpc
from tests.support import soon, until
from wsrpc import runtime as runtimes
from wsrpc.cluster import Cluster, ClusterLimits, LocalBroker, LocalBus
from wsrpc.cluster.bus.base import Bus
from wsrpc.cluster.bus.embedded import NatsServer


async def as_given(handshake: object, auth: object) -> object:
    """The principal of a client: the credentials that it gave."""
    return auth


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


BusKind = Literal["local", "nats"]


@contextmanager
def bus_of(kind: BusKind, *, jetstream: bool = False) -> Iterator[Callable[[], Bus]]:
    """Makes one bus a node, all in the same net."""
    if kind == "local":
        broker = LocalBroker()
        yield lambda: LocalBus(broker)
        return
    from wsrpc.cluster.bus.nats import NatsBus
    from wsrpc.cluster.bus.thread import ThreadBus

    def make() -> Bus:
        bus = NatsBus(server.url, name="wsrpc")
        on_asyncio = isinstance(runtimes.current(), runtimes.AsyncioRuntime)
        return bus if on_asyncio else ThreadBus(bus)

    with NatsServer(jetstream=jetstream) as server:
        yield make


# With these a dead node is found soon, and a busy machine is not taken for a dead one.
QUICK = ClusterLimits(beat=0.2, suspect=1.0, grace=0.3, dead_after=6.0, reconnecting=0.5)


class Net:
    """Several nodes, each with a server."""

    def __init__(self, group: TaskGroup, make: Callable[[], Bus], limits: ClusterLimits) -> None:
        self.places: list[Place] = []
        self.buses: list[Any] = []
        self._group = group
        self._make = make
        self._limits = limits
        self._leave: dict[str, tuple[anyio.Event, anyio.Event]] = {}

    async def add(self, controllers: Sequence[Any] = (), **options: Any) -> Place:
        """One more node; all know each other when this returns."""
        bus = self._make()
        place: Place = await self._group.start(self._run, bus, controllers, options)
        self.places.append(place)
        self.buses.append(bus)
        await until(lambda: all(len(one.cluster.nodes) == len(self.places) for one in self.places))
        return place

    async def _run(
        self, bus: Bus, controllers: Sequence[Any], options: Any, *, task_status: TaskStatus[Any]
    ) -> None:
        server = wsrpc.Server(controllers, **options)
        leave, left = anyio.Event(), anyio.Event()
        async with (
            Cluster(server, bus, limits=self._limits) as cluster,
            server.listen() as listener,
            anyio.create_task_group() as group,
        ):
            self._leave[cluster.id] = leave, left
            place = Place(cluster, server, listener.url, group)
            task_status.started(place)
            await leave.wait()
            place.over.set()
        left.set()

    async def remove(self, place: Place) -> None:
        """Let a node leave."""
        leave, left = self._leave[place.cluster.id]
        leave.set()
        await left.wait()
        if place in self.places:
            at = self.places.index(place)
            del self.places[at], self.buses[at]

    def end(self) -> None:
        """Let all leave."""
        for leave, _ in self._leave.values():
            leave.set()


@asynccontextmanager
async def net(
    kind: BusKind = "local", n: int = 2, *, limits: ClusterLimits = QUICK, jetstream: bool = False
) -> AsyncIterator[Net]:
    """So many nodes in one net, for a bounded time."""
    with bus_of(kind, jetstream=jetstream) as make:
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                nodes = Net(group, make, limits)
                try:
                    for _ in range(n):
                        await nodes.add()
                    yield nodes
                finally:
                    nodes.end()
