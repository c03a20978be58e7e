"""Nodes that are stopped while they begin, and in the midst of everything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import pytest

import wsrpc
from tests.cluster.support import QUICK, BusKind, Worker, bus_of, net
from tests.support import until
from wsrpc.cluster import Cluster, LocalBus


@pytest.mark.parametrize("after", [*range(12), 20, 40])
async def test_a_node_that_is_cancelled_while_it_begins_leaves_nothing(
    bus: BusKind, after: int
) -> None:
    with bus_of(bus) as make, anyio.fail_after(30):
        ended = anyio.Event()

        async def run() -> None:
            server = wsrpc.Server([Worker()])
            try:
                async with Cluster(server, make(), limits=QUICK), server.listen():
                    await anyio.sleep_forever()
            finally:
                ended.set()

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            for _ in range(after):
                await anyio.sleep(0.002 if bus == "nats" else 0)
            group.cancel_scope.cancel()
        # One that begins in its place is not disturbed.
        async with Cluster(wsrpc.Server([]), make(), limits=QUICK) as again:
            assert again.snapshot().nodes == {"up": 1}


async def endings(what: dict[str, Callable[[], Awaitable[Any]]], found: dict[str, str]) -> None:
    """Note how each of these ends."""

    async def one(name: str, fn: Callable[[], Awaitable[Any]]) -> None:
        try:
            found[name] = f"returned {await fn()!r:.30}"
        except wsrpc.RpcError as error:
            found[name] = error.code
        except RuntimeError as error:
            found[name] = f"RuntimeError: {error}"

    async with anyio.create_task_group() as group:
        for name, fn in what.items():
            group.start_soon(one, name, fn)


class Busy:
    @wsrpc.method
    async def eat(self, items: AsyncIterator[int]) -> int:
        return len([item async for item in items])

    @wsrpc.method
    async def ask(self, question: Callable[[int], Awaitable[int]]) -> int:
        return await question(1)


@pytest.mark.parametrize("who", ["the caller's node", "the client's node"])
async def test_a_node_that_leaves_in_the_midst_of_everything_ends_all_with_a_typed_error(
    bus: BusKind, who: str
) -> None:
    async with net(bus, 2) as nodes:
        here, there = nodes.places
        worker = Worker()
        client = await there.connect(worker, Busy())
        await there.cluster.group("room").join(there.has(client))
        await there.cluster.pool("jobs").add(there.has(client))
        await until(lambda: here.cluster.presence.count(group="room") == 1)
        proxy = here.cluster.session(client.id).clientize(Busy, timeout=None)
        waiting = here.cluster.session(client.id).clientize(Worker, timeout=None)

        async def endless() -> AsyncIterator[int]:
            while True:
                yield 1
                await anyio.sleep(0.01)

        async def never(n: int) -> int:
            await anyio.sleep_forever()
            return n

        async def read() -> int:
            n = 0
            async for _ in waiting.endless():
                n += 1
                await anyio.sleep(0.001)
            return n

        async def watch() -> int:
            return len([change async for change in here.cluster.presence.watch()])

        async def ticks() -> int:
            return len([item async for item in here.cluster.topic("n", int).subscribe(wait=None)])

        async def replies() -> list[str | None]:
            room = here.cluster.group("room").options(timeout=20)
            return [one.error.code if one.error else None for one in await room.call(Worker.wait)]

        found: dict[str, str] = {}

        async def all_of_it() -> None:
            await endings(
                {
                    "call": waiting.wait,
                    "stream": read,
                    "upload": lambda: proxy.eat(endless()),
                    "callback": lambda: proxy.ask(never),
                    "group": replies,
                    "pool": lambda: here.cluster.pool("jobs").call(Worker.wait),
                    **({} if bus == "nats" else {"topic": ticks}),
                    "presence": watch,
                    "pool, waiting": lambda: here.cluster.pool("none").call(Worker.wait),
                },
                found,
            )

        with anyio.move_on_after(20) as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(all_of_it)
                await until(lambda: worker.live >= 3)
                await nodes.remove(here if who == "the caller's node" else there)
                await anyio.sleep(0.5)
                kept = (
                    {"pool, waiting", "presence", "topic"} if who == "the client's node" else set()
                )
                started = 8 if bus == "nats" else 9
                await until(lambda: len(found) >= started - len(kept))
                # On the node that stays these go on waiting, as they were told to.
                assert not kept & set(found)
                group.cancel_scope.cancel()
        assert not scope.cancelled_caught
        assert found.pop("presence", "returned 1").startswith("returned ")
        assert set(found.values()) <= {"unavailable", "returned ['unavailable']"}, found


async def test_a_bus_in_memory_can_be_closed_at_any_time() -> None:
    bus = LocalBus()
    async with Cluster(wsrpc.Server([]), bus, limits=QUICK):
        await bus.close()
        await anyio.sleep(0.3)
