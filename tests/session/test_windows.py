"""How credit follows the consumer, seen by a sender that uses all it gets.

Downloads and uploads obey the same rules: each test runs for both.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeAlias

import anyio
import pytest

import wsrpc
from tests.support import Codec, Peer, Wire, bare_client, bare_server, turns, until

Direction: TypeAlias = Literal["download", "upload"]

KIB = 1024


@pytest.fixture(params=["download", "upload"])
def direction(request: pytest.FixtureRequest) -> Direction:
    chosen: Direction = request.param
    return chosen


class Consumer:
    """Takes items as long as it is let; on either side."""

    controller_name = "Consumer"

    def __init__(self) -> None:
        self.taken = 0
        self.allowed: float = math.inf
        self._more = anyio.Event()

    async def take(self, n: int) -> None:
        """Take items up to the `n`th, and no more."""
        self.allowed = n
        self._more.set()
        await until(lambda: self.taken == n)

    @wsrpc.method
    async def consume(self, items: AsyncIterator[str]) -> None:
        async for _ in items:
            self.taken += 1
            while self.taken >= self.allowed:
                self._more = anyio.Event()
                await self._more.wait()


class Sender:
    """The far end of one stream, made of bare frames; it keeps the account."""

    def __init__(
        self, peer: Peer, wire: Wire, id: int, consumer: Consumer, credit: int = 32
    ) -> None:
        self.peer = peer
        self.id = id
        self.consumer = consumer
        self.sent = 0
        self._credit = credit
        self._wire = wire

    @property
    def balance(self) -> int:
        """Items that it may still send."""
        granted: int = sum(frame[2] for frame in self._wire.frames("credit") if frame[1] == self.id)
        return self._credit + granted - self.sent

    async def send(self, n: int, size: int) -> None:
        """Send `n` items that are encoded in `size` bytes, in batches of 64 KiB or so."""
        codec = self.peer.codec
        item = "x" * (size - len(codec.dump("x" * size)) + size)
        assert len(codec.dump(item)) == size
        while n:
            group = min(n, max(1, 64 * KIB // size))
            n -= group
            self.sent += group
            await self.peer.send(["message", self.id, [item] * group])

    async def spend_all(self, size: int) -> int:
        """Send items for all of the credit; returns how many, once all have been taken."""
        n = self.balance
        await self.send(n, size)
        await until(lambda: self.consumer.taken == self.sent)
        # Credit for the last of them is on its way.
        await turns(10)
        return n


@asynccontextmanager
async def sender(
    direction: Direction, monkeypatch: pytest.MonkeyPatch, wire: Wire, codec: Codec, **options: Any
) -> AsyncIterator[Sender]:
    """A sender, and this package's receiver; the window starts at 32, the default."""
    consumer = Consumer()
    if direction == "upload":
        async with bare_client(wsrpc.Server([consumer]), codec) as peer, reading(peer):
            await peer.send(["call", 1, "Consumer.consume", {}, {"uploads": {"items": 3}}])
            yield Sender(peer, wire, 3, consumer)
    else:
        async with bare_server(monkeypatch, codec) as (peer, session):
            proxy = session.clientize("Producer", **options)
            async with anyio.create_task_group() as group, reading(peer):
                group.start_soon(consumer.consume, proxy.items())
                await until(lambda: bool(wire.frames("call")))
                (call,) = wire.frames("call")
                options = call[4] or {}
                yield Sender(peer, wire, call[1], consumer, options.get("credit", 32))
                group.cancel_scope.cancel()


@asynccontextmanager
async def reading(peer: Peer) -> AsyncIterator[None]:
    """Let the peer take what it is sent, meanwhile; what it was is in `wire`."""

    async def read() -> None:
        while True:
            await peer.receive()

    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            group.start_soon(read)
            yield
        assert not scope.cancelled_caught
        group.cancel_scope.cancel()


# ------------------------------------------------------------------------------------ growing


@pytest.mark.rule("CREDIT-1", "CREDIT-4", "CREDIT-5")
@pytest.mark.parametrize(
    ("size", "doubling"),
    [
        (100, [32, 64, 128, 256, 512, 1024, 2048]),
        (1000, [32, 64, 128, 256]),
        (6000, [32]),
        (60_000, [32]),
    ],
)
async def test_the_window_doubles_until_it_holds_256_kib(
    direction: Direction,
    size: int,
    doubling: list[int],
    codec: Codec,
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most = 256 * KIB // size
    async with sender(direction, monkeypatch, wire, codec) as far:
        assert [await far.spend_all(size) for _ in doubling] == doubling
        # From here on only what is worth a frame is given back, a quarter of the window.
        for _ in range(10):
            assert most * 3 / 4 <= await far.spend_all(size) <= most


@pytest.mark.rule("CREDIT-4")
async def test_nothing_is_given_back_before_it_is_taken(
    direction: Direction, codec: Codec, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sender(direction, monkeypatch, wire, codec) as far:
        far.consumer.allowed = 1
        await far.send(32, 100)
        await far.consumer.take(1)
        await turns(50)
        assert far.balance == 0
        for taken in range(2, 33):
            await far.consumer.take(taken)
            await turns(5)
            # It comes in portions of a quarter of the window.
            assert far.balance == taken // 8 * 8


@pytest.mark.rule("CREDIT-4")
async def test_a_window_stays_as_it_is_for_a_consumer_that_does_not_keep_up(
    direction: Direction, codec: Codec, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sender(direction, monkeypatch, wire, codec) as far:
        far.consumer.allowed = 1
        for taken in range(1, 500):
            await far.send(far.balance, 100)
            await far.consumer.take(taken)
            assert far.sent - taken <= 32


@pytest.mark.rule("CREDIT-4")
async def test_a_window_shrinks_when_items_grow_and_grows_when_they_shrink(
    direction: Direction, codec: Codec, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sender(direction, monkeypatch, wire, codec) as far:
        for _ in range(6):
            await far.spend_all(100)
        assert far.balance == 2048
        # What was granted stays granted; what is taken of it is not given back.
        await far.spend_all(1000)
        assert 262 * 3 / 4 <= far.balance <= 262
        for _ in range(5):
            await far.spend_all(10_000)
        assert 26 * 3 / 4 <= far.balance <= 26
        for _ in range(20):
            await far.spend_all(100)
        assert far.balance >= 2000


@pytest.mark.rule("CREDIT-4")
@pytest.mark.parametrize("overflow", ["latest", "drop_oldest", "fail"])
async def test_where_credit_comes_back_on_arrival_the_window_grows_as_far_as_the_policy_lets_it(
    overflow: str, codec: Codec, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"overflow": overflow, "window": 100}
    async with sender("download", monkeypatch, wire, codec, **options) as far:
        seen: list[int] = []
        for _ in range(9):
            seen.append(far.balance)
            await far.send(far.balance, 100)
            await until(lambda: far.balance > 0)
            await turns(5)
    if overflow == "latest":
        assert seen[:3] == [100, 200, 400]
        assert 2621 * 3 / 4 <= max(seen) <= 2621
    else:
        assert seen == [4, 8, 16, 32, 64, 100, 100, 100, 100]
