"""ASGI servers that host an application inside of a test's own event loop."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import hypercorn.asyncio
import hypercorn.trio
import uvicorn
from hypercorn.config import Config as HypercornConfig

from tests.support import until
from wsrpc.transport.websockets.link import on_asyncio

UVICORN = ("websockets-sansio", "websockets", "wsproto")


class _Quiet(uvicorn.Server):
    """A server that leaves the signals to the test."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def on_uvicorn(app: Any, ws: Any = "websockets-sansio") -> AsyncIterator[str]:
    """The application on uvicorn; gives the address without a scheme."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        config = uvicorn.Config(
            app,
            ws=ws,
            lifespan="auto",
            log_config=None,
            ws_ping_interval=None,
            timeout_keep_alive=1,
        )
        server = _Quiet(config)

        async def run() -> None:
            with anyio.CancelScope(shield=True):
                await server.serve([bound])

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await until(lambda: server.started)
            try:
                yield f"127.0.0.1:{bound.getsockname()[1]}"
            finally:
                server.should_exit = True


@asynccontextmanager
async def on_hypercorn(app: Any) -> AsyncIterator[str]:
    """The application on hypercorn, on either event loop; yields the address too."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = HypercornConfig()
    config.bind = [f"127.0.0.1:{port}"]
    config.errorlog = config.accesslog = None
    config.graceful_timeout = 1.0
    stop = anyio.Event()
    serve: Any = hypercorn.asyncio.serve if on_asyncio() else hypercorn.trio.serve

    async def run() -> None:
        with anyio.CancelScope(shield=True):
            await serve(app, config, shutdown_trigger=stop.wait)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await listening(port)
        try:
            yield f"127.0.0.1:{port}"
        finally:
            stop.set()


async def listening(port: int) -> None:
    """Wait until a port accepts connections, for a bounded time."""
    with anyio.fail_after(20):
        while True:
            try:
                stream = await anyio.connect_tcp("127.0.0.1", port)
            except OSError:
                await anyio.sleep(0.01)
            else:
                await stream.aclose()
                return
