"""Connected pairs whose connection breaks, stalls and lags when a test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import Codec, error_of, soon, turns, until
from tests.support import virtual_anyio_backend as anyio_backend  # noqa: F401
from wsrpc.testing.pairs import connected_pair
from wsrpc.transport.faults import FrameName


class Shop:
    """What a user of the package would test."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.left = 0

    @wsrpc.method
    async def order(self, what: str) -> str:
        self.orders.append(what)
        return f"one {what}"

    @wsrpc.method
    async def stock(self, things: AsyncIterator[str]) -> list[str]:
        return [thing async for thing in things]

    @wsrpc.method
    async def parcels(self, n: int) -> AsyncIterator[int]:
        try:
            for i in range(n):
                yield i
            # Until the customer has gone.
            await anyio.sleep_forever()
        finally:
            self.left += 1


@pytest.mark.parametrize(("frame", "orders"), [("call", []), ("result", ["tea"])])
async def test_a_cut_before_a_kind_of_frame(
    codec: Codec, frame: FrameName, orders: list[str]
) -> None:
    shop = Shop()
    pair = connected_pair([shop], codec=codec)
    pair.cut(before=frame)
    with soon():
        async with pair as (server, client):
            with pytest.raises(wsrpc.ConnectionLost) as caught:
                await client.clientize(Shop).order("tea")
            assert (caught.value.close_code, caught.value.not_started) == (1006, False)
            await until(lambda: server.closed and client.closed)
    assert (shop.orders, pair.cuts) == (orders, 1)


async def test_what_arrived_before_a_cut_is_handed_over() -> None:
    pair = connected_pair([Shop()])
    pair.cut(after="result")
    with soon():
        async with pair as (_, client):
            assert await client.clientize(Shop).order("tea") == "one tea"
            assert (await client.wait_closed()).close_code == 1006


async def test_a_cut_falls_between_two_frames_of_one_message(codec: Codec) -> None:
    pair = connected_pair([Shop()], codec=codec)
    with soon():
        async with pair as (_, client):
            await until(lambda: pair.frames("connecting") == 2)
            first = pair.frames()
            pair.cut(before=first + 3)
            async with anyio.create_task_group() as group:
                # Five calls, of which one message is made.
                for n in range(5):
                    group.start_soon(lost, client, str(n))
            assert pair.frames() == first + 3


async def test_a_stall_falls_between_two_frames_of_one_message(codec: Codec) -> None:
    shop = Shop()
    pair = connected_pair([shop], codec=codec)
    with soon():
        async with pair as (_, client):
            await until(lambda: pair.frames("connecting") == 2)
            first = pair.frames()
            pair.stall(before=first + 3)
            async with anyio.create_task_group() as group:
                for n in range(5):
                    group.start_soon(client.clientize(Shop).order, str(n))
                await until(lambda: len(shop.orders) == 3)
                await turns()
                assert (len(shop.orders), pair.frames()) == (3, first + 3)
                pair.mend()
            assert sorted(shop.orders) == [*"01234"]


async def lost(client: wsrpc.Session, what: str) -> None:
    with pytest.raises(wsrpc.ConnectionLost):
        await client.clientize(Shop).order(what)


@pytest.mark.rule("CLOSE-4", "CLOSE-5")
@pytest.mark.parametrize("where", ["before", "after"])
async def test_the_connection_can_be_cut_at_each_frame_in_turn(where: str, codec: Codec) -> None:
    tried = 0
    for index in count():
        shop = Shop()
        pair = connected_pair([shop], codec=codec, limits=wsrpc.Limits(window=2))
        received: list[int] = []
        with soon():
            async with pair as (server, client):
                first = pair.frames()
                at: Any = {where: first + index}
                pair.cut(**at)
                try:
                    await client.clientize(Shop).order("tea")
                    async with client.clientize(Shop).parcels(5) as stream:
                        async for parcel in stream:
                            received.append(parcel)
                            if len(received) == 5:
                                break
                except wsrpc.ConnectionLost:
                    arrived = pair.frames() - first
                    await until(lambda: server.closed and client.closed)
                    assert pair.frames() - first == arrived == index + (where == "after")
        assert received == [*range(len(received))]
        if not pair.cuts:
            assert (received, shop.left) == ([*range(5)], 1)
            break
        tried += 1
    # A call, a stream of five items with credit for two, and a cancel.
    assert tried >= 8


