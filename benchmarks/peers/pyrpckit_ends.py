"""Both ends of the peer `pyrpckit`: its router in FastAPI on uvicorn, and the client that it generates.

JSON-RPC with pydantic models, validated on both ends. A stream is a subscription. Its client drops
the oldest items beyond 100 by default, so that the bound is raised here; compression is off, and the
bound on messages is raised too. It has no uploads of models, and its bytes go over another socket.
"""

import asyncio
import importlib
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from rpckit import RpcChannel, RpcLimits, RpcModel, RpcService
from rpckit.codegen import PythonClientOptions, render_python_client, write_files
from rpckit.integrations.fastapi import create_router
from websockets.asyncio.client import connect as open_websocket

from benchmarks import data
from benchmarks.peers.asgi import serve_application

_MAX_SIZE = 8 * 1024 * 1024
_MOST_ITEMS = 1_000_000


class Point(RpcModel):
    """A small model."""

    x: int
    y: float
    label: str


class Text(RpcModel):
    """A text, which has to be in a model."""

    value: str


class Many(RpcModel):
    """How many items to stream."""

    n: int


bench = RpcChannel("bench")


@bench.method()
async def echo(params: Point) -> Point:
    """Return it."""
    return params


@bench.method()
async def text(params: Text) -> Text:
    """Return it."""
    return params


@bench.subscription()
async def items(params: Many) -> AsyncIterator[Point]:
    """The points 0 to n - 1."""
    for number in range(params.n):
        yield Point(**data.point(number))


@bench.subscription()
async def yielding(params: Many) -> AsyncIterator[Point]:
    """The same, and the event loop runs before each."""
    for number in range(params.n):
        await asyncio.sleep(0)
        yield Point(**data.point(number))


def _service() -> RpcService:
    service = RpcService(version=1)
    service.socket("/rpc", channels=(bench,))
    return service


async def serve(ready: Callable[[str], None]) -> None:
    """See `base.Peer`."""
    application = FastAPI()
    limits = RpcLimits(max_message_bytes=_MAX_SIZE)
    application.include_router(create_router(_service(), limits=limits))
    await serve_application(application, lambda address: ready(f"ws://{address}/rpc"))


class PyrpckitClient:
    """See `base.Client`."""

    holds_session = True

    def __init__(self, client: Any, models: Any) -> None:
        self._bench = client.bench
        self._models = models

    def point(self, number: int) -> Any:
        return self._models.Point(**data.point(number))

    async def echo(self, point: Any) -> Any:
        return await self._bench.echo(x=point.x, y=point.y, label=point.label)

    def items(self, n: int) -> AsyncIterator[Any]:
        stream: AsyncIterator[Any] = self._bench.items(n=n)
        return stream

    def yielding(self, n: int) -> AsyncIterator[Any]:
        stream: AsyncIterator[Any] = self._bench.yielding(n=n)
        return stream

    async def text(self, value: str) -> str:
        echoed: str = (await self._bench.text(value=value)).value
        return echoed


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[PyrpckitClient]:
    """See `base.Peer`."""
    with tempfile.TemporaryDirectory() as folder:
        package = "generated_bench"
        if package not in sys.modules:
            contract = _service().contract(title="Bench", base_url=address.rpartition("/")[0])
            options = PythonClientOptions(
                package=package, client_name="BenchClient", with_transport="websocket"
            )
            write_files(
                Path(folder) / package, render_python_client(contract.to_openrpc(), options)
            )
            sys.path.insert(0, folder)
        made = importlib.import_module(package)
        models = importlib.import_module(f"{package}.models")
        factory = partial(open_websocket, compression=None, max_size=_MAX_SIZE)
        async with made.BenchClient.connect(
            url=address, socket_factory=factory, notification_queue_size=_MOST_ITEMS
        ) as client:
            yield PyrpckitClient(client, models)
