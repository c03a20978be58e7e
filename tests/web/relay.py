"""What a page loads the client from, and what carries its WebSocket to a server anywhere.

The page's origin is this relay, which drops the header `Origin`: so a test in a browser can be
pointed at any server. It can also reset the connections that it carries.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

from wsrpc.web.slim import slim

from .node import ROOT, STATIC

FILES = {
    "/wsrpc.js": STATIC / "wsrpc.js",
    "/wsrpc-msgpack.js": STATIC / "wsrpc-msgpack.js",
    "/interop.js": ROOT / "tests" / "web" / "interop.js",
    "/chaos.js": ROOT / "tests" / "web" / "chaos.js",
}
RESET = struct.pack("ii", 1, 0)


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
        self._carried: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Reset all connections that are carried."""
        for writer in list(self._carried):
            self._reset(writer)

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        self.cuts += 1
        raw = writer.get_extra_info("socket")
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *headers = head.split("\r\n")
        if any(line.lower().startswith("upgrade:") for line in headers):
            await self._carry(headers, reader, writer)
            return
        path = request.split(" ")[1].partition("?")[0]
        file = FILES.get(path)
        body = b"<!doctype html><title>wsrpc</title>"
        if file is not None:
            # As servers send it.
            body = slim(file.read_text(encoding="utf-8")).encode()
        kind = "text/html" if file is None else "text/javascript"
        writer.write(
            f"HTTP/1.1 {200 if file or path == '/' else 404} OK\r\nContent-Type: {kind}; "
            f"charset=utf-8\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
            + body
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def _carry(
        self, headers: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if not self.open:
            self._reset(writer)
            return
        target = urlsplit(self.target)
        secure = target.scheme in ("wss", "https")
        port = target.port or (443 if secure else 80)
        there_in, there = await asyncio.open_connection(
            target.hostname, port, ssl=ssl.create_default_context() if secure else None
        )
        kept = [line for line in headers if not line.lower().startswith(("origin:", "host:"))]
        path = (target.path or "/") + (f"?{target.query}" if target.query else "")
        lines = [f"GET {path} HTTP/1.1", f"Host: {target.netloc}", *kept]
        there.write("\r\n".join(lines).encode("latin-1"))
        self._carried.add(writer)
        both = [
            asyncio.ensure_future(_pump(reader, there)),
            asyncio.ensure_future(_pump(there_in, writer)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._carried.discard(writer)
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            with suppress(OSError):
                there.close()

    async def stop(self) -> None:
        """End what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()


@asynccontextmanager
async def relay(target: str) -> AsyncIterator[Relay]:
    """A relay on the loopback interface, to a server at `ws://…` or `wss://…`."""
    made = Relay(target)
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0, limit=1 << 20)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        yield made
    finally:
        server.close()
        await made.stop()
        await server.wait_closed()
