"""Pairs of links over any transport, and a peer that writes what it likes to the socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeAlias

import anyio
import anyio.abc
import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from tests.support import Codec, soon
from wsrpc import runtime as runtimes
from wsrpc.admission.door import Answer, Door
from wsrpc.admission.handshakes import PendingLinks
from wsrpc.errors import ProtocolError
from wsrpc.limits import Limits
from wsrpc.transport.base import Link, LinkClosed
from wsrpc.transport.memory import memory_link_pair
from wsrpc.transport.registry import Transport, listen, open_link

Carrier: TypeAlias = Literal["memory"] | Transport

QUICK = Limits(close_timeout=0.2, max_batch=2 * 1024 * 1024)


def subprotocol_of(codec: Codec) -> str:
    return f"wsrpc.v1.{codec}"


@asynccontextmanager
async def listening(
    transport: Transport,
    handle: Any,
    *,
    limits: Limits = QUICK,
    subprotocols: Sequence[str] = ("wsrpc.v1.json", "wsrpc.v1.msgpack"),
    path: str | None = None,
    ssl: Any = None,
    answer: Answer | None = None,
) -> AsyncIterator[str]:
    """`listen` on a free port; yields the URL."""
    door = Door(limits, PendingLinks(limits), runtimes.current().now, answer=answer)
    async with listen(
        handle,
        transport=transport,
        host="127.0.0.1",
        port=0,
        path=path,
        subprotocols=subprotocols,
        door=door,
        limits=limits,
        ssl=ssl,
    ) as bound:
        yield bound.url


class Guest:
    """A link that was accepted, kept open until `leave`."""

    def __init__(self) -> None:
        self.link: Link
        self._came = anyio.Event()
        self._over = anyio.Event()

    async def handle(self, link: Link, pending: object = None) -> None:
        self.link = link
        self._came.set()
        await self._over.wait()

    async def arrive(self) -> Link:
        await self._came.wait()
        return self.link

    def leave(self) -> None:
        self._over.set()


@asynccontextmanager
async def links(
    carrier: Carrier, codec: Codec = "json", *, limits: Limits = QUICK
) -> AsyncIterator[tuple[Link, Link]]:
    """The accepting and the connecting end of one connection, for a bounded time."""
    if carrier == "memory":
        accepting, connecting = memory_link_pair(subprotocol_of(codec))
        with soon():
            yield accepting, connecting
        return
    guest = Guest()
    with soon():
        async with listening(carrier, guest.handle, limits=limits) as url:
            try:
                async with open_link(
                    url, subprotocol_of(codec), transport=carrier, limits=limits
                ) as link:
                    yield await guest.arrive(), link
            finally:
                guest.leave()


async def end_of(link: Link) -> LinkClosed:
    """How a link ends, which has nothing more to deliver."""
    with pytest.raises(LinkClosed) as caught:
        data = await link.receive()
        pytest.fail(f"received {data[:100]!r}")
    return caught.value


async def refusal_of(link: Link) -> ProtocolError:
    """Why a message of the peer is not taken."""
    with pytest.raises(ProtocolError) as caught:
        await link.receive()
    return caught.value


# ------------------------------------------------------------------------------------ by hand


class Peer:
    """The other end of a link under test: it writes frames, and answers nothing by itself."""

    def __init__(
        self, stream: anyio.abc.ByteStream, protocol: ClientProtocol | ServerProtocol
    ) -> None:
        self.stream = stream
        self._protocol = protocol
        self.masks = isinstance(protocol, ClientProtocol)
        self._seen: list[Frame] = []

    async def write(self, data: bytes) -> None:
        """Send these bytes."""
        await self.stream.send(data)

    def frame(
        self,
        opcode: int,
        data: bytes = b"",
        *,
        fin: bool = True,
        reserved: int = 0,
        mask: bool | None = None,
    ) -> bytes:
        """A frame as this side of a connection has to write it; or not, where that is said."""
        size = len(data)
        if size < 126:
            length = bytes([size])
        elif size < 65_536:
            length = b"\x7e" + size.to_bytes(2, "big")
        else:
            length = b"\x7f" + size.to_bytes(8, "big")
        # A key of zeros masks nothing.
        if self.masks if mask is None else mask:
            length = bytes([length[0] | 0x80]) + length[1:] + bytes(4)
        return bytes([fin << 7 | reserved << 4 | opcode]) + length + data

    async def text(self, data: bytes) -> None:
        await self.write(self.frame(Opcode.TEXT, data))

    async def close_frame(self, code: int | None, reason: bytes = b"") -> None:
        payload = b"" if code is None else code.to_bytes(2, "big") + reason
        await self.write(self.frame(Opcode.CLOSE, payload))

    async def frames(self) -> Frame:
        """The next frame that the link sends."""
        while not self._seen:
            self._protocol.receive_data(await self.stream.receive())
            self._seen += [one for one in self._protocol.events_received() if type(one) is Frame]
        return self._seen.pop(0)

    async def expect(self, opcode: Opcode) -> bytes:
        """The data of the next frame, which has to be of this kind."""
        frame = await self.frames()
        assert frame.opcode is opcode, frame
        return bytes(frame.data)

    async def close_code(self) -> int:
        """The code of the close frame that comes in the end."""
        while True:
            frame = await self.frames()
            if frame.opcode is Opcode.CLOSE:
                return int.from_bytes(bytes(frame.data[:2]), "big")


@asynccontextmanager
async def by_hand(
    transport: Transport, side: str, codec: Codec = "json", *, limits: Limits = QUICK
) -> AsyncIterator[tuple[Link, Peer]]:
    """A link as this side of a connection, and the peer at its other end, for a bounded time."""
    ends = (
        _accepting(transport, codec, limits)
        if side == "accepting"
        else _connecting(transport, codec, limits)
    )
    with soon():
        async with ends as (link, peer):
            yield link, peer


@asynccontextmanager
async def _accepting(
    transport: Transport, codec: Codec, limits: Limits
) -> AsyncIterator[tuple[Link, Peer]]:
    guest = Guest()
    async with listening(transport, guest.handle, limits=limits) as url:
        try:
            async with knocking(url, codec) as peer:
                yield await guest.arrive(), peer
        finally:
            guest.leave()


@asynccontextmanager
async def knocking(url: str, codec: Codec = "json") -> AsyncIterator[Peer]:
    """A peer that connects."""
    uri = parse_uri(url)
    async with await anyio.connect_tcp(uri.host, uri.port) as stream:
        protocol = ClientProtocol(
            uri, subprotocols=[Subprotocol(subprotocol_of(codec))], max_size=None
        )
        protocol.send_request(protocol.connect())
        for data in protocol.data_to_send():
            await stream.send(data)
        while not protocol.events_received():
            protocol.receive_data(await stream.receive())
        yield Peer(stream, protocol)


@asynccontextmanager
async def _connecting(
    transport: Transport, codec: Codec, limits: Limits
) -> AsyncIterator[tuple[Link, Peer]]:
    subprotocol = subprotocol_of(codec)
    async with serving(subprotocol) as (url, guest):
        async with open_link(url, subprotocol, transport=transport, limits=limits) as link:
            yield link, await guest.arrive()


class Served:
    """A server's side of one connection."""

    def __init__(self, subprotocol: str) -> None:
        self._subprotocol = Subprotocol(subprotocol)
        self._peer: Peer | None = None
        self._came = anyio.Event()
        self.over = anyio.Event()

    async def handle(self, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            protocol = ServerProtocol(subprotocols=[self._subprotocol], max_size=None)
            events: list[Any] = []
            while not events:
                protocol.receive_data(await stream.receive())
                events = protocol.events_received()
            assert isinstance(events[0], Request)
            protocol.send_response(protocol.accept(events[0]))
            for data in protocol.data_to_send():
                await stream.send(data)
            self._peer = Peer(stream, protocol)
            self._came.set()
            await self.over.wait()

    async def arrive(self) -> Peer:
        await self._came.wait()
        assert self._peer is not None
        return self._peer


@asynccontextmanager
async def serving(subprotocol: str) -> AsyncIterator[tuple[str, Served]]:
    """A peer that accepts one connection."""
    served = Served(subprotocol)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, served.handle)
        yield f"ws://127.0.0.1:{port}", served
        served.over.set()
        group.cancel_scope.cancel()
