"""meshcall: its direct server and its client, without its router, on websockets.

The router would be a third process, whose time is not counted. The client is `ClientBase`, from
which generated clients inherit. Models are validated on both ends. The bound on a frame is raised
and the access log is off; all else is as the library has it by default.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from meshcall import ClientBase, RpcServer, mutates, query, service, stream
from meshcall.drivers import WebSocketClientDriver, WebSocketDirectServerDriver
from pydantic import BaseModel

from benchmarks import data

_MAX_SIZE = 8 * 1024 * 1024
_NAME = "bench.v1.Bench"


class Point(BaseModel):
    """A small model."""

    x: int
    y: float
    label: str


class Text(BaseModel):
    """A text, which has to be in a model."""

    value: str


class Count(BaseModel):
    """How many items came."""

    n: int


class Empty(BaseModel):
    """No arguments."""


class PointRequest(BaseModel):
    """The arguments of `echo`."""

    point: Point


@service(_NAME)
class Bench:
    """The methods of the server."""

    @query
    async def echo(self, point: Point) -> Point:
        """Return it."""
        return point

    @query
    async def text(self, value: str) -> Text:
        """Return it."""
        return Text(value=value)

    @stream
    async def items(self, n: int) -> AsyncIterator[Point]:
        """The points 0 to n - 1."""
        for number in range(n):
            yield Point(**data.point(number))

    @stream
    async def yielding(self, n: int) -> AsyncIterator[Point]:
        """The same, and the event loop runs before each."""
        for number in range(n):
            await asyncio.sleep(0)
            yield Point(**data.point(number))

    @mutates(idempotent=True)
    async def upload(self, points: AsyncIterator[Point]) -> Count:
        """Count them."""
        n = 0
        async for _ in points:
            n += 1
        return Count(n=n)


async def serve(ready: Callable[[str], None]) -> None:
    """See `base.Peer`."""
    driver = WebSocketDirectServerDriver("127.0.0.1", 0, max_frame_size=_MAX_SIZE)
    server = RpcServer(services=[Bench()], driver=driver, access_log=False, log_level="ERROR")
    await server.start()
    ready(f"ws://127.0.0.1:{driver.bound_port}")
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()


class MeshcallClient:
    """See `base.Client`."""

    holds_session = True

    def __init__(self, client: ClientBase) -> None:
        self._client = client

    def point(self, number: int) -> Point:
        return Point(**data.point(number))

    async def echo(self, point: Point) -> Any:
        return await self._client.call_unary(_NAME, "echo", PointRequest(point=point), Point)

    def items(self, n: int) -> AsyncIterator[Any]:
        return self._client.call_server_stream(_NAME, "items", Count(n=n), Point)

    def yielding(self, n: int) -> AsyncIterator[Any]:
        return self._client.call_server_stream(_NAME, "yielding", Count(n=n), Point)

    async def upload(self, items: AsyncIterator[Any]) -> int:
        counted = await self._client.call_client_stream(
            _NAME, "upload", Empty(), items, Point, Count
        )
        n: int = counted.n
        return n

    async def text(self, value: str) -> str:
        echoed: Text = await self._client.call_unary(_NAME, "text", Text(value=value), Text)
        return echoed.value


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[MeshcallClient]:
    """See `base.Peer`."""
    async with ClientBase(WebSocketClientDriver(address, max_frame_size=_MAX_SIZE)) as client:
        yield MeshcallClient(client)
