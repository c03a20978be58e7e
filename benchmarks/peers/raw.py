"""The baseline: code by hand on websockets, with msgspec JSON and nothing more.

A message is an object with the call's id. Replies find their caller through a dict of futures, a
stream is one message per item and finds its consumer through a dict of queues. No model is
validated, no error is mapped, nothing is bounded, cancelled or resumed: the cost that is left is
the library's own. Text frames are written and read as bytes, which spares UTF-8 round trips, and
compression is off.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosed

from benchmarks import data

_CODECS = {
    "json": (msgspec.json.Encoder().encode, msgspec.json.Decoder().decode),
    "msgpack": (msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode),
}
_MAX_SIZE = 8 * 1024 * 1024


async def _handle(websocket: ServerConnection) -> None:
    uploads: dict[int, asyncio.Queue[Any]] = {}
    tasks: set[asyncio.Task[None]] = set()
    assert websocket.request is not None
    codec = websocket.request.path.removeprefix("/")
    encode, decode = _CODECS[codec]
    as_text = codec == "json"

    async def send(message: dict[str, Any]) -> None:
        await websocket.send(encode(message), text=as_text)

    async def echo(call: int, value: Any) -> None:
        await send({"id": call, "result": value})

    async def items(call: int, n: int) -> None:
        for number in range(n):
            await send({"id": call, "item": data.point(number)})
        await send({"id": call, "end": True})

    async def yielding(call: int, n: int) -> None:
        for number in range(n):
            await asyncio.sleep(0)
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
    methods = {"echo": echo, "items": items, "yielding": yielding, "upload": upload}
    with suppress(ConnectionClosed):
        while True:
            message = decode(await websocket.recv(decode=False))
            method = message.get("method")
            if method is None:
                uploads[message["id"]].put_nowait(message)
                continue
            if method == "upload":
                uploads[message["id"]] = asyncio.Queue()
            # A task a call: a handler may wait, and the calls after it must not. Answering in
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


class Connection:
    """The client's end of one WebSocket."""

    def __init__(self, websocket: ClientConnection, codec: str) -> None:
        self._websocket = websocket
        self._encode, self._decode = _CODECS[codec]
        self._as_text = codec == "json"
        self._ids = itertools.count(1)
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._streams: dict[int, asyncio.Queue[Any]] = {}

    async def read(self) -> None:
        """Hand every message to the call that waits for it, until the connection is closed."""
        while True:
            message = self._decode(await self._websocket.recv(decode=False))
            call = message["id"]
            if "result" in message:
                self._replies.pop(call).set_result(message["result"])
            else:
                self._streams[call].put_nowait(message)

    async def _send(self, message: dict[str, Any]) -> None:
        await self._websocket.send(self._encode(message), text=self._as_text)

    async def call(self, method: str, value: Any) -> Any:
        call = next(self._ids)
        reply = self._replies[call] = asyncio.get_running_loop().create_future()
        await self._send({"id": call, "method": method, "value": value})
        return await reply

    async def stream(self, method: str, n: int) -> AsyncIterator[dict[str, Any]]:
        call = next(self._ids)
        queue = self._streams[call] = asyncio.Queue()
        await self._send({"id": call, "method": method, "value": n})
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


class RawClient:
    """See `base.Client`. Points are dicts, as they came out of the JSON."""

    holds_session = True

    def __init__(self, address: str, stack: AsyncExitStack, connection: Connection) -> None:
        self._address = address
        self._stack = stack
        self._json = connection
        self._msgpack: Connection | None = None

    def point(self, number: int) -> dict[str, Any]:
        return data.point(number)

    async def echo(self, point: dict[str, Any]) -> Any:
        return await self._json.call("echo", point)

    def items(self, n: int) -> AsyncIterator[dict[str, Any]]:
        return self._json.stream("items", n)

    def yielding(self, n: int) -> AsyncIterator[dict[str, Any]]:
        return self._json.stream("yielding", n)

    async def upload(self, items: AsyncIterator[dict[str, Any]]) -> int:
        return await self._json.upload(items)

    async def text(self, value: str) -> str:
        echoed: str = await self._json.call("echo", value)
        return echoed

    async def blob(self, value: bytes) -> bytes:
        if self._msgpack is None:
            self._msgpack = await self._stack.enter_async_context(_open(self._address, "msgpack"))
        echoed: bytes = await self._msgpack.call("echo", value)
        return echoed


@asynccontextmanager
async def _open(address: str, codec: str) -> AsyncIterator[Connection]:
    async with open_websocket(
        f"{address}/{codec}", compression=None, max_size=_MAX_SIZE
    ) as websocket:
        connection = Connection(websocket, codec)
        reader = asyncio.create_task(connection.read())
        try:
            yield connection
        finally:
            reader.cancel()


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[RawClient]:
    """See `base.Peer`."""
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(_open(address, "json"))
        yield RawClient(address, stack, connection)
