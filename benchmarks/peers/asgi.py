"""uvicorn, for the peers whose server is an ASGI application; no peer itself."""

import socket
from collections.abc import Callable
from typing import Any

import uvicorn

_MAX_SIZE = 8 * 1024 * 1024


async def serve_application(application: Any, ready: Callable[[str], None]) -> None:
    """Serve on a free port of 127.0.0.1, tell ``ready`` host and port, and run until cancelled.

    asyncio's own event loop, no log, no compression of WebSocket messages, and idle connections are
    kept while other peers have their turn; all else is as uvicorn has it by default.
    """
    config = uvicorn.Config(
        application,
        loop="asyncio",
        log_level="error",
        access_log=False,
        timeout_keep_alive=600,
        ws_max_size=_MAX_SIZE,
        ws_per_message_deflate=False,
    )
    # With the protocol named: asyncio sets TCP_NODELAY only where it is, and without it a call over
    # HTTP takes 40 ms.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1024)
        ready("{}:{}".format(*listening.getsockname()))
        await uvicorn.Server(config).serve(sockets=[listening])
