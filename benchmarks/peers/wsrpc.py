"""wsrpc as its users write it: pydantic models validated on both ends, default limits, JSON.

Bytes go over a second connection, in MessagePack. Works that need other limits than the default
ones, with many open streams or very large values, have connections of their own, too; each is
opened when it is first needed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from typing import Any, Literal, cast

import anyio
from pydantic import BaseModel
from typing_extensions import TypedDict

import wsrpc
from benchmarks import data

Codec = Literal["json", "msgpack"]

_ROOMY = wsrpc.Limits(max_calls=20_000, max_value=128 * data.MEBIBYTE, max_held=256 * data.MEBIBYTE)
"""Bounds for 10,000 streams and for values of 64 MiB."""


class Point(BaseModel):
    """The small model, as `data.point` has it."""

    x: int
    y: float
    label: str


class Row(TypedDict):
    """The same for a client that wants no models: a dict on either end."""

    x: int
    y: float
    label: str


def _point(number: int) -> Point:
    return Point(**data.point(number))


@cache
def _blob(n: int) -> bytes:
    """``n`` bytes; made once, since to make 64 MiB would hold up the event loop that is measured."""
    return (data.BLOB * (n // len(data.BLOB) + 1))[:n]


class Bench:
    """The server's controller; the client has a typed proxy of it."""

    def __init__(self) -> None:
        self._gate = anyio.Event()

    @wsrpc.method
    async def echo(self, point: Point) -> Point:
        return point

    @wsrpc.method
    async def items(self, n: int) -> AsyncIterator[Point]:
        for number in range(n):
            yield _point(number)

    @wsrpc.method
    async def rows(self, n: int) -> AsyncIterator[Row]:
        for number in range(n):
            yield cast(Row, data.point(number))

    @wsrpc.method
    async def yielding(self, n: int) -> AsyncIterator[Point]:
        for number in range(n):
            await asyncio.sleep(0)
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

    @wsrpc.method
    async def blob(self, value: bytes) -> bytes:
        return value

    @wsrpc.method
    async def gated(self, n: int) -> AsyncIterator[Point]:
        gate = self._gate
        yield _point(0)
        await gate.wait()
        for number in range(1, n + 1):
            yield _point(number)

    @wsrpc.method
    async def release(self) -> None:
        self._gate.set()
        self._gate = anyio.Event()

    @wsrpc.method
    async def sink(self, value: bytes) -> int:
        return len(value)

    @wsrpc.method
    async def source(self, n: int) -> bytes:
        return _blob(n)


async def serve(ready: Callable[[str], None], **options: Any) -> None:
    """See `base.Peer`; ``options`` are those of `Server.listen`."""
    async with AsyncExitStack() as stack:
        listeners = [
            await stack.enter_async_context(server.listen("127.0.0.1", 0, **options))
            for server in (wsrpc.Server([Bench()]), wsrpc.Server([Bench()], limits=_ROOMY))
        ]
        ready(" ".join(listener.url for listener in listeners))
        await anyio.sleep_forever()


class WsrpcClient:
    """See `base.Client`. Points are validated models."""

    holds_session = True

    def __init__(self, address: str, stack: AsyncExitStack, **options: Any) -> None:
        self._url, self._roomy_url = address.split()
        self._stack = stack
        self._options = options
        self._sessions: dict[tuple[Codec, bool], wsrpc.Session] = {}

    async def open(self) -> None:
        """Open the connection that most works need."""
        self._bench = await self._proxy("json")

    async def _proxy(self, codec: Codec, *, roomy: bool = False) -> Bench:
        key = codec, roomy
        if key not in self._sessions:
            connection = wsrpc.connect(
                self._roomy_url if roomy else self._url,
                codec=codec,
                limits=_ROOMY if roomy else None,
                **self._options,
            )
            self._sessions[key] = await self._stack.enter_async_context(connection)
        return self._sessions[key].clientize(Bench)

    def point(self, number: int) -> Point:
        return _point(number)

    async def echo(self, point: Point) -> Point:
        return await self._bench.echo(point)

    def items(self, n: int) -> AsyncIterator[Point]:
        return self._bench.items(n=n)

    def yielding(self, n: int) -> AsyncIterator[Point]:
        return self._bench.yielding(n=n)

    async def upload(self, items: AsyncIterator[Point]) -> int:
        return await self._bench.upload(items)

    async def text(self, value: str) -> str:
        return await self._bench.text(value)

    async def blob(self, value: bytes) -> bytes:
        return await (await self._proxy("msgpack")).blob(value)


class RoomyWsrpcClient(WsrpcClient):
    """See `base.RoomyClient`."""

    def unvalidated(self, n: int) -> AsyncIterator[Any]:
        return self._sessions["json", False].clientize(Bench, validate="none").rows(n=n)

    async def gated(self, n: int) -> AsyncIterator[Point]:
        return (await self._proxy("json", roomy=True)).gated(n)

    async def release(self) -> None:
        await (await self._proxy("json", roomy=True)).release()

    async def small(self, point: Point) -> Point:
        return await (await self._proxy("msgpack", roomy=True)).echo(point)

    async def sink(self, value: bytes) -> int:
        return await (await self._proxy("msgpack", roomy=True)).sink(value)

    async def source(self, n: int) -> bytes:
        return await (await self._proxy("msgpack", roomy=True)).source(n)


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[WsrpcClient]:
    """See `base.Peer`."""
    async with AsyncExitStack() as stack:
        client = RoomyWsrpcClient(address, stack)
        await client.open()
        yield client
