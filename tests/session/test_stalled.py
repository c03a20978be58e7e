"""A peer that stops reading its socket: bounded memory, a verdict, and nobody else is held up."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.abc
import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

import wsrpc
from tests.support import bare_client, served, soon, turns, until
from wsrpc.transport.websockets import direct

ITEM = "x" * 10_000


class Flood:
    def __init__(self) -> None:
        self.produced = 0
        self.cleaned = 0

    @wsrpc.method
    async def items(self) -> AsyncIterator[str]:
        try:
            while True:
                yield ITEM
                self.produced += 1
        finally:
            self.cleaned += 1

    @wsrpc.method
    async def echo(self, n: int) -> int:
        return n


class Told(wsrpc.Observer):
    """The seconds for which connections took nothing, and streams waited."""

    def __init__(self) -> None:
        self.blocked: list[float] = []
        self.paused_for: list[float] = []

    def backpressure(self, session: wsrpc.Session, seconds: float) -> None:
        self.blocked.append(seconds)

    def paused(self, call: wsrpc.ObservedCall, seconds: float) -> None:
        self.paused_for.append(seconds)


class Socket:
    """A WebSocket client that reads only when told to."""

    def __init__(self, stream: anyio.abc.SocketStream, protocol: ClientProtocol) -> None:
        self.stream = stream
        self.protocol = protocol

    async def send(self, *frames: Any) -> None:
        self.protocol.send_text(json.dumps(frames).encode())
        await self.flush()

    async def flush(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                await self.stream.send(data)

    async def read(self) -> list[Any]:
        self.protocol.receive_data(await self.stream.receive())
        return self.protocol.events_received()

    async def close_code(self) -> int:
        """Read to the end; the code of the close frame that comes there."""
        with soon():
            while True:
                for event in await self.read():
                    if isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                        return int.from_bytes(bytes(event.data[:2]), "big")


@asynccontextmanager
async def socket_to(url: str) -> AsyncIterator[Socket]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    async with await anyio.connect_tcp(parts.hostname, parts.port) as stream:
        protocol = ClientProtocol(
            parse_uri(url), subprotocols=[Subprotocol("wsrpc.v1.json")], max_size=None
        )
        protocol.send_request(protocol.connect())
        socket = Socket(stream, protocol)
        await socket.flush()
        await socket.read()
        yield socket


@contextmanager
def public_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(direct, "available", lambda: False)
        yield


@pytest.fixture(params=["short way", "documented way"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Both ways into the WebSocket library; on trio there is only the documented one."""
    if request.param == "short way":
        yield
    else:
        with public_path(monkeypatch):
            yield


@pytest.mark.rule("OUT-1", "OUT-3", "OUT-4")
@pytest.mark.usefixtures("way")
async def test_a_peer_that_stops_reading_is_closed_with_4001_and_costs_a_bounded_amount() -> None:
    flood, told = Flood(), Told()
    limits = wsrpc.Limits(resume_window=0, stall_timeout=0.5, outbox=256 * 1024, close_timeout=0.2)
    async with served([flood], limits=limits, observers=[told]) as listener:
        async with socket_to(listener.url) as peer:
            await peer.send(
                ["hello", {"version": 1, "window": 1}],
                ["call", 1, "Flood.items", {}, {"credit": 1_000_000}],
            )
            await until(lambda: flood.produced > 0)
            [session] = listener.server.sessions.values()
            largest = 0
            async with wsrpc.connect(listener.url) as other:
                proxy = other.clientize(Flood)
                with soon():
                    while flood.cleaned == 0:
                        assert await proxy.echo(1) == 1
                        largest = max(largest, session.outbox_bytes)
            assert largest <= limits.outbox + len(ITEM) + 2
            assert listener.server.stats.closes[4001] == 1
            assert session.closed
            # The wait that nothing ended but this is told as well.
            await until(lambda: sum(told.blocked) >= limits.stall_timeout)
            await until(lambda: sum(told.paused_for) >= limits.stall_timeout / 2)


@pytest.mark.usefixtures("way")
async def test_a_stalled_peer_that_reads_again_in_time_gets_everything() -> None:
    flood = Flood()
    async with served([flood], limits=wsrpc.Limits(resume_window=0, outbox=256 * 1024)) as listener:
        async with socket_to(listener.url) as peer:
            await peer.send(
                ["hello", {"version": 1, "window": 1}],
                ["call", 1, "Flood.items", {}, {"credit": 4_000}],
            )
            await until(lambda: flood.produced > 0)
            await turns(200)
            before = flood.produced
            assert before < 4_000
            got = 0
            with soon():
                while got < 4_000:
                    for event in await peer.read():
                        if isinstance(event, Frame):
                            got += bytes(event.data).count(ITEM.encode())
            assert got == flood.produced + 1 == 4_000


async def test_closing_a_session_whose_peer_does_not_read_takes_a_bounded_time() -> None:
    flood = Flood()
    limits = wsrpc.Limits(resume_window=0, outbox=256 * 1024, close_timeout=0.2)
    async with served([flood], limits=limits) as listener:
        async with socket_to(listener.url) as peer:
            await peer.send(
                ["hello", {"version": 1, "window": 1}],
                ["call", 1, "Flood.items", {}, {"credit": 1_000_000}],
            )
            await until(lambda: flood.produced > 0)
            await turns(200)
            [session] = listener.server.sessions.values()
            with soon():
                await session.aclose(1000, "enough")
                await until(lambda: flood.cleaned == 1)


@pytest.mark.rule("OUT-4")
async def test_a_link_without_callbacks_is_watched_as_well() -> None:
    flood, told = Flood(), Told()
    server = wsrpc.Server([flood], limits=wsrpc.Limits(stall_timeout=0.3), observers=[told])
    async with bare_client(server) as peer:
        await peer.send(["call", 1, "Flood.items", {}, {"credit": 1_000_000}])
        await until(lambda: flood.cleaned == 1)
        assert await peer.closed() == 4001
        await until(lambda: sum(told.blocked) >= 0.3)