async def test_a_cut_at_once() -> None:
    shop = Shop()
    pair = connected_pair([shop])
    with pytest.raises(RuntimeError, match="nothing is connected yet"):
        pair.cut()
    with soon():
        async with pair as (_, client):
            stream = client.clientize(Shop).parcels(1)
            assert await anext(stream) == 0
            pair.cut()
            with error_of("unavailable"):
                await anext(stream)
            await until(lambda: shop.left == 1)
            assert pair.cuts == 1
            # There is nothing left to cut.
            pair.cut()
            assert pair.cuts == 1


async def test_a_cut_loses_what_is_on_its_way() -> None:
    shop = Shop()
    pair = connected_pair([shop])
    with soon():
        async with pair as (_, client):
            pair.delay(10)
            async with anyio.create_task_group() as group:
                group.start_soon(lost, client, "tea")
                await turns()
                pair.cut()
    assert shop.orders == []


async def test_before_the_hello_there_is_no_session() -> None:
    for at in (0, 1):
        pair = connected_pair([Shop()])
        pair.cut(before=at)
        with soon(), pytest.raises(wsrpc.ConnectError, match="broke before the server said hello"):
            async with pair:
                raise AssertionError("entered")


async def test_on_a_stalled_connection_nothing_arrives_and_nothing_fails(codec: Codec) -> None:
    shop = Shop()
    pair = connected_pair([shop], codec=codec)
    with soon():
        async with pair as (server, client):
            pair.stall()
            with anyio.move_on_after(0.02) as scope:
                await client.clientize(Shop).order("tea")
            assert scope.cancelled_caught
            assert (server.closed, client.closed) == (False, False)
            assert shop.orders == []
            pair.mend()
            assert await client.clientize(Shop).order("milk") == "one milk"


async def test_a_stall_of_one_side_lets_the_other_be_heard(codec: Codec) -> None:
    shop = Shop()
    pair = connected_pair([shop], codec=codec)
    pair.stall(after="call", sender="connecting")
    with soon():
        async with pair as (_, client):
            shops = client.clientize(Shop)
            outcomes: list[str] = []

            async def order(what: str) -> None:
                outcomes.append(await shops.order(what))

            async with anyio.create_task_group() as group:
                # Two calls in one message: it is stalled between them.
                group.start_soon(order, "tea")
                group.start_soon(order, "tea")
                await until(lambda: outcomes == ["one tea"])
                await turns()
                assert shop.orders == ["tea"]
                pair.mend()
            assert outcomes == ["one tea", "one tea"]


async def test_a_stall_can_end_in_a_cut() -> None:
    pair = connected_pair([Shop()])
    with soon():
        async with pair as (_, client):
            pair.stall()
            async with anyio.create_task_group() as group:
                group.start_soon(lost, client, "tea")
                await turns()
                pair.cut()


async def test_closing_a_stalled_session_is_not_heard_at_the_other_end() -> None:
    with soon():
        pair = connected_pair([Shop()])
        async with pair as (server, client):
            pair.stall()
            await client.aclose()
            await turns()
            assert client.closed
            assert not server.closed
            pair.mend()
            assert (await server.wait_closed()).close_code == 1000


async def test_a_pair_with_a_full_and_stalled_connection_is_left_at_once() -> None:
    shop = Shop()
    pair = connected_pair([shop], limits=wsrpc.Limits(outbox=10_000, close_timeout=60))
    with soon():
        async with pair as (_, client):
            pair.stall()
            async with anyio.create_task_group() as group:
                for _ in range(100):
                    group.start_soon(client.clientize(Shop).order, "x" * 60_000)
                await until(lambda: client.outbox_bytes > 10_000)
                group.cancel_scope.cancel()
    assert shop.orders == []


async def test_a_delayed_message_is_not_overtaken() -> None:
    pair = connected_pair([Shop()])

    async def things() -> AsyncIterator[str]:
        pair.delay(0.02, sender="connecting")
        yield "first"
        await turns()
        pair.delay(0)
        yield "second"

    with soon():
        async with pair as (_, client):
            assert await client.clientize(Shop).stock(things()) == ["first", "second"]
