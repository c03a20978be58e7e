"""Three nodes and many clients on NATS, while everything that can break does.

Clients call each other over the nodes, read each other's streams, give jobs to a pool and follow a
topic. Nodes are killed, frozen and drained, NATS is killed or frozen and comes back, and links lose
messages.
A call may end in a typed error while something is broken; it must not hang, be answered wrongly or
run twice, and no item may be lost, doubled or out of order.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

import wsrpc
from wsrpc.cluster.bus.embedded import NatsServer

from .cluster_node import Node, Worker
from .support import Child, Verdict, child, main

__all__ = ["cluster"]

# Seconds: for one call, and after which it counts as hung; between two calls of a client.
TIMEOUT = 30.0
HUNG = 45.0
PAUSE = 1.0

ITEMS = 50


class Net:
    """The nodes that are there."""

    def __init__(self, group: TaskGroup, verdict: Verdict, nats: NatsServer) -> None:
        self.nodes: list[Child] = []
        self.nats = nats
        self.errors_after: list[float] = []
        self.right_after: list[float] = []
        self.left_after: list[float] = []
        self._group = group
        self._verdict = verdict

    async def urls(self) -> list[str]:
        urls = [node.url for node in self.nodes]
        random.shuffle(urls)
        return urls

    async def add(self) -> None:
        self.nodes.append(await self._group.start(self._run))

    async def _run(self, *, task_status: TaskStatus[Child]) -> None:
        async with child(self._verdict, "tests.soak.cluster_node", self.nats.url) as node:
            task_status.started(node)
            await node.ended()

    # ------------------------------------------------------------ what breaks

    async def kill(self) -> None:
        """Kill a node, and look how long the others take to see it."""
        victim, other = random.sample(self.nodes, 2)
        self.nodes.remove(victim)
        module = "tests.soak.cluster_watch"
        where = (victim.url, victim.process.pid, other.url)
        async with child(self._verdict, module, *where) as watch:
            times = [float(word) for word in (await watch.line("times")).split()]
        for told, one in zip(
            (self.errors_after, self.right_after, self.left_after), times, strict=True
        ):
            told.append(one)
        await self.add()

    async def freeze(self) -> None:
        """Stop a node for a while, at times for so long that the others give it up."""
        node = random.choice(self.nodes)
        node.signal(signal.SIGSTOP)
        await anyio.sleep(random.choice([1.0, 3.0, 7.0]))
        node.signal(signal.SIGCONT)

    async def drain(self) -> None:
        """Let a node go, and another come."""
        node = random.choice(self.nodes)
        self.nodes.remove(node)
        await self.add()
        node.signal(signal.SIGTERM)
        ended = await _until(lambda: node.code is not None, 60)
        self._verdict.check("a drained node's exit code", node.code, ended and node.code == 0)

    async def restart(self) -> None:
        """Kill NATS, and start it again."""
        await anyio.to_thread.run_sync(self.nats.stop, signal.SIGKILL)
        await anyio.sleep(random.uniform(0.2, 2.0))
        await anyio.to_thread.run_sync(self.nats.start)

    async def hold(self) -> None:
        """Stop NATS for a while: it keeps its connections, and answers nothing."""
        self.nats.signal(signal.SIGSTOP)
        await anyio.sleep(random.uniform(1, 5))
        self.nats.signal(signal.SIGCONT)

    async def lose(self) -> None:
        """Let links lose messages for a while."""
        node = random.choice(self.nodes)
        async with wsrpc.connect(node.url) as session:
            await session.clientize(Node).lose(0.01)
            await anyio.sleep(3)
            await session.clientize(Node).lose(0.0)


class Client:
    """One client, and what it has seen."""

    def __init__(self, crowd: list[Client], number: int, seed: int) -> None:
        self.crowd = crowd
        self.number = number
        self.worker = Worker()
        self.session: wsrpc.Session | None = None
        self.chance = random.Random(seed * 1000 + number)
        self.seen: Counter[str] = Counter()
        self.answered: set[str] = set()

    async def run(self, net: Net, group: TaskGroup) -> None:
        async with wsrpc.connect(net.urls, controllers=[self.worker], auth="worker") as session:
            self.session = session
            group.start_soon(self.follow, session)
            turn = 0
            while True:
                turn += 1
                await self.one(f"{self.number}.{turn}")
                await anyio.sleep(self.chance.uniform(0, 2 * PAUSE))

    async def one(self, mark: str) -> None:
        """One call, which is answered or ends in a typed error."""
        assert self.session is not None
        node = self.session.clientize(Node, timeout=TIMEOUT)
        other = self.chance.choice(self.crowd).session
        to = self.session.id if other is None else other.id
        kind = self.chance.choice(["ask", "job", "through"])
        with anyio.move_on_after(HUNG) as scope:
            try:
                if kind == "through":
                    got = await node.through(to, ITEMS).collect()
                    self.seen["wrong"] += got != list(range(ITEMS))
                else:
                    answer = await (node.ask(to, mark) if kind == "ask" else node.job(mark))
                    self.seen["wrong"] += answer != mark
                    self.answered.add(mark)
                self.seen["answered"] += 1
            except wsrpc.RpcError as error:
                self.seen[f"error {error.code}"] += 1
        self.seen["hung"] += scope.cancelled_caught

    async def follow(self, session: wsrpc.Session) -> None:
        last = ""
        async for tick in session.clientize(Node, timeout=None).ticks():
            epoch, _, position = tick.id.partition(".")
            before = last.partition(".")
            if last and epoch == before[0]:
                step = int(position) - int(before[2])
                self.seen["lost"] += max(0, step - 1)
                self.seen["duplicated"] += step == 0
                self.seen["reordered"] += step < 0
            elif last:
                self.seen["lost"] += 1
            last = tick.id
            self.seen["ticks"] += 1


async def cluster(
    clients: int = 200, seconds: float = 180.0, seed: int = 1, *, timed: bool = True
) -> bool:
    """Show it; returns whether all is well."""
    verdict = Verdict(f"cluster: 3 nodes, {clients} clients, {seconds:g} s", seed, timed=timed)
    crowd: list[Client] = []
    crowd += [Client(crowd, i, seed) for i in range(clients)]
    faults: Counter[str] = Counter()
    resumed: object = None
    errors_after: list[float] = []
    right_after: list[float] = []
    left_after: list[float] = []
    with NatsServer() as nats:
        async with anyio.create_task_group() as processes:
            net = Net(processes, verdict, nats)
            for _ in range(3):
                await net.add()
            async with anyio.create_task_group() as group:
                for one in crowd:
                    group.start_soon(one.run, net, group)
                await _until(lambda: all(one.seen["ticks"] for one in crowd), 60)
                end = time.monotonic() + seconds
                kinds = [net.kill, net.freeze, net.drain, net.restart, net.hold, net.lose]
                plan = [*kinds]
                while time.monotonic() < end:
                    if not plan:
                        plan = random.sample(kinds, len(kinds))
                    fault = plan.pop(0)
                    faults[fault.__name__] += 1
                    await fault()
                    await anyio.sleep(random.uniform(1, 3))
                before = [(one.seen["ticks"], one.seen["answered"]) for one in crowd]
                pairs = list(zip(crowd, before, strict=True))
                settled = await _until(
                    lambda: all(
                        one.seen["ticks"] > ticks and one.seen["answered"] > answered
                        for one, (ticks, answered) in pairs
                    ),
                    60,
                )
                verdict.check("all go on in the end", settled, settled)
                async with wsrpc.connect(net.urls) as session:
                    known = set(await session.clientize(Node).sessions()) - {session.id}
                    there = {one.session.id for one in crowd if one.session is not None}
                    verdict.zero("sessions that presence does not have", len(there - known))
                    resumed = await session.clientize(Node).resumed()
                errors_after, right_after = net.errors_after, net.right_after
                left_after = net.left_after
                group.cancel_scope.cancel()
            processes.cancel_scope.cancel()
    seen: Counter[str] = Counter()
    runs: Counter[str] = Counter()
    for one in crowd:
        seen += one.seen
        runs.update(one.worker.runs)
    answered: set[str] = set().union(*(one.answered for one in crowd))
    print(f"        faults: {dict(faults)}; resumes and holes at one node: {resumed}")
    print(f"        {dict(sorted(seen.items()))}")
    verdict.zero("calls answered wrongly", seen["wrong"])
    verdict.zero("calls answered that never ran", sum(not runs[mark] for mark in answered))
    verdict.zero("lost", seen["lost"])
    verdict.zero("duplicated", seen["duplicated"] + sum(n > 1 for n in runs.values()))
    verdict.zero("reordered", seen["reordered"])
    verdict.zero("hung", seen["hung"])
    verdict.within("a typed error, from kill -9", errors_after, 2.0)
    verdict.within("presence is right, from kill -9", right_after, 2.0)
    verdict.within("a client has left for another node, from kill -9", left_after, 1.0)
    return verdict.end()


async def _until(condition: Callable[[], bool], seconds: float) -> bool:
    with anyio.move_on_after(seconds):
        while True:
            if condition():
                return True
            await anyio.sleep(0.05)
    return False


if __name__ == "__main__":
    main(cluster)
