"""Everything at once, cut off at random: nothing hangs, nothing is left, each call ends once."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest

import wsrpc
from tests.support import Codec, Wire, full_only, pair, until, wire_of

# Tight, so that everybody waits for something most of the time.
LIMITS = wsrpc.Limits(max_calls=8, window=2, outbox=2000, cleanup_timeout=5)

Double = Callable[[int], Awaitable[int]]


class Chaos:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.opened = 0
        self.closed = 0

    async def pause(self) -> None:
        for _ in range(self.random.choice([0, 0, 1, 3])):
            await anyio.sleep(0)
        if self.random.random() < 0.1:
            await anyio.sleep(0.002)

    async def clean_up(self) -> None:
        # A cancellation may come while a handler that is through cleans up.
        try:
            await self.pause()
        finally:
            self.closed += 1

    @wsrpc.method
    async def value(self, size: int) -> str:
        self.opened += 1
        try:
            await self.pause()
            if size % 7 == 0:
                raise wsrpc.RpcError("aborted", "on purpose", size)
            return "x" * size
        finally:
            await self.clean_up()

    @wsrpc.method
    async def items(self, n: int) -> AsyncIterator[int | wsrpc.Final[int]]:
        self.opened += 1
        try:
            for i in range(n):
                yield i
                if i % 5 == 0:
                    await self.pause()
            if n % 3 == 0:
                raise wsrpc.RpcError("aborted", "on purpose", n)
            yield wsrpc.Final(n)
        finally:
            await self.clean_up()

    @wsrpc.method
    def sync_items(self, n: int) -> Iterator[int]:
        yield from range(n)

    @wsrpc.method
    async def total(self, numbers: AsyncIterator[int], upto: int) -> int:
        self.opened += 1
        try:
            found = 0
            async for number in numbers:
                found += number
                if number == upto:
                    break
            return found
        finally:
            await self.clean_up()

    @wsrpc.method
    async def both(self, numbers: AsyncIterator[int], fn: Double) -> AsyncIterator[int]:
        self.opened += 1
        try:
            async for number in numbers:
                yield await fn(number)
        finally:
            await self.clean_up()

    @wsrpc.method
    async def nested(self, depth: int) -> int:
        if depth == 0:
            return 0
        return 1 + await wsrpc.current().session.clientize(Chaos).nested(depth - 1)

    @wsrpc.method(oneway=True)
    async def note(self) -> None:
        await self.pause()


class Driver:
    """One end's caller: does a random thing, and often not to its end."""

    def __init__(self, session: wsrpc.Session, seed: int) -> None:
        self.random = random.Random(seed)
        self.session = session
        self.sources_opened = 0
        self.sources_closed = 0
        self.outcomes: set[str] = set()

    async def source(self, n: int) -> AsyncIterator[int]:
        self.sources_opened += 1
        try:
            for i in range(n):
                yield i
        finally:
            try:
                await anyio.sleep(0)
            finally:
                self.sources_closed += 1

    async def double(self, n: int) -> int:
        await anyio.sleep(0)
        return 2 * n

    async def act(self) -> None:
        roll = self.random
        timeout: Any = roll.choice([..., ..., None, 0.003, 0.02])
        proxy = self.session.clientize(Chaos, timeout=timeout)
        n = roll.randrange(40)
        match roll.randrange(8):
            case 0:
                assert await proxy.value(n) == "x" * n
            case 1:
                stream = proxy.items(n)
                assert await stream.collect() == list(range(n))
                assert stream.final == n
            case 2:
                async with proxy.items(n + 10) as left_early:
                    async for item in left_early:
                        if item == n:
                            break
            case 3:
                assert await proxy.sync_items(n).collect() == list(range(n))
            case 4:
                await proxy.total(self.source(50), upto=n)
            case 5:
                answers = await proxy.both(self.source(n), self.double).collect()
                assert answers == [2 * i for i in range(n)]
            case 6:
                assert await proxy.nested(n % 4) == n % 4
            case 7:
                await proxy.note()

    async def run(self, times: int) -> None:
        for _ in range(times):
            within = self.random.choice([None, None, 0.001, 0.005])
            with anyio.move_on_after(within) as scope:
                try:
                    await self.act()
                    self.outcomes.add("done")
                except wsrpc.RpcError as error:
                    self.outcomes.add(error.code)
            if scope.cancelled_caught:
                self.outcomes.add("cancelled")
            if self.session.closed:
                return


@pytest.mark.rule("CALL-5", "CANCEL-3", "CLOSE-4", "CLOSE-5", "CREDIT-3", "ID-6")
@pytest.mark.parametrize("seed", [0, *full_only(*range(1, 6))])
@pytest.mark.parametrize("end", ["quiet", "cut", "close"])
async def test_chaos(codec: Codec, seed: int, end: str, wire: Wire) -> None:
    mine, theirs = Chaos(seed), Chaos(seed + 1000)
    async with pair([theirs], [mine], codec=codec, limits=LIMITS) as (server, client):
        drivers = [
            Driver(session, 100 * seed + n) for n, session in enumerate([client, server] * 6)
        ]
        async with anyio.create_task_group() as group:
            for driver in drivers:
                group.start_soon(driver.run, 25)
            if end != "quiet":
                await anyio.sleep(0.03)
                await server.aclose(1001 if end == "cut" else 1000)
        await until(lambda: mine.opened == mine.closed and theirs.opened == theirs.closed)
        await until(
            lambda: all(driver.sources_opened == driver.sources_closed for driver in drivers)
        )
        if end == "quiet":
            await until(
                lambda: wire_of(server).endpoint.quiescent and wire_of(client).endpoint.quiescent
            )
            wire.assert_one_terminal_each()
            outcomes = set().union(*(driver.outcomes for driver in drivers))
            assert {"done", "aborted", "cancelled", "deadline_exceeded"} <= outcomes
            assert outcomes <= {
                "done",
                "aborted",
                "cancelled",
                "deadline_exceeded",
                "resource_exhausted",
            }
