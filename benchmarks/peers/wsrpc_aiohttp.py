"""wsrpc-aiohttp: its handler in aiohttp's server, its own client; only its name is like this project's.

Calls have keyword arguments and are JSON of the standard library, as it is by default. It has no
streams, and no bytes. The limit of the calls that run at a time is raised, since 64 would not fit.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from aiohttp import web
from wsrpc_aiohttp import WebSocketAsync, WSRPCClient

from benchmarks import data


class Socket(WebSocketAsync):
    """The routes of this server."""


async def _echo(socket: Socket, *, point: dict[str, Any]) -> dict[str, Any]:
    return point


async def _text(socket: Socket, *, value: str) -> str:
    return value


async def serve(ready: Callable[[str], None]) -> None:
    """See `base.Peer`."""
    Socket.configure(max_concurrent_requests=1024)
    Socket.add_route("echo", _echo)
    Socket.add_route("text", _text)
    application = web.Application()
    application.router.add_get("/ws/", Socket)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    ready(f"http://127.0.0.1:{runner.addresses[0][1]}/ws/")
    try:
        await anyio.sleep_forever()
    finally:
        await runner.cleanup()


class WsrpcAiohttpClient:
    """See `base.Client`. Points are dicts, as they came out of the JSON."""

    holds_session = True

    def __init__(self, client: WSRPCClient) -> None:
        self._client = client

    def point(self, number: int) -> dict[str, Any]:
        return data.point(number)

    async def echo(self, point: dict[str, Any]) -> Any:
        return await self._client.call("echo", point=point)

    async def text(self, value: str) -> Any:
        return await self._client.call("text", value=value)


@asynccontextmanager
async def connect(address: str) -> AsyncIterator[WsrpcAiohttpClient]:
    """See `base.Peer`."""
    async with WSRPCClient(address) as client:
        yield WsrpcAiohttpClient(client)
