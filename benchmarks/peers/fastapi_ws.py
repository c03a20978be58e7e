"""fastapi_websocket_rpc: its endpoint in FastAPI on uvicorn, and its client on websockets.

It answers calls one after another, awaiting each before it reads the next message, and has no
streams. So a stream is written as its users write it: a task that sends the other end a call per
item, and awaits no answer. An upload is the same from the other side, and a call at its end.
Arguments are dicts and are validated as such. Compression is off and the message size limit is
raised; all else is as the library has it by default.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi_websocket_rpc import RpcMethodsBase, WebSocketRpcClient, WebsocketRPCEndpoint
from fastapi_websocket_rpc.rpc_methods import NoResponse
from fastapi_websocket_rpc.schemas import RpcMessage, RpcRequest

from benchmarks import data
from benchmarks.peers.asgi import serve_application

_MAX_SIZE = 8 * 1024 * 1024


class Methods(RpcMethodsBase):
    """The methods of the server."""

    def __init__(self) -> None:
        super().__init__()
        self._tasks: set[asyncio.Task[None]] = set()
        self._uploads: dict[int, int] = {}

    async def echo(self, point: dict[str, Any]) -> dict[str, Any]:
        return point

    async def text(self, value: str) -> str:
        return value

    async def items(self, stream: int, n: int) -> bool:
        return self._start(self._send(stream, n, yields=False))

    async def yielding(self, stream: int, n: int) -> bool:
        return self._start(self._send(stream, n, yields=True))

    def _start(self, sending: Any) -> bool:
        task = asyncio.create_task(sending)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _send(self, stream: int, n: int, *, yields: bool) -> None:
        for number in range(n):
            if yields:
                await asyncio.sleep(0)
            await _notify(self.channel, "item", stream=stream, point=data.point(number))
        await _notify(self.channel, "end", stream=stream)

    async def upload_item(self, stream: int, point: dict[str, Any]) -> type[NoResponse]:
        self._uploads[stream] = self._uploads.get(stream, 0) + 1
        return NoResponse

    async def upload_end(self, stream: int) -> int:
        return self._uploads.pop(stream, 0)


async def _notify(channel: Any, method: str, **arguments: Any) -> None:
    # The library's own `async_call` would keep a promise for every item, and never let go of them.
    request = RpcRequest(method=method, arguments=arguments)
    await channel.send(RpcMessage(request=request))


async def serve(ready: Callable[[str], None]) -> None:
    """See `base.Peer`."""
    application = FastAPI()
    WebsocketRPCEndpoint(Methods()).register_route(application, "/ws")
    await serve_application(application, lambda address: ready(f"ws://{address}/ws"))


class Streams(RpcMethodsBase):
    """The methods of the client, at which the items of its streams arrive."""

    def __init__(self) -> None:
        super().__init__()
        self.queues: dict[int, asyncio.Queue[dict[str, Any] | None]] = {}

    async def item(self, stream: int, point: dict[str, Any]) -> type[NoResponse]:
        self.queues[stream].put_nowait(point)
        return NoResponse

    async def end(self, stream: int) -> type[NoResponse]:
        self.queues[stream].put_nowait(None)
        return NoResponse


class FastapiWsClient:
    """See `base.Client`. Points are dicts, as they came out of the JSON."""

    holds_session = True

    def __init__(self, client: WebSocketRpcClient, streams: Streams) -> None:
        self._client = client
        self._queues = streams.queues
        self._numbers = itertools.count(1)

    def point(self, number: int) -> dict[str, Any]:
        return data.point(number)

    async def echo(self, point: dict[str, Any]) -> Any:
        return (await self._client.other.echo(point=point)).result

    def items(self, n: int) -> AsyncIterator[dict[str, Any]]:
        return self._stream("items", n)

    def yielding(self, n: int) -> AsyncIterator[dict[str, Any]]:
        return self._stream("yielding", n)

    async def _stream(self, method: str, n: int) -> AsyncIterator[dict[str, Any]]:
        stream = next(self._numbers)
        queue = self._queues[stream] = asyncio.Queue()
        await self._client.call(method, {"stream": stream, "n": n})
        while (point := await queue.get()) is not None:
            yield point
        del self._queues[stream]

    async def upload(self, items: AsyncIterator[dict[str, Any]]) -> int:
        stream = next(self._numbers)
        async for point in items:
            await _notify(self._client.channel, "upload_item", stream=stream, point=point)
        count: int = (await self._client.call("upload_end", {"stream": stream})).result
        return count

    async def text(self, value: str) -> str:
        echoed: str = (await self._client.other.text(value=value)).result
        return echoed


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[FastapiWsClient]:
    """See `base.Peer`."""
    streams = Streams()
    client = WebSocketRpcClient(address, streams, compression=None, max_size=_MAX_SIZE)
    async with client:
        # It works on a copy of the given object, which has the same queues.
        yield FastapiWsClient(client, streams)
