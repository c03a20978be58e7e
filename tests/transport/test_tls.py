"""Certificates: those that are not trusted, and those that are renewed while a server runs."""

from __future__ import annotations

import datetime as dt
import ssl
from functools import partial

import anyio
import anyio.abc
import anyio.streams.tls
import pytest
import trustme

import wsrpc
from tests.support import Codec, served, soon, until
from wsrpc.transport.registry import Transport


class Echo:
    @wsrpc.method
    async def echo(self, value: str) -> str:
        return value


OLD, NEW = trustme.CA(), trustme.CA()


def trusting(*authorities: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for authority in authorities:
        authority.configure_trust(context)
    return context


def renew(context: ssl.SSLContext, authority: trustme.CA) -> None:
    """As an operator does: the same context gets another chain and key."""
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)


def issued(authority: trustme.CA, *names: str, ended: bool = False) -> ssl.SSLContext:
    """A server's context with a certificate for these names."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    past = dt.datetime(2020, 1, 1)
    authority.issue_cert(*names, not_after=past if ended else None).configure_cert(context)
    return context


DISTRUST = {
    "expired": (issued(OLD, "127.0.0.1", ended=True), "certificate has expired"),
    "another name": (issued(OLD, "example.org"), "not valid for '127.0.0.1'"),
    "another authority": (issued(NEW, "127.0.0.1"), "load it into the context of ssl="),
}


@pytest.mark.parametrize("why", DISTRUST)
async def test_the_error_for_a_certificate_that_is_not_trusted_says_why(
    why: str, transport: Transport
) -> None:
    server, words = DISTRUST[why]
    async with served([Echo()], listen={"ssl": server}) as listener:
        with pytest.raises(wsrpc.ConnectError) as caught:
            async with wsrpc.connect(listener.url, ssl=trusting(OLD)):
                pytest.fail("connected")
    assert "certificate is not trusted: " in str(caught.value)
    assert words in str(caught.value)


async def test_the_error_of_a_client_without_a_certificate_says_that_one_may_be_wanted(
    transport: Transport,
) -> None:
    server = issued(OLD, "127.0.0.1")
    OLD.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    async with served([Echo()], listen={"ssl": server}) as listener:
        with pytest.raises(wsrpc.ConnectError, match=r"client certificate|certificate required"):
            async with wsrpc.connect(listener.url, ssl=trusting(OLD)):
                pytest.fail("connected")


async def test_connections_from_then_on_get_a_renewed_certificate_and_links_that_are_open_stay(
    codec: Codec, transport: Transport
) -> None:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    renew(server, OLD)
    connect = partial(wsrpc.connect, codec=codec)
    async with served([Echo()], listen={"ssl": server}) as listener:
        async with connect(listener.url, ssl=trusting(OLD)) as session:
            echo = session.clientize(Echo)
            assert await echo.echo("a") == "a"
            renew(server, NEW)
            assert await echo.echo("b" * 100_000) == "b" * 100_000
            async with connect(listener.url, ssl=trusting(NEW)) as other:
                assert await other.clientize(Echo).echo("c") == "c"
            with pytest.raises(wsrpc.ConnectError, match=r"TLS|certificate"):
                async with connect(listener.url, ssl=trusting(OLD)):
                    pytest.fail("it got the old certificate")
            assert await echo.echo("d") == "d"
            assert session.state == "connected"


async def test_a_handshake_under_way_when_the_certificate_is_renewed_comes_to_its_end(
    transport: Transport,
) -> None:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    renew(server, OLD)
    async with served([Echo()], listen={"ssl": server}) as listener:
        port = int(listener.url.rsplit(":", 1)[1])
        held = anyio.Event()
        go_on = anyio.Event()

        async def relay(client: anyio.abc.SocketStream) -> None:
            """Carry the client's first bytes, and hold back the rest until `go_on`."""
            async with client, await anyio.connect_tcp("127.0.0.1", port) as upstream:
                await upstream.send((await client.receive())[:50])
                held.set()
                await go_on.wait()

        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as front:
            async with anyio.create_task_group() as group:
                group.start_soon(front.serve, relay)
                behind = front.extra(anyio.abc.SocketAttribute.local_port)
                url = f"wss://127.0.0.1:{behind}"
                outcome: list[str] = []

                async def connect() -> None:
                    with pytest.raises(wsrpc.ConnectError):
                        async with wsrpc.connect(url, ssl=trusting(OLD, NEW)):
                            pytest.fail("its first message was cut")
                    outcome.append("refused")

                group.start_soon(connect)
                await held.wait()
                renew(server, NEW)
                # Half a first message is no obstacle to the others.
                async with wsrpc.connect(listener.url, ssl=trusting(NEW)) as session:
                    assert await session.clientize(Echo).echo("a") == "a"
                go_on.set()
                await until(lambda: outcome == ["refused"])
                group.cancel_scope.cancel()


async def test_a_slow_handshake_is_not_spoilt_by_a_renewed_certificate(
    transport: Transport,
) -> None:
    """Byte by byte, with a renewal between each two of the client's packets."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    renew(server, OLD)
    authorities = [NEW, OLD]
    async with served([Echo()], listen={"ssl": server}) as listener:
        port = int(listener.url.rsplit(":", 1)[1])

        async def pump(
            source: anyio.abc.SocketStream, sink: anyio.abc.SocketStream, *, up: bool
        ) -> None:
            try:
                while True:
                    data = await source.receive()
                    half = len(data) // 2
                    for piece in (data[:half], data[half:]):
                        if up:
                            authorities.reverse()
                            renew(server, authorities[0])
                        if piece:
                            await sink.send(piece)
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                await sink.aclose()

        async def relay(client: anyio.abc.SocketStream) -> None:
            async with client, await anyio.connect_tcp("127.0.0.1", port) as upstream:
                async with anyio.create_task_group() as group:
                    group.start_soon(partial(pump, upstream, client, up=False))
                    await pump(client, upstream, up=True)

        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as front:
            async with anyio.create_task_group() as group:
                group.start_soon(front.serve, relay)
                behind = front.extra(anyio.abc.SocketAttribute.local_port)
                url = f"wss://127.0.0.1:{behind}"
                with soon():
                    async with wsrpc.connect(url, ssl=trusting(OLD, NEW)) as session:
                        assert await session.clientize(Echo).echo("a") == "a"
                group.cancel_scope.cancel()
