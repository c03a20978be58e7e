"""grpc.aio with generic handlers, so that no code is generated; msgspec JSON in place of protobuf.

Points are dicts and are not validated, as in the raw peer. The text is the field of a record, as
messages are in gRPC (a bare str would reach the serializer as bytes); bytes go as they are. One
insecure HTTP/2 channel carries everything. Message sizes are unlimited, and every channel opens a
socket of its own; all else is as grpcio has it by default.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import msgspec

from benchmarks import data

encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder().decode

_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]


async def _echo(request: Any, context: Any) -> Any:
    return request


async def _items(request: int, context: Any) -> AsyncIterator[dict[str, Any]]:
    for number in range(request):
        yield data.point(number)


async def _yielding(request: int, context: Any) -> AsyncIterator[dict[str, Any]]:
    for number in range(request):
        await asyncio.sleep(0)
        yield data.point(number)


async def _upload(requests: AsyncIterator[Any], context: Any) -> int:
    count = 0
    async for _ in requests:
        count += 1
    return count


async def serve(ready: Callable[[str], None]) -> None:
    """See `base.Peer`."""
    codec = {"request_deserializer": decode, "response_serializer": encode}
    methods = {
        "echo": grpc.unary_unary_rpc_method_handler(_echo, **codec),
        "text": grpc.unary_unary_rpc_method_handler(_echo, **codec),
        "blob": grpc.unary_unary_rpc_method_handler(_echo),
        "items": grpc.unary_stream_rpc_method_handler(_items, **codec),
        "yielding": grpc.unary_stream_rpc_method_handler(_yielding, **codec),
        "upload": grpc.stream_unary_rpc_method_handler(_upload, **codec),
    }
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Bench", methods)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        ready(f"127.0.0.1:{port}")
        await server.wait_for_termination()
    finally:
        await server.stop(None)


class GrpcClient:
    """See `base.Client`. Points are dicts, as they came out of the JSON."""

    def __init__(self, channel: Any) -> None:
        codec = {"request_serializer": encode, "response_deserializer": decode}
        self._echo = channel.unary_unary("/Bench/echo", **codec)
        self._text = channel.unary_unary("/Bench/text", **codec)
        self._blob = channel.unary_unary("/Bench/blob")
        self._items = channel.unary_stream("/Bench/items", **codec)
        self._yielding = channel.unary_stream("/Bench/yielding", **codec)
        self._upload = channel.stream_unary("/Bench/upload", **codec)

    def point(self, number: int) -> dict[str, Any]:
        return data.point(number)

    async def echo(self, point: dict[str, Any]) -> Any:
        return await self._echo(point)

    def items(self, n: int) -> AsyncIterator[dict[str, Any]]:
        return aiter(self._items(n))

    def yielding(self, n: int) -> AsyncIterator[dict[str, Any]]:
        return aiter(self._yielding(n))

    async def upload(self, items: AsyncIterator[dict[str, Any]]) -> int:
        count: int = await self._upload(items)
        return count

    async def text(self, value: str) -> str:
        reply: dict[str, str] = await self._text({"value": value})
        return reply["value"]

    async def blob(self, value: bytes) -> bytes:
        reply: bytes = await self._blob(value)
        return reply


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[GrpcClient]:
    """See `base.Peer`."""
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        yield GrpcClient(channel)
