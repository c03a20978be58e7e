"""Plain WebSocket messages, text and binary, sent back by the transports that carry sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from .. import runtime as runtimes
from ..admission.door import Door
from ..admission.handshakes import Pending, PendingLinks
from ..close_codes import CloseCode
from ..limits import Limits
from ..transport.base import Binary, DirectLink, Link, LinkClosed, is_direct
from ..transport.registry import Transport, listen

__all__ = ["ECHO", "echoing"]

# Room for the messages of 16 MiB of the Autobahn test suite, and for its fragments of 64 bytes.
ECHO = Limits(max_batch=32 * 1024 * 1024, idle_burst=1_000_000, idle_rate=1_000_000)


@asynccontextmanager
async def echoing(
    host: str | None, port: int, *, transport: Transport, limits: Limits = ECHO
) -> AsyncIterator[str]:
    """Echo all messages, without a subprotocol, while the block runs; yields the URL.

    Args:
        host: The address to bind; None for every interface.
        port: 0 for a free one.
        transport: The library that carries the WebSockets.
        limits: `max_batch` is the largest message.
    """
    pending = PendingLinks(limits)

    async def serve(link: Link, place: Pending | None) -> None:
        if place is not None:
            pending.remove(place)
        code = await (_Echo(link).run() if is_direct(link) else _echo(link))
        await link.close(code)

    async with listen(
        serve,
        transport=transport,
        host=host,
        port=port,
        path=None,
        subprotocols=(),
        door=Door(limits, pending, runtimes.current().now),
        limits=limits,
        ssl=None,
    ) as bound:
        yield bound.url


async def _echo(link: Link) -> int:
    """By `receive` and `send`; returns the code to close with."""
    try:
        while True:
            data = await link.receive()
            if not _valid(data):
                return CloseCode.INVALID_DATA
            await link.send(data)
    except LinkClosed:
        return CloseCode.NORMAL


class _Echo:
    """By callbacks, as sessions are driven on asyncio."""

    def __init__(self, link: DirectLink) -> None:
        self._link = link
        self._over = anyio.Event()
        self._code = CloseCode.NORMAL

    async def run(self) -> int:
        """Echo to the end; returns the code to close with."""
        self._link.attach(self._on_message, self._on_lost, self._on_drained)
        await self._over.wait()
        return self._code

    def _on_message(self, data: bytes) -> None:
        if not _valid(data):
            self._code = CloseCode.INVALID_DATA
            self._link.pause()
            self._over.set()
        elif not self._link.send_nowait(data):
            self._link.pause()

    def _on_lost(self, error: Exception) -> None:
        self._over.set()

    def _on_drained(self) -> None:
        if not self._over.is_set():
            self._link.resume()


def _valid(data: bytes) -> bool:
    """Whether it may be sent back: text has to be UTF-8 (RFC 6455, section 8.1)."""
    if type(data) is not Binary:
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
    return True
