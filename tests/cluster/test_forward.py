"""Resume at any node, and nodes that drain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

import wsrpc
from tests.cluster.support import BusKind, Worker, net
from tests.hostile.raw import raw_link
from tests.support import Peer, soon, until, visited, wire_of
from wsrpc.cluster import ClusterLimits


class Numbers:
    @wsrpc.method
    async def numbers(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    @wsrpc.method
    async def tracked(self, n: int) -> AsyncIterator[wsrpc.Tracked[int]]:
        last = wsrpc.current().last_id
        for i in range(0 if last is None else int(last) + 1, n):
            await anyio.sleep(0)
            yield wsrpc.Tracked(str(i), i)

    @wsrpc.method(idempotent=True)
    async def square(self, n: int) -> int:
        return n * n


async def code_for_resuming(server: wsrpc.Server, token: str) -> int:
    """The close code with which a server answers an attempt to resume."""
    async with visited(server) as visit:
        peer = visit()
        await peer.send(resuming(token))
        return await close_code(peer)


async def test_any_node_accepts_a_resume_for_any_other(bus: BusKind) -> None:
    async with net(bus, 0) as nodes:
        here, there = await nodes.add([Numbers()]), await nodes.add([Numbers()])
        urls = [here.url]

        async def url() -> list[str]:
            return list(urls)

        session = await here.connect()
        await session.aclose()
        moving = wsrpc.connect(url, controllers=[Worker("me")])
        async with moving as session:
            id = session.id
            got = []
            async with session.clientize(Numbers).numbers(3000) as items:
                async for item in items:
                    got.append(item)
                    if item == 1000:
                        urls[:] = [there.url]
                        link = wire_of(here.server.sessions[id]).link
                        assert link is not None
                        link.abort()
            assert got == list(range(3000))
            assert session.id == id
            assert id in here.server.sessions
            assert there.cluster.snapshot().forwarded == 1
            # It can be called where it is, and everywhere else.
            for place in nodes.places:
                proxy = place.cluster.session(id).clientize(Worker)
                assert await proxy.whoami() == "me"


def resuming(token: str) -> list[Any]:
    """A hello that resumes."""
    return ["hello", {"version": 1, "token": token, "link": 2, "received": 0, "window": 32}]


async def close_code(peer: Peer) -> int:
    with soon():
        return await peer.closed()


async def test_a_token_of_a_dead_node_is_told_so_at_once() -> None:
    async with net("local") as nodes:
        here, there = nodes.places
        async with visited(there.server) as visit:
            hello = await visit().say_hello()
            token = hello[1]["token"]
        assert token.startswith(f"{there.cluster.id}.")
        await nodes.remove(there)
        network = here.cluster.network
        assert network is not None
        await until(lambda: network.settled_in)
        async with visited(here.server) as visit:
            for lost in (token, "0123456789.abc", "no-dot", "a b.c"):
                peer = visit()
                await peer.send(resuming(lost))
                assert await close_code(peer) == 4010


async def test_a_client_need_not_wait_for_the_verdict_to_leave_a_node_at_which_nobody_listens() -> (
    None
):
    limits = ClusterLimits(beat=0.2, suspect=0.3, grace=30.0)
    async with net("local", limits=limits) as nodes:
        here, there = nodes.places
        async with visited(there.server) as visit:
            hello = await visit().say_hello()
            nodes.buses[1].cut()
            try:
                assert await code_for_resuming(here.server, hello[1]["token"]) == 4010
                assert here.cluster.nodes[there.cluster.id].state in ("up", "suspect")
            finally:
                nodes.buses[1].mend()


async def test_a_client_that_resumes_right_after_an_outage_of_nats_keeps_its_session() -> None:
    limits = ClusterLimits(beat=0.2, suspect=0.3, grace=30.0, reconnecting=30.0)
    async with net("local", limits=limits) as nodes:
        here, there = nodes.places
        async with visited(there.server) as visit:
            hello = await visit().say_hello()
            for bus in nodes.buses:
                bus.cut()
            nodes.buses[0].mend()
            try:
                assert await code_for_resuming(here.server, hello[1]["token"]) == 1013
            finally:
                nodes.buses[1].mend()


async def test_a_forward_to_a_node_that_does_not_answer_is_to_be_tried_again() -> None:
    async with net("local") as nodes:
        here, there = nodes.places
        async with visited(there.server) as visit:
            hello = await visit().say_hello()
            nodes.buses[1].freeze()
            try:
                assert await code_for_resuming(here.server, hello[1]["token"]) == 1013
            finally:
                nodes.buses[1].thaw()


@pytest.mark.parametrize("clients", [20, pytest.param(500, marks=pytest.mark.slow)])
async def test_draining_a_node_under_load(clients: int, anyio_backend_name: str) -> None:
    """No call is lost, no item lost or doubled, and every client ends up on the other node."""
    if anyio_backend_name == "trio" and clients > 20:
        pytest.skip("the same at another speed")
    items, calls = 20, 0
    pause = 0.0005 * clients
    wrong: list[tuple[int, object, int]] = []
    async with net("local", 0) as nodes:
        here = await nodes.add([Numbers()], limits=wsrpc.Limits(drain_grace=5.0))
        there = await nodes.add([Numbers()])
        over = anyio.Event()
        connected = 0
        moved = 0

        async def client(i: int) -> None:
            nonlocal connected, calls, moved
            async with wsrpc.connect([here.url, there.url]) as session:
                connected += 1
                numbers = session.clientize(Numbers)
                async with numbers.tracked(1_000_000) as stream:
                    expected = 0
                    while expected < items or not over.is_set() or session.id.startswith(old):
                        item = await anext(stream)
                        if item.value != expected:
                            wrong.append((i, item.value, expected))
                        expected += 1
                        if expected % 10 == 0:
                            if await numbers.square(i) != i * i:
                                wrong.append((i, "call", i))
                            calls += 1
                        await anyio.sleep(pause)
                moved += 1

        old = here.cluster.id
        async with anyio.create_task_group() as group:
            for i in range(clients):
                group.start_soon(client, i)
            with anyio.fail_after(40):
                while connected < clients:
                    await anyio.sleep(0.05)
            await until(lambda: calls >= clients)
            await here.cluster.drain(5.0)
            await until(lambda: not here.server.sessions)
            over.set()
        assert wrong == []
        assert moved == clients


class Flood:
    @wsrpc.method
    async def texts(self) -> AsyncIterator[str]:
        while True:
            yield "x" * 60_000


async def test_a_client_of_another_node_that_does_not_read_is_given_up(bus: BusKind) -> None:
    limits = wsrpc.Limits(stall_timeout=1.0, replay=64 << 20, window=10_000, heartbeat_interval=0)
    async with net(bus, 0) as nodes:
        here = await nodes.add([Flood()], limits=limits)
        there = await nodes.add([Flood()], limits=limits)
        async with raw_link(here.url, "json") as first:
            body = await first.hello()
        async with raw_link(there.url, "json") as frozen:
            await frozen.send(resuming(str(body["token"])))
            await frozen.next("hello")
            assert there.cluster.snapshot().forwarded == 1
            await frozen.send(["call", 1, "Flood.texts", {}, {"credit": 10_000}])
            # Its kernel takes some; then this node has bytes that the client does not take.
            await until(lambda: there.cluster.snapshot().forwarded == 0)
        await until(lambda: not here.server.sessions)
