"""What one consumer that does not read costs everybody else, in numbers.

Rates are counted in items a turn of the event loop, memory by `tracemalloc` and by what the
package itself counts: neither depends on how busy the machine is.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import anyio
import pytest
from pydantic import BaseModel

import wsrpc
from tests.support import full_only, pair, turns, until, wire_of

WINDOW = wsrpc.Limits().window
WINDOW_BYTES = wsrpc.Limits().window_bytes

KIB = 1024


class Quote(BaseModel):
    symbol: str
    price: int


class Market:
    """Quotes as fast as they are wanted, and some other things."""

    def __init__(self) -> None:
        self.produced = 0
        self.tick = anyio.Event()
        self.live = 0
        self.most_live = 0
        self.begun = 0
        self.cleaned = 0

    @wsrpc.method
    async def quotes(self, n: int | None = None) -> AsyncIterator[Quote]:
        quote = Quote(symbol="ACME", price=12_345)
        while n is None or n > 0:
            yield quote
            n = None if n is None else n - 1

    @wsrpc.method
    async def counted(self) -> AsyncIterator[str]:
        while True:
            self.produced += 1
            yield f"{self.produced:098}"

    @wsrpc.method
    async def texts(self, n: int) -> AsyncIterator[str]:
        """Items of 1,000 bytes."""
        for _ in range(n):
            self.produced += 1
            yield f"{self.produced:0998}"

    @wsrpc.method
    async def ticks(self) -> AsyncIterator[int]:
        """One item each time that `tick` is set."""
        while True:
            await self.tick.wait()
            self.tick = anyio.Event()
            self.produced += 1
            yield self.produced

    @wsrpc.method
    async def take(self, n: int, items: AsyncIterator[str]) -> int:
        """Take `n` items, and then no more but hold on to them all."""
        taken = 0
        while taken < n:
            await anext(items)
            taken += 1
        await anyio.sleep_forever()
        return taken

    @wsrpc.method
    async def wait(self) -> None:
        self.begun += 1
        self.live += 1
        self.most_live = max(self.most_live, self.live)
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(0)
            self.live -= 1
            self.cleaned += 1


@contextmanager
def growth() -> Iterator[Callable[[], int]]:
    """Bytes by which memory has grown since the beginning of the block."""
    gc.collect()
    tracemalloc.start()
    try:

        def grown() -> int:
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        yield grown
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------------------------ streams


async def rate(*, beside_unread: bool) -> int:
    """Items that 99 readers of endless streams get in 120 turns, their windows full grown."""
    got = delivered = 0

    async def read(stream: wsrpc.Stream[Quote]) -> None:
        nonlocal got
        async for _ in stream:
            got += 1

    async with pair([Market()], limits=wsrpc.Limits(window_bytes=2048)) as (_, client):
        market = client.clientize(Market)
        hundredth = market.quotes()
        if beside_unread:
            await anext(hundredth)
        async with anyio.create_task_group() as group:
            for _ in range(99):
                group.start_soon(read, market.quotes())
            await turns(20)
            before = got
            await turns(120)
            delivered = got - before
            assert hundredth.lag == (WINDOW - 1 if beside_unread else 0)
            group.cancel_scope.cancel()
    return delivered


@pytest.mark.slow
@pytest.mark.rule("CALL-6", "CREDIT-2")
async def test_one_unread_stream_of_a_hundred_leaves_the_others_their_rate() -> None:
    # trio picks the order of tasks by chance, and counts differ by a few percent from run to run.
    alone = min([await rate(beside_unread=False) for _ in range(2)])
    beside = max([await rate(beside_unread=True) for _ in range(2)])
    assert beside >= 0.9 * alone > 0


async def test_an_unread_stream_holds_its_own_items_and_no_more() -> None:
    """Each of them comes in a batch of 64 KiB with other streams' items; none keeps its batch."""
    market = Market()

    async def read(n: int) -> None:
        async for _ in client.clientize(Market).quotes(n):
            market.tick.set()

    async def read_ten() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(read, 2000)

    async with pair([market]) as (server, client):
        await read_ten()
        with growth() as grown:
            async with client.clientize(Market).ticks() as unread:
                market.tick.set()
                await anext(unread)
                while market.produced < WINDOW:
                    await read_ten()
                await read_ten()
                assert market.produced == WINDOW
                assert unread.lag == WINDOW - 1
                assert server.outbox_bytes == client.outbox_bytes == 0
                assert grown() < 192 * KIB


