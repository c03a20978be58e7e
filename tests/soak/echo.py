"""An echo server of `websockets` itself, to compare with: `python -m tests.soak.echo`."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


async def _echo(connection: ServerConnection) -> None:
    with suppress(ConnectionClosed):
        async for message in connection:
            await connection.send(message)


async def _main() -> None:
    options = {"compression": None, "ping_interval": None, "max_size": 32 * 1024 * 1024}
    async with serve(_echo, "127.0.0.1", 0, **options) as server:  # type: ignore[arg-type]
        print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(_main())
