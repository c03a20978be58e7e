"""The baseline: what one would write by hand on websockets, with msgspec JSON and nothing more.

A message is an object with the call's id. Replies find their caller through a dict of futures, a
stream is one message per item and finds its consumer through a dict of queues. No model is
validated, no error is mapped, nothing is bounded, cancelled or resumed: the cost that is left is
the library's own. Text frames are written and read as bytes, which spares UTF-8 round trips, and
compression is off.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosed

from benchmarks import data

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode

_MAX_SIZE = 8 * 1024 * 1024


async def _handle(websocket: ServerConnection) -> None:
    uploads: dict[int, asyncio.Queue[Any]] = {}
    tasks: set[asyncio.Task[None]] = set()

    async def send(message: dict[str, Any]) -> None:
        await websocket.send(encode(message), text=True)

    async def echo(call: int, value: Any) -> None:
        await send({"id": call, "result": value})

    async def items(call: int, n: int) -> None:
        for number in range(n):
            await send({"id": call, "item": data.point(number)})
        await send({"id": call, "end": True})

    async def upload(call: int, _: None) -> None:
        queue = uploads[call]
        count = 0
        while "end" not in await queue.get():
            count += 1
        del uploads[call]
        await send({"id": call, "result": count})

    methods: dict[str, Callable[[int, Any], Coroutine[Any, Any, None]]]
    methods = {"echo": echo, "text": echo, "items": items, "upload": upload}
    with suppress(ConnectionClosed):
        while True:
            message = decode(await websocket.recv(decode=False))
            method = message.get("method")
            if method is None:
                uploads[message["id"]].put_nowait(message)
                continue
            if method == "upload":
                uploads[message["id"]] = asyncio.Queue()
            # A task a call: a handler may wait, and the calls behind it must not. Answering in
            # place would save the server about a tenth of its CPU time on outstanding calls.
            task = asyncio.create_task(methods[method](message["id"], message["value"]))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


async def serve(ready: Callable[[str], None]) -> None:
    """See `base.Peer`."""
    async with serve_websocket(
        _handle, "127.0.0.1", 0, compression=None, max_size=_MAX_SIZE
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        ready(f"ws://127.0.0.1:{port}")
        await server.serve_forever()


class RawClient:
    """See `base.Client`. Points are dicts, as they came out of the JSON."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self._ids = itertools.count(1)
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._streams: dict[int, asyncio.Queue[Any]] = {}

    async def read(self) -> None:
        """Hand every message to the call that waits for it, until the connection is closed."""
        while True:
            message = decode(await self._websocket.recv(decode=False))
            call = message["id"]
            if "result" in message:
                self._replies.pop(call).set_result(message["result"])
            else:
                self._streams[call].put_nowait(message)

    async def _send(self, message: dict[str, Any]) -> None:
        await self._websocket.send(encode(message), text=True)

    async def _call(self, method: str, value: Any) -> Any:
        call = next(self._ids)
        reply = self._replies[call] = asyncio.get_running_loop().create_future()
        await self._send({"id": call, "method": method, "value": value})
        return await reply

    def point(self, number: int) -> dict[str, Any]:
        return data.point(number)

    async def echo(self, point: dict[str, Any]) -> Any:
        return await self._call("echo", point)

    async def items(self, n: int) -> AsyncIterator[dict[str, Any]]:
        call = next(self._ids)
        queue = self._streams[call] = asyncio.Queue()
        await self._send({"id": call, "method": "items", "value": n})
        while "end" not in (message := await queue.get()):
            yield message["item"]
        del self._streams[call]

    async def upload(self, items: AsyncIterator[dict[str, Any]]) -> int:
        call = next(self._ids)
        reply = self._replies[call] = asyncio.get_running_loop().create_future()
        await self._send({"id": call, "method": "upload", "value": None})
        async for item in items:
            await self._send({"id": call, "item": item})
        await self._send({"id": call, "end": True})
        count: int = await reply
        return count

    async def text(self, value: str) -> str:
        echoed: str = await self._call("text", value)
        return echoed


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[RawClient]:
    """See `base.Peer`."""
    async with open_websocket(address, compression=None, max_size=_MAX_SIZE) as websocket:
        client = RawClient(websocket)
        reader = asyncio.create_task(client.read())
        try:
            yield client
        finally:
            reader.cancel()