@pytest.mark.parametrize(("overflow", "most"), [("latest", 1000), ("drop_oldest", 32_000)])
async def test_an_unread_stream_that_does_not_block_holds_what_its_policy_says(
    overflow: Literal["latest", "drop_oldest"], most: int
) -> None:
    market = Market()
    async with pair([market]) as (server, client):
        proxy = client.clientize(Market, overflow=overflow)
        assert await anext(proxy.texts(100)) != ""
        with growth() as grown:
            async with proxy.texts(5000) as stream:
                await anext(stream)
                await until(lambda: stream.lag + stream.dropped == 4999)
                assert stream.lag == most // 1000
                assert server.outbox_bytes == 0
                # The reader of the link may still hold the newest batch.
                assert grown() < most + 128 * KIB


# ------------------------------------------------------------------------------------ uploads


@pytest.mark.rule("CREDIT-2", "CREDIT-4", "UP-1")
@pytest.mark.parametrize("read", [0, 1, 20_000])
async def test_an_upload_that_is_no_longer_read_stops_its_producer_at_the_window(
    read: int,
) -> None:
    produced = 0
    window = WINDOW if read <= 1 else WINDOW_BYTES // 100

    async def items() -> AsyncIterator[str]:
        nonlocal produced
        while True:
            produced += 1
            yield f"{produced:098}"

    async with pair([Market()]) as (server, client):
        with growth() as grown:
            async with anyio.create_task_group() as group:
                group.start_soon(client.clientize(Market, timeout=None).take, read, items())
                await until(lambda: produced > read)
                while True:
                    before = produced
                    await turns(50)
                    if produced == before:
                        break
                assert 0 < produced - read <= window
                if read <= 1:
                    assert produced - read == window - read
                assert server.outbox_bytes == client.outbox_bytes == 0
                # The window counts bytes of items. Each item is an object, with a head of its own.
                assert grown() < WINDOW_BYTES + 64 * (produced - read)
                group.cancel_scope.cancel()


# ------------------------------------------------------------------------------------ calls


@pytest.mark.rule("SLOT-1", "SLOT-2", "CANCEL-3")
@pytest.mark.parametrize(
    "moment", ["at once", *full_only("as they begin", "when all slots are taken")]
)
async def test_ten_thousand_calls_opened_and_cancelled_are_all_cleaned_up(moment: str) -> None:
    market = Market()
    cancelled = 0

    async with pair([market]) as (server, client):
        proxy = client.clientize(Market)

        async def call() -> None:
            nonlocal cancelled
            try:
                await proxy.wait()
            except anyio.get_cancelled_exc_class():
                cancelled += 1
                raise

        async with anyio.create_task_group() as group:
            for _ in range(10_000):
                group.start_soon(call)
            if moment != "at once":
                wanted = 1 if moment == "as they begin" else server.limits.max_calls
                await until(lambda: market.begun >= wanted)
            group.cancel_scope.cancel()
        await until(
            lambda: wire_of(server).endpoint.quiescent and wire_of(client).endpoint.quiescent
        )
        assert cancelled == 10_000
        assert market.begun == market.cleaned
        assert market.live == 0
        assert market.most_live <= server.limits.max_calls
        if moment == "when all slots are taken":
            assert market.most_live == server.limits.max_calls == 256
        assert not wire_of(server).calls.live
