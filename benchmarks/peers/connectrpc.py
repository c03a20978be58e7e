"""Connect for Python over HTTP/2 on hypercorn, with msgspec JSON in place of protobuf.

A codec of its own takes the place of generated messages, so that points are dicts as in the raw
peer, and nothing is validated; compression is off. All else is as connectrpc, its HTTP client
pyqwest and hypercorn have it by default. On uvicorn, over HTTP/1.1, calls are about twice as fast,
but streams, which its mark is about, are at a tenth of this.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from connectrpc.client import ConnectClient
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.server import ConnectASGIApplication, Endpoint
from hypercorn.asyncio import serve as serve_application
from hypercorn.config import Config
from pyqwest import Client, HTTPTransport, HTTPVersion

from benchmarks import data


class Json:
    """msgspec as a codec for connectrpc."""

    _encode = staticmethod(msgspec.json.Encoder().encode)
    _decode = staticmethod(msgspec.json.Decoder().decode)

    def name(self) -> str:
        return "json"

    def encode(self, message: Any) -> bytes:
        return self._encode(message)

    def decode(self, data: bytes | bytearray, message_class: type) -> Any:
        return self._decode(data)


def _method(name: str, kind: StreamType) -> MethodInfo[Any, Any]:
    return MethodInfo(
        name=name,
        service_name="Bench",
        input=object,
        output=object,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=kind,
    )


ECHO = _method("echo", StreamType.UNARY)
ITEMS = _method("items", StreamType.SERVER_STREAM)
YIELDING = _method("yielding", StreamType.SERVER_STREAM)
UPLOAD = _method("upload", StreamType.CLIENT_STREAM)


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


class Application(ConnectASGIApplication[None]):
    """Code that a generator would have written."""

    def __init__(self) -> None:
        endpoints = {
            "/Bench/echo": Endpoint.unary(ECHO, _echo),
            "/Bench/items": Endpoint.server_stream(ITEMS, _items),
            "/Bench/yielding": Endpoint.server_stream(YIELDING, _yielding),
            "/Bench/upload": Endpoint.client_stream(UPLOAD, _upload),
        }
        super().__init__(
            service=None, endpoints=lambda _: endpoints, codecs=[Json()], compressions=[]
        )

    @property
    def path(self) -> str:
        return "/Bench"


async def serve(ready: Callable[[str], None]) -> None:
    """See `base.Peer`."""
    config = Config()
    config.loglevel = "ERROR"
    # By default it closes a connection after 1,000 calls, and those under way then fail; and after
    # 5 idle seconds, which pass while other peers have their turn.
    config.keep_alive_max_requests = 1_000_000_000
    config.keep_alive_timeout = 600
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config.bind = [f"fd://{os.dup(listening.fileno())}"]
        ready("http://{}:{}".format(*listening.getsockname()))
        await serve_application(Application(), config)


class ConnectrpcClient:
    """See `base.Client`. Points are dicts, as they came out of the JSON."""

    def __init__(self, client: ConnectClient) -> None:
        self._client = client

    def point(self, number: int) -> dict[str, Any]:
        return data.point(number)

    async def echo(self, point: dict[str, Any]) -> Any:
        return await self._client.execute_unary(request=point, method=ECHO)

    def items(self, n: int) -> AsyncIterator[dict[str, Any]]:
        return self._client.execute_server_stream(request=n, method=ITEMS)

    def yielding(self, n: int) -> AsyncIterator[dict[str, Any]]:
        return self._client.execute_server_stream(request=n, method=YIELDING)

    async def upload(self, items: AsyncIterator[dict[str, Any]]) -> int:
        count: int = await self._client.execute_client_stream(request=items, method=UPLOAD)
        return count

    async def text(self, value: str) -> str:
        reply: dict[str, str] = await self._client.execute_unary(
            request={"value": value}, method=ECHO
        )
        return reply["value"]


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[ConnectrpcClient]:
    """See `base.Peer`."""
    async with (
        HTTPTransport(http_version=HTTPVersion.HTTP2) as transport,
        ConnectClient(
            address,
            codec=Json(),
            accept_compression=[],
            send_compression=None,
            http_client=Client(transport),
        ) as client,
    ):
        yield ConnectrpcClient(client)
