"""WebSockets made of bytes, of either side: they can send what no library would.

Frames of the client are masked with a key of zeros, which masks nothing, and what comes is taken at
its word.
"""

from __future__ import annotations

import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha1
from operator import xor
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.abc

from tests.support import Codec, Frame, soon
from wsrpc.protocol.codec import CODECS

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "TEXT",
    "RawLink",
    "raw_link",
    "raw_server",
    "refusal",
    "ws",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

BROKEN = 1006

REQUEST = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Protocol: wsrpc.v1.{codec}\r\n{more}\r\n"
)


def ws(
    opcode: int, payload: bytes = b"", *, final: bool = True, mask: bool = True, rsv: int = 0
) -> bytes:
    """One WebSocket frame (RFC 6455, section 5.2)."""
    flag = 0x80 if mask else 0
    size = len(payload)
    if size < 126:
        length = bytes([flag | size])
    elif size < 65_536:
        length = bytes([flag | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([flag | 127]) + size.to_bytes(8, "big")
    head = bytes([(0x80 if final else 0) | rsv << 4 | opcode])
    return head + length + (bytes(4) if mask else b"") + payload


class RawLink:
    """A connection whose opening handshake is through.

    Attributes:
        codec: The subprotocol's encoding.
        pings: WebSocket pings and pongs that the other end sent.
    """

    def __init__(
        self, stream: anyio.abc.ByteStream, codec: Codec, rest: bytes = b"", *, client: bool = True
    ) -> None:
        self.codec = CODECS[codec]
        self.pings = 0
        self._client = client
        self._stream = stream
        self._buffer = bytearray(rest)
        self._frames: list[Frame] = []

    async def send_bytes(self, data: bytes) -> None:
        """Put bytes on the socket; an end that has closed already takes none."""
        try:
            await self._stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return

    async def send_message(self, payload: bytes) -> None:
        """One message of the subprotocol's type."""
        await self.send_bytes(ws(TEXT if self.codec.text else BINARY, payload, mask=self._client))

    async def send(self, *frames: Any) -> None:
        """One batch."""
        await self.send_message(self.codec.dump(list(frames)))

    async def _exactly(self, n: int) -> bytes:
        while len(self._buffer) < n:
            self._buffer += await self._stream.receive(65_536)
        data = bytes(self._buffer[:n])
        del self._buffer[:n]
        return data

    async def _next(self) -> tuple[int, bytes]:
        """The next WebSocket frame of the other end."""
        head, size = await self._exactly(2)
        masked, size = size & 0x80, size & 0x7F
        if size == 126:
            size = int.from_bytes(await self._exactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await self._exactly(8), "big")
        key = await self._exactly(4) if masked else bytes(4)
        payload = await self._exactly(size)
        if any(key):
            repeated = (key * (size // 4 + 1))[:size]
            payload = bytes(map(xor, payload, repeated))
        return head & 0xF, payload

    async def next(self, *names: str) -> Frame:
        """The next frame with one of these names, which comes."""
        frame = await self.verdict(*names)
        assert isinstance(frame, list), frame
        return frame

    async def verdict(self, *names: str) -> Frame | int:
        """The next frame with one of these names, or else the code with which the other end closes."""
        with soon():
            while True:
                while self._frames:
                    frame = self._frames.pop(0)
                    if frame[0] in names:
                        return frame
                try:
                    opcode, payload = await self._next()
                except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                    return BROKEN
                if opcode == CLOSE:
                    return int.from_bytes(payload[:2], "big") if payload else 1005
                if opcode in (PING, PONG):
                    self.pings += 1
                else:
                    self._frames = self.codec.load(payload)

    async def closed(self) -> int:
        """The code with which the other end closes."""
        code = await self.verdict()
        assert isinstance(code, int)
        return code

    async def hello(self, **fields: Any) -> dict[str, Any]:
        """Both hellos and the ack; returns the body of the server's."""
        await self.send(["hello", {"version": 1, "window": 32, **fields}])
        answer = await self.verdict("hello")
        assert isinstance(answer, list), answer
        await self.send(["ack", 0])
        body: dict[str, Any] = answer[1]
        return body


@asynccontextmanager
async def raw_link(
    url: str, codec: Codec, *, receive_buffer: int | None = None
) -> AsyncIterator[RawLink]:
    """Connect, and do no more than the opening handshake.

    Args:
        url: Where to.
        codec: The subprotocol.
        receive_buffer: Bytes that the kernel takes for this end before they are read; left to the
            kernel if None.
    """
    async with _handshake(url, codec, "") as (stream, status, rest):
        assert status == 101, status
        if receive_buffer is not None:
            raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        yield RawLink(stream, codec, rest)


async def refusal(url: str, codec: Codec, **headers: str) -> int:
    """The HTTP status with which an opening handshake with these headers is answered."""
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    async with _handshake(url, codec, more) as (_, status, _):
        return status


@asynccontextmanager
async def _handshake(
    url: str, codec: Codec, more: str
) -> AsyncIterator[tuple[anyio.abc.SocketStream, int, bytes]]:
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    async with await anyio.connect_tcp(parts.hostname, parts.port) as stream:
        await stream.send(REQUEST.format(codec=codec, more=more).encode("latin-1"))
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += await stream.receive()
        head, _, rest = answer.partition(b"\r\n\r\n")
        yield stream, int(head.split()[1]), rest


# RFC 6455, section 1.3.
MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n%b\r\n"
)


@asynccontextmanager
async def raw_server(
    script: Callable[[RawLink], Awaitable[None]], codec: Codec, *, answer: bytes | None = None
) -> AsyncIterator[str]:
    """A server that does with each connection what `script` says, and then drops it; yields its URL.

    Args:
        script: What to do when the opening handshake is through.
        codec: The subprotocol to choose.
        answer: What to answer the opening handshake instead.
    """

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            request = b""
            while b"\r\n\r\n" not in request:
                request += await stream.receive()
            if answer is not None:
                await stream.send(answer)
                return
            key = request.lower().index(b"sec-websocket-key:")
            key_line = request[key : request.index(b"\r\n", key)].partition(b":")[2].strip()
            accept = b64encode(sha1(key_line + MAGIC).digest())
            chosen = b"Sec-WebSocket-Protocol: wsrpc.v1.%b\r\n" % codec.encode()
            await stream.send(ANSWER % (accept, chosen))
            try:
                await script(RawLink(stream, codec, client=False))
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            yield f"ws://127.0.0.1:{port}"
            group.cancel_scope.cancel()
