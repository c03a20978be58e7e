"""python-socketio: AsyncServer on aiohttp, AsyncClient, WebSocket transport only, msgspec JSON.

A call is an event with an acknowledgement. There are no streams, so they are written as its users
write them: one event per item, marked with a stream number, and an acknowledged call around them.
Points are dicts and are not validated, as in the raw peer. The message size limit is raised; all
else is as python-socketio has it by default.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import socketio
from aiohttp import web

from benchmarks import data

_MAX_SIZE = 8 * 1024 * 1024
_TIMEOUT = 60
"""Seconds that an acknowledgement may take."""


class Json:
    """msgspec with the two functions that python-socketio expects of a JSON module."""

    @staticmethod
    def dumps(value: Any, **_: Any) -> str:
        return msgspec.json.encode(value).decode()

    @staticmethod
    def loads(text: str, **_: Any) -> Any:
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise ValueError(str(error)) from error


def _application() -> web.Application:
    server = socketio.AsyncServer(
        async_mode="aiohttp",
        transports=["websocket"],
        json=Json,
        max_http_buffer_size=_MAX_SIZE,
    )
    uploads: dict[tuple[str, int], int] = {}

    async def echo(sid: str, value: Any) -> Any:
        return value

    async def items(sid: str, stream: int, n: int) -> None:
        for number in range(n):
            await server.emit("item", (stream, data.point(number)), to=sid)

    async def yielding(sid: str, stream: int, n: int) -> None:
        for number in range(n):
            await asyncio.sleep(0)
            await server.emit("item", (stream, data.point(number)), to=sid)

    async def upload_item(sid: str, stream: int, point: dict[str, Any]) -> None:
        uploads[sid, stream] = uploads.get((sid, stream), 0) + 1

    async def upload_end(sid: str, stream: int) -> int:
        return uploads.pop((sid, stream), 0)

    for handler in (echo, items, yielding, upload_item, upload_end):
        server.on(handler.__name__, handler)
    application = web.Application()
    server.attach(application)
    return application


async def serve(ready: Callable[[str], None]) -> None:
    """See `base.Peer`."""
    runner = web.AppRunner(_application(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        ready(f"http://127.0.0.1:{runner.addresses[0][1]}")
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


class SocketioClient:
    """See `base.Client`. Points are dicts, as they came out of the JSON."""

    holds_session = True

    def __init__(self, client: socketio.AsyncClient) -> None:
        self._client = client
        self._numbers = itertools.count(1)
        self._streams: dict[int, asyncio.Queue[dict[str, Any] | None]] = {}
        client.on("item", self._on_item)

    def _on_item(self, stream: int, point: dict[str, Any]) -> None:
        self._streams[stream].put_nowait(point)

    async def _call(self, event: str, value: Any) -> Any:
        return await self._client.call(event, value, timeout=_TIMEOUT)

    def point(self, number: int) -> dict[str, Any]:
        return data.point(number)

    async def echo(self, point: dict[str, Any]) -> Any:
        return await self._call("echo", point)

    def items(self, n: int) -> AsyncIterator[dict[str, Any]]:
        return self._stream("items", n)

    def yielding(self, n: int) -> AsyncIterator[dict[str, Any]]:
        return self._stream("yielding", n)

    async def _stream(self, event: str, n: int) -> AsyncIterator[dict[str, Any]]:
        stream = next(self._numbers)
        queue = self._streams[stream] = asyncio.Queue()
        call = asyncio.create_task(self._call(event, (stream, n)))
        call.add_done_callback(lambda _: queue.put_nowait(None))
        while (point := await queue.get()) is not None:
            yield point
        del self._streams[stream]
        await call

    async def upload(self, items: AsyncIterator[dict[str, Any]]) -> int:
        stream = next(self._numbers)
        async for point in items:
            await self._client.emit("upload_item", (stream, point))
        count: int = await self._call("upload_end", stream)
        return count

    async def text(self, value: str) -> str:
        echoed: str = await self._call("echo", value)
        return echoed

    async def blob(self, value: bytes) -> bytes:
        echoed: bytes = await self._call("echo", value)
        return echoed


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[SocketioClient]:
    """See `base.Peer`."""
    client = socketio.AsyncClient(json=Json, reconnection=False)
    await client.connect(address, transports=["websocket"])
    try:
        yield SocketioClient(client)
    finally:
        await client.disconnect()
