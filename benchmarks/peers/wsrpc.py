"""wsrpc as its users write it: pydantic models validated on both ends, default limits, JSON."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
from pydantic import BaseModel

import wsrpc
from benchmarks import data

if not hasattr(wsrpc, "Server"):
    raise ImportError("wsrpc has no Server yet")


class Point(BaseModel):
    """The small model, as `data.point` has it."""

    x: int
    y: float
    label: str


def _point(number: int) -> Point:
    return Point(**data.point(number))


class Bench:
    """What the server exposes, and what the client has a typed proxy of."""

    @wsrpc.method
    async def echo(self, point: Point) -> Point:
        return point

    @wsrpc.method
    async def items(self, n: int) -> AsyncIterator[Point]:
        for number in range(n):
            yield _point(number)

    @wsrpc.method
    async def upload(self, items: AsyncIterator[Point]) -> int:
        count = 0
        async for _ in items:
            count += 1
        return count

    @wsrpc.method
    async def text(self, value: str) -> str:
        return value


async def serve(ready: Callable[[str], None]) -> None:
    """See `base.Peer`."""
    async with wsrpc.Server([Bench()]).listen("127.0.0.1", 0) as listener:
        ready(listener.url)
        await anyio.sleep_forever()


class WsrpcClient:
    """See `base.Client`. Points are validated models."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def point(self, number: int) -> Point:
        return _point(number)

    async def echo(self, point: Point) -> Point:
        return await self._bench.echo(point)

    def items(self, n: int) -> AsyncIterator[Point]:
        return self._bench.items(n=n)

    async def upload(self, items: AsyncIterator[Point]) -> int:
        return await self._bench.upload(items)

    async def text(self, value: str) -> str:
        return await self._bench.text(value)


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[WsrpcClient]:
    """See `base.Peer`."""
    async with wsrpc.connect(address) as session:
        yield WsrpcClient(session.clientize(Bench))
