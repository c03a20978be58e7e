"""What is particular to picows: how it is chosen, and what it does not do by itself."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import trustme
from websockets.frames import Opcode

import wsrpc
from tests.support import served, soon, until
from wsrpc.errors import ProtocolError
from wsrpc.transport.base import DirectLink, Link, LinkClosed
from wsrpc.transport.registry import open_link

from .support import QUICK, Guest, by_hand, links, listening


class Echo:
    @wsrpc.method
    async def echo(self, value: object) -> object:
        return value


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_connection_that_is_reset_before_its_handshake_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        connect = loop.sock_connect

        async def connect_and_be_reset(one: socket.socket, address: Any) -> None:
            await connect(one, address)
            accepted, _ = listener.accept()
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()
            # Nobody listens any more, should it be connected again.
            listener.close()
            with suppress(ConnectionResetError):
                while one.recv(1):
                    pass

        monkeypatch.setattr(loop, "sock_connect", connect_and_be_reset)
        with soon(), pytest.raises(wsrpc.ConnectError, match="did not answer the handshake"):
            async with wsrpc.connect(f"ws://127.0.0.1:{port}", transport="picows", reconnect=False):
                pytest.fail("connected")


# ------------------------------------------------------------------------------------ choosing


async def test_an_unknown_transport_is_an_error_that_lists_the_known_ones() -> None:
    name: Any = "carrier pigeon"
    for begin in (
        lambda: wsrpc.connect("ws://localhost", transport=name),
        lambda: wsrpc.Server([Echo()]).listen(transport=name),
    ):
        with pytest.raises(ValueError, match=r"'websockets' or 'picows', not 'carrier pigeon'"):
            begin()
    with pytest.raises(ValueError, match="'websockets' or 'picows'"):
        await wsrpc.Server([Echo()]).serve(transport=name)


async def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picows", None)
    with pytest.raises(ImportError, match=r"wsrpc-anyio\[picows\]"):
        wsrpc.connect("ws://localhost", transport="picows")
    with pytest.raises(ImportError, match=r"wsrpc-anyio\[picows\]"):
        wsrpc.Server([Echo()]).listen(transport="picows")


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_on_trio_the_error_says_what_to_do() -> None:
    with soon(), pytest.raises(RuntimeError, match=r"asyncio only.*leave transport= out"):
        async with wsrpc.connect("ws://localhost", transport="picows"):
            pytest.fail("connected")
    with soon(), pytest.raises(RuntimeError, match=r"asyncio only.*leave transport= out"):
        async with wsrpc.Server([Echo()]).listen(transport="picows"):
            pytest.fail("bound")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("here", "there"), [("picows", "websockets"), ("websockets", "picows")])
async def test_the_two_ends_need_not_use_the_same(here: Any, there: Any) -> None:
    async with served([Echo()], listen={"transport": there}) as listener:
        async with wsrpc.connect(listener.url, transport=here) as session:
            for size in (1, 10_000, 1_000_000):
                assert await session.clientize(Echo).echo("x" * size) == "x" * size


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_redirect_is_not_followed() -> None:
    answer = b"HTTP/1.1 301 Moved\r\nLocation: ws://localhost:1/\r\nContent-Length: 0\r\n\r\n"

    async def redirect(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(answer)

    with soon():
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, redirect)
            with pytest.raises(wsrpc.ConnectError, match="HTTP 301"):
                async with wsrpc.connect(f"ws://127.0.0.1:{port}", transport="picows"):
                    pytest.fail("connected")
            group.cancel_scope.cancel()


# ------------------------------------------------------------------------------------ at work


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_pings_of_a_peer_that_does_not_read_cost_a_bounded_amount(side: str) -> None:
    many = 200
    # So many that it is the socket, and not CALM-2, that bounds them.
    patient = replace(QUICK, ping_burst=10**6)
    async with by_hand("picows", side, limits=patient) as (link, peer):
        assert isinstance(link, DirectLink)
        pings = b"".join(peer.frame(Opcode.PING, b"%0125d" % n) for n in range(500))
        for _ in range(many):
            await peer.write(pings)
            assert link.unsent <= 80 * 1024
        await peer.write(peer.frame(Opcode.PING, b"the last one"))
        while (await peer.expect(Opcode.PONG)) != b"the last one":
            pass
        await link.send(b"and on")
        assert await peer.expect(Opcode.TEXT) == b"and on"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_burst_of_messages_lets_others_have_their_turns(side: str) -> None:
    turn = 0
    heard: list[int] = []

    async def count_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await anyio.sleep(0)

    async with by_hand("picows", side) as (link, peer):
        assert isinstance(link, DirectLink)
        link.attach(lambda data: heard.append(turn), lambda error: None, lambda: None)
        async with anyio.create_task_group() as group:
            group.start_soon(count_turns)
            await peer.write(b"".join(peer.frame(Opcode.TEXT, b"%d" % n) for n in range(2_000)))
            await until(lambda: len(heard) == 2_000)
            group.cancel_scope.cancel()
    assert max(heard.count(one) for one in set(heard)) <= 16


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_fault_of_wsrpc_itself_ends_the_link_and_is_logged(
    side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    log = SimpleNamespace(error=lambda message, error: logged.append(message))
    monkeypatch.setattr("wsrpc.transport.picows.link.everyone", log)
    ends: list[Exception] = []

    def fail(data: bytes) -> None:
        raise ZeroDivisionError

    async with by_hand("picows", side) as (link, peer):
        assert isinstance(link, DirectLink)
        await peer.text(b"one")
        await anyio.sleep(0.01)
        await peer.text(b"two")
        await anyio.sleep(0.01)
        link.attach(fail, ends.append, lambda: None)
        await until(lambda: bool(ends))
        [end] = ends
        assert isinstance(end, ProtocolError)
        assert end.close_code == 1011
        assert len(logged) == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_handler_that_raises_or_returns_ends_its_connection() -> None:
    async def broken(link: object, place: object) -> None:
        raise ZeroDivisionError

    async def brief(link: object, place: object) -> None:
        pass

    logged: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        log = SimpleNamespace(error=lambda message, error: logged.append(message))
        patch.setattr("wsrpc.transport.picows.accepting.everyone", log)
        for handle, code in ((broken, 1011), (brief, 1000)):
            with soon():
                async with listening("picows", handle) as url:
                    with pytest.raises(wsrpc.ConnectError) as caught:
                        async with wsrpc.connect(url, transport="picows"):
                            pytest.fail("connected")
                    assert caught.value.close_code == code
    assert len(logged) == 1


@asynccontextmanager
async def encrypted(guest: Guest) -> AsyncIterator[tuple[Link, Link]]:
    """Both ends of a connection over TLS."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    with soon():
        async with listening("picows", guest.handle, ssl=server) as url:
            async with open_link(
                url, "wsrpc.v1.msgpack", transport="picows", limits=QUICK, ssl=client
            ) as link:
                yield await guest.arrive(), link
            guest.leave()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("tls", [False, True])
async def test_a_large_message_that_waits_for_the_socket_is_not_overwritten_by_the_next(
    tls: bool,
) -> None:
    """picows keeps the header of a large message in a buffer that the next one fills anew."""
    messages = [bytes([n % 251]) * (9_000 + n) for n in range(2_000)]
    ends = encrypted(Guest()) if tls else links("picows", "msgpack")
    async with ends as (accepting, connecting):
        async with anyio.create_task_group() as group:

            async def say() -> None:
                for message in messages:
                    await accepting.send(message)

            group.start_soon(say)
            await anyio.sleep(0.02)
            for message in messages:
                assert await connecting.receive() == message


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_closing_a_link_whose_buffers_are_full_takes_a_bounded_time(side: str) -> None:
    async with by_hand("picows", side) as (link, _):
        with anyio.move_on_after(0.1):
            while True:
                await link.send(b"m" * 65_536)
        await link.close(4500, "no room for this")
        with pytest.raises(LinkClosed):
            await link.send(b"late")
