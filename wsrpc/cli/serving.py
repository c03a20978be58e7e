"""`wsrpc serve`: listen until a signal comes."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

import anyio

from ..server import Server
from .failures import ExitCode, Failure, note

__all__ = ["serve"]


async def serve(server: Server, host: str, port: int) -> None:
    """Serve until SIGTERM, or until this is cancelled; then stop cleanly.

    Prints `listening ws://…` on stdout once peers can connect.

    Raises:
        Failure: The address cannot be bound.
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING,
        format="%(asctime)s %(name)s %(levelname)s %(message)s",
    )
    try:
        async with server.listen(host, port) as listener:
            print(f"listening {listener.url}", flush=True)
            names = ", ".join(server.contract()["controllers"])
            note(f"serving {names}; Ctrl-C stops")
            await _terminated()
    except OSError as error:
        # asyncio repeats the address in its own words; the system's are shorter.
        system = error.errno is not None and error.errno > 0
        reason = os.strerror(error.errno) if system and error.errno else error.strerror or error
        raise Failure(f"cannot listen on {host}:{port}: {reason}", ExitCode.UNREACHABLE) from error


async def _terminated() -> None:
    if threading.current_thread() is not threading.main_thread():
        await anyio.sleep_forever()
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            return
