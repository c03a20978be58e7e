"""The bytes that calls between nodes make a node hold: each of them has a bound."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import wsrpc
from tests.cluster.support import QUICK, net
from tests.hostile.raw import raw_link
from tests.support import Codec, live, until
from wsrpc.cluster import ClusterLimits

KIB = 1024
SIZE = 128 * KIB


class Large:
    """The controller of the clients: large values in each direction."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = anyio.Event()

    @wsrpc.method
    async def ping(self) -> int:
        return 1

    @wsrpc.method
    async def text(self, size: int) -> str:
        self.begun += 1
        await self.go.wait()
        return "x" * size

    @wsrpc.method
    async def fail(self, size: int) -> str:
        self.begun += 1
        await self.go.wait()
        raise wsrpc.RpcError("not_found", "none", data="x" * size)

    @wsrpc.method
    async def items(self, n: int, size: int) -> AsyncIterator[str]:
        self.begun += 1
        await self.go.wait()
        for _ in range(n):
            yield "x" * size

    @wsrpc.method
    async def eat(self, items: AsyncIterator[str]) -> int:
        return len([item async for item in items])


def small(**changes: Any) -> ClusterLimits:
    fields = {name: getattr(QUICK, name) for name in ClusterLimits.__slots__}
    return ClusterLimits(**{**fields, "dead_after": 30.0, **changes})


@pytest.mark.parametrize("what", ["text", "fail", "items"])
async def test_what_a_client_answers_a_node_that_does_not_read_counts_as_held_for_the_client(
    codec: Codec, what: str
) -> None:
    calls = 30
    async with net("local", limits=small(tunnel_outbox=2 * SIZE)) as nodes:
        here, there = nodes.places
        large = Large()
        session = await there.connect(large, codec=codec)
        proxy = here.cluster.session(session.id).clientize(Large, timeout=None)
        assert await proxy.ping() == 1
        found: list[int] = []

        async def one() -> None:
            if what == "text":
                found.append(len(await proxy.text(SIZE)))
            elif what == "fail":
                with pytest.raises(wsrpc.RpcError) as caught:
                    await proxy.fail(SIZE)
                found.append(len(caught.value.data))
            else:
                found.append(sum([len(item) async for item in proxy.items(1, SIZE)]))

        wire = live(there.has(session)).wire
        async with anyio.create_task_group() as group:
            for _ in range(calls):
                group.start_soon(one)
            await until(lambda: large.begun == calls)
            nodes.buses[0].freeze()
            large.go.set()
            least = (calls - 8) * SIZE if what != "items" else SIZE
            await until(lambda: wire.hub.taken >= least)
            # The outbox and one value, and frames that are kept until they are acked.
            assert there.cluster.snapshot().tunnel_bytes <= 4 * SIZE + KIB * 256
            assert there.server.snapshot().held_bytes >= least
            nodes.buses[0].thaw()
        assert found == [SIZE] * calls
        assert wire.hub.taken == 0


@pytest.mark.slow
async def test_uploads_to_a_client_that_does_not_read_stay_within_its_bound() -> None:
    bound = 8 * SIZE
    limits = wsrpc.Limits(
        max_session_bytes=bound, max_value=2 * SIZE, stall_timeout=3.0, resume_window=1
    )
    async with net("local", n=0, limits=small()) as nodes:
        here = await nodes.add()
        there = await nodes.add(limits=limits)
        codes: list[str] = []
        most = 0
        async with raw_link(there.url, "json") as frozen, anyio.create_task_group() as group:
            body = await frozen.hello(
                limits={"max_value": 16 << 20, "max_held": 32 << 20, "max_calls": 1000}
            )
            id = str(body["session"])
            await until(lambda: here.cluster.presence.count() == 1)
            proxy = here.cluster.session(id).clientize(Large, timeout=None)

            async def items() -> AsyncIterator[str]:
                while True:
                    yield "x" * SIZE

            async def one() -> None:
                with pytest.raises(wsrpc.RpcError) as caught:
                    await proxy.eat(items())
                codes.append(caught.value.code)

            for _ in range(200):
                group.start_soon(one)
            while len(codes) < 200:
                most = max(most, there.server.snapshot().held_bytes)
                await anyio.sleep(0.002)
        assert set(codes) <= {"resource_exhausted", "unavailable"}
        assert bound < most <= bound + limits.max_value + 4 * SIZE
        await until(lambda: there.server.snapshot().held_bytes == 0)


async def test_an_upload_of_large_items_to_a_client_that_reads_is_whole(codec: Codec) -> None:
    async with net("local", limits=small()) as nodes:
        here, there = nodes.places
        session = await there.connect(Large(), codec=codec)
        proxy = here.cluster.session(session.id).clientize(Large, timeout=None)
        found: list[int] = []

        async def items() -> AsyncIterator[str]:
            for _ in range(20):
                yield "x" * SIZE

        async def one() -> None:
            found.append(await proxy.eat(items()))

        async with anyio.create_task_group() as group:
            for _ in range(12):
                group.start_soon(one)
        assert found == [20] * 12
        assert live(there.has(session)).wire.hub.taken == 0
