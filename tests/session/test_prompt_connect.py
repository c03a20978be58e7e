"""A caller that gives up `connect()` does not wait for a peer's goodbye."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

import wsrpc
from tests.support import served, soon, until
from wsrpc.transport.registry import Transport, open_link

# Seconds: a caller that waits for the closing handshake fails.
LIMITS = wsrpc.Limits(close_timeout=1000)


class Mute:
    """Opens WebSockets, and says nothing."""

    def __init__(self, *, opens: bool) -> None:
        self.opens = opens
        self.reached = anyio.Event()

    async def serve(self, stream: anyio.abc.SocketStream) -> None:
        async with stream:
            protocol = ServerProtocol(subprotocols=[Subprotocol("wsrpc.v1.json")])
            opening = self.opens
            while opening:
                protocol.receive_data(await stream.receive())
                for event in protocol.events_received():
                    assert isinstance(event, Request)
                    protocol.send_response(protocol.accept(event))
                    await stream.send(b"".join(protocol.data_to_send()))
                    opening = False
            self.reached.set()
            await anyio.sleep_forever()


@asynccontextmanager
async def mute(*, opens: bool) -> AsyncIterator[tuple[str, Mute]]:
    peer = Mute(opens=opens)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(partial(listener.serve, peer.serve))
        yield f"ws://127.0.0.1:{port}", peer
        group.cancel_scope.cancel()


@pytest.mark.parametrize("opens", [False, True], ids=["no handshake", "no hello"])
async def test_cancelling_connect_is_prompt(transport: Transport, opens: bool) -> None:
    with soon():
        async with mute(opens=opens) as (url, peer), anyio.create_task_group() as group:

            async def connect() -> None:
                async with wsrpc.connect(url, limits=LIMITS):
                    pytest.fail("nobody said hello")

            group.start_soon(connect)
            await peer.reached.wait()
            group.cancel_scope.cancel()


@pytest.mark.parametrize("opens", [False, True], ids=["no handshake", "no hello"])
async def test_timing_out_connect_is_prompt(transport: Transport, opens: bool) -> None:
    limits = wsrpc.Limits(close_timeout=1000, connect_timeout=0.2)
    with soon():
        async with mute(opens=opens) as (url, _):
            with pytest.raises(wsrpc.ConnectError, match="in time"):
                async with wsrpc.connect(url, limits=limits):
                    pytest.fail("nobody said hello")


async def test_a_message_that_nobody_took_does_not_hold_up_the_end(transport: Any) -> None:
    """It came at the moment of the cancellation."""
    async with served([], limits=LIMITS) as listener:
        opened = open_link(listener.url, "wsrpc.v1.json", transport=transport, limits=LIMITS)
        async with opened as link:
            await link.send(b'[["hello",{"version":1}]]')
            await link.receive()
            await link.send(b'[["ping"]]')
            await anyio.sleep(0.05)


async def test_a_connect_that_is_cancelled_at_any_turn_leaves_no_session_behind(
    transport: Transport,
) -> None:
    async with served([]) as listener:

        async def connect() -> None:
            async with wsrpc.connect(listener.url):
                met.set()

        met = anyio.Event()
        for turn in range(300):
            async with anyio.create_task_group() as group:
                group.start_soon(connect)
                for _ in range(turn):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            await until(lambda: not listener.server.sessions)
            if met.is_set():
                return
        raise AssertionError("no connection in 300 turns")
