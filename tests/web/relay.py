"""What a page loads the client from, and what carries its WebSocket to a server anywhere.

The page's origin is this relay, which drops the header `Origin`: so a test in a browser can be
pointed at any server. It can also reset the connections that it carries.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import SplitResult, urlsplit

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream

from wsrpc.web.slim import slim

from ..proxy import GONE, NO_LINGER, serving
from .node import ROOT, STATIC

FILES = {
    "/wsrpc.js": STATIC / "wsrpc.js",
    "/wsrpc-msgpack.js": STATIC / "wsrpc-msgpack.js",
    "/interop.js": ROOT / "tests" / "web" / "interop.js",
    "/chaos.js": ROOT / "tests" / "web" / "chaos.js",
}
# A page's origin is this relay, which is nothing to the server.
DROPPED = ("origin:", "host:")


class Relay:
    """A server of static files, and a way through to another server.

    Attributes:
        url: Of its page.
        target: Where WebSockets get through to.
        cuts: Connections reset so far.
        open: Whether new WebSockets get through; others are reset at once.
    """

    def __init__(self, target: str) -> None:
        self.url = ""
        self.target = target
        self.cuts = 0
        self.open = True
        self._carried: dict[anyio.abc.SocketStream, anyio.CancelScope] = {}

    def cut(self) -> None:
        """Reset all connections that are carried."""
        for page, scope in list(self._carried.items()):
            self._reset(page)
            scope.cancel()

    def _reset(self, page: anyio.abc.SocketStream) -> None:
        self.cuts += 1
        raw = page.extra(anyio.abc.SocketAttribute.raw_socket)
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)

    async def accept(self, page: anyio.abc.SocketStream) -> None:
        """One connection."""
        try:
            with suppress(*GONE, anyio.IncompleteRead):
                await self._serve(page)
        finally:
            await anyio.aclose_forcefully(page)

    async def _serve(self, page: anyio.abc.SocketStream) -> None:
        source = BufferedByteReceiveStream(page)
        head = (await source.receive_until(b"\r\n\r\n", 1 << 20)).decode("latin-1")
        request, *headers = head.split("\r\n")
        if any(line.lower().startswith("upgrade:") for line in headers):
            await self._carry(headers, source, page)
            return
        path = request.split(" ")[1].partition("?")[0]
        file = FILES.get(path)
        body = b"<!doctype html><title>wsrpc</title>"
        if file is not None:
            # As servers send it.
            body = slim(file.read_text(encoding="utf-8")).encode()
        kind = "text/html" if file is None else "text/javascript"
        await page.send(
            f"HTTP/1.1 {200 if file or path == '/' else 404} OK\r\nContent-Type: {kind}; "
            f"charset=utf-8\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        await page.send_eof()
        while True:
            await source.receive()

    async def _carry(
        self,
        headers: list[str],
        source: BufferedByteReceiveStream,
        page: anyio.abc.SocketStream,
    ) -> None:
        if not self.open:
            self._reset(page)
            return
        target = urlsplit(self.target)
        there = await _connected(target)
        kept = [line for line in headers if line and not line.lower().startswith(DROPPED)]
        path = (target.path or "/") + (f"?{target.query}" if target.query else "")
        lines = [f"GET {path} HTTP/1.1", f"Host: {target.netloc}", *kept, "\r\n"]
        try:
            await there.send("\r\n".join(lines).encode("latin-1"))
            async with anyio.create_task_group() as group:
                self._carried[page] = group.cancel_scope
                group.start_soon(_pump, there, page, group.cancel_scope)
                await _pump(source, there, group.cancel_scope)
        finally:
            self._carried.pop(page, None)
            await anyio.aclose_forcefully(there)


async def _connected(target: SplitResult) -> anyio.abc.ByteStream:
    assert target.hostname is not None
    # Cancelled when it has just connected, it would leave an open socket.
    with anyio.CancelScope(shield=True):
        if target.scheme in ("wss", "https"):
            return await anyio.connect_tcp(
                target.hostname, target.port or 443, tls=True, tls_standard_compatible=False
            )
        return await anyio.connect_tcp(target.hostname, target.port or 80)
    # Nobody cancels that scope, which type checkers cannot know.
    raise AssertionError


async def _pump(
    source: anyio.abc.ByteReceiveStream, sink: anyio.abc.ByteSendStream, scope: anyio.CancelScope
) -> None:
    with suppress(*GONE):
        while True:
            await sink.send(await source.receive())
    scope.cancel()


@asynccontextmanager
async def relay(target: str) -> AsyncIterator[Relay]:
    """A relay on the loopback interface, to a server at `ws://…` or `wss://…`."""
    made = Relay(target)
    async with serving(made.accept) as port:
        made.url = f"http://127.0.0.1:{port}/"
        yield made
