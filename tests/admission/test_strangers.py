"""Strangers on real sockets: who is slow, who is one too many, whose page may connect."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
import trustme
from websockets.frames import Opcode

import wsrpc
from tests.support import served, until
from tests.transport.support import knocking
from tests.transport.test_handshakes import UPGRADE, ask, port_of
from wsrpc.transport.listening import bound_sockets

pytestmark = pytest.mark.usefixtures("transport")

HALF = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "


class Who:
    @wsrpc.method
    async def handshake(self) -> dict[str, Any]:
        known = wsrpc.current().session.handshake
        certificate = None if known.certificate is None else known.certificate.get("subject")
        return {"address": known.address, "certificate": certificate, "path": known.path}


async def where(session: wsrpc.Session) -> dict[str, Any]:
    found: dict[str, Any] = await session.clientize(Who).handshake()
    return found


@asynccontextmanager
async def slow(url: str) -> AsyncIterator[anyio.abc.SocketStream]:
    """A peer that begins an opening handshake and does not end it."""
    async with await anyio.connect_tcp("127.0.0.1", port_of(url)) as stream:
        await stream.send(HALF)
        yield stream


async def hung_up(stream: anyio.abc.ByteStream) -> None:
    """Wait until the server has closed."""
    with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
        while True:
            await stream.receive()


# ------------------------------------------------------------------------------------ who is slow


@pytest.mark.rule("HELLO-9")
async def test_a_peer_that_sends_its_headers_byte_by_byte_is_dropped_in_time() -> None:
    """And others are served meanwhile."""
    limits = wsrpc.Limits(hello_timeout=0.15)
    async with served([Who()], limits=limits) as listener:
        async with wsrpc.connect(listener.url) as session, slow(listener.url) as stream:
            with pytest.raises(
                (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)
            ):
                while True:
                    await stream.send(b"x")
                    with anyio.move_on_after(0.02):
                        await stream.receive()
                    await where(session)


@pytest.mark.rule("HELLO-9")
async def test_a_peer_that_says_no_hello_is_closed_with_4008() -> None:
    limits = wsrpc.Limits(hello_timeout=0.1, close_timeout=0.2)
    async with served([Who()], limits=limits) as listener:
        async with wsrpc.connect(listener.url) as session:
            async with knocking(listener.url) as peer:
                assert await peer.close_code() == 4008
            await where(session)


@pytest.mark.rule("HELLO-9")
async def test_a_peer_that_does_not_finish_tls_is_dropped_in_time() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    limits = wsrpc.Limits(hello_timeout=0.1, close_timeout=0.1)
    async with served([Who()], limits=limits, listen={"ssl": context}) as listener:
        for begun in (b"", b"\x16\x03\x01\x02\x00"):
            async with await anyio.connect_tcp("127.0.0.1", port_of(listener.url)) as stream:
                if begun:
                    await stream.send(begun)
                await hung_up(stream)
        pending = listener.server._service.pending
        await until(lambda: len(pending) == 0)


@pytest.mark.rule("LIMIT-3")
async def test_a_crowd_that_is_slow_makes_room_and_harms_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("wsrpc.admission.handshakes.PATIENCE", 0.0)
    limits = wsrpc.Limits(max_unauthenticated=8)
    async with served([Who()], limits=limits) as listener, AsyncExitStack() as stack:
        pending = listener.server._service.pending
        async with wsrpc.connect(listener.url) as before:
            crowd = [await stack.enter_async_context(slow(listener.url)) for _ in range(30)]
            await until(lambda: len(pending) == 8)
            for _ in range(3):
                async with wsrpc.connect(listener.url) as session:
                    await where(session)
            await where(before)
            assert listener.server.snapshot().unauthenticated <= 8
            for stream in crowd[:22]:
                await hung_up(stream)


@pytest.mark.rule("LIMIT-3")
async def test_those_who_come_and_go_take_no_room() -> None:
    async with served([Who()], limits=wsrpc.Limits(max_unauthenticated=2)) as listener:
        for _ in range(8):
            async with slow(listener.url):
                pass
            await ask(listener.url, UPGRADE | {"Upgrade": "h2c"})
            async with wsrpc.connect(listener.url) as session:
                await where(session)
        assert len(listener.server._service.pending) <= 2


@pytest.mark.rule("LIMIT-3")
@pytest.mark.parametrize("kind", ["plain", "tls", "unix"])
async def test_a_connection_that_comes_and_goes_without_a_handshake_frees_its_place_among_the_unauthenticated_at_once(
    kind: str, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    path = str(tmp_path / "s")
    kinds: dict[str, dict[str, Any]] = {
        "plain": {},
        "tls": {"ssl": context},
        "unix": {"path": path},
    }
    limits = wsrpc.Limits(max_unauthenticated=1000, hello_timeout=1000)
    async with served([Who()], limits=limits, listen=kinds[kind]) as listener:
        for begun in (b"", HALF, b"\x16\x03\x01\x02\x00", b"no HTTP\r\n\r\n"):
            if kind == "unix":
                stream: Any = await anyio.connect_unix(path)
            else:
                stream = await anyio.connect_tcp("127.0.0.1", port_of(listener.url))
            async with stream:
                if begun:
                    await stream.send(begun)
                if begun in (b"", HALF):
                    await until(lambda: listener.server.snapshot().unauthenticated == 1)
            await until(lambda: listener.server.snapshot().unauthenticated == 0)


@pytest.mark.rule("LIMIT-3")
async def test_so_does_one_that_was_answered_over_http() -> None:
    """Its peer need not have gone."""
    limits = wsrpc.Limits(hello_timeout=1000, close_timeout=1000)
    async with served([Who()], limits=limits) as listener, AsyncExitStack() as stack:
        for changes in (
            {"Upgrade": "h2c"},
            {"Origin": "https://evil.example"},
            {"Sec-WebSocket-Key": "short"},
        ):
            stream = await stack.enter_async_context(
                await anyio.connect_tcp("127.0.0.1", port_of(listener.url))
            )
            lines = [f"{name}: {value}" for name, value in (UPGRADE | changes).items()]
            await stream.send("\r\n".join(["GET / HTTP/1.1", *lines, "", ""]).encode())
            assert (await stream.receive()).startswith(b"HTTP/1.1 4")
            await until(lambda: listener.server.snapshot().unauthenticated == 0)


@pytest.mark.rule("LIMIT-3")
@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01 is no request\r\n\r\n",
        b"GET /" + 9000 * b"x" + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + 300 * b"X: y\r\n" + b"\r\n",
    ],
    ids=["none", "long", "many headers"],
)
async def test_so_does_one_that_sent_no_request_even_if_it_stays(request_: bytes) -> None:
    limits = wsrpc.Limits(hello_timeout=60, close_timeout=60)
    async with served([Who()], limits=limits) as listener:
        async with await anyio.connect_tcp("127.0.0.1", port_of(listener.url)) as stream:
            await until(lambda: listener.server.snapshot().unauthenticated == 1)
            await stream.send(request_)
            await until(lambda: listener.server.snapshot().unauthenticated == 0)


@pytest.mark.rule("LIMIT-3")
async def test_so_does_one_that_said_goodbye_even_if_it_stays() -> None:
    limits = wsrpc.Limits(hello_timeout=60, close_timeout=60)
    async with served([Who()], limits=limits) as listener:
        async with knocking(listener.url) as peer:
            await until(lambda: listener.server.snapshot().unauthenticated == 1)
            await peer.close_frame(1000)
            assert await peer.close_code() == 1000
            await until(lambda: listener.server.snapshot().unauthenticated == 0)
            await until(lambda: listener.server.snapshot().links == 0)


@pytest.mark.rule("LIMIT-3")
async def test_those_who_were_refused_take_up_room_until_they_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A peer that does not answer the close frame cannot stay for nothing."""

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> str:
        if auth is None:
            raise wsrpc.RpcError("unauthenticated")
        return str(auth)

    limits = wsrpc.Limits(max_unauthenticated=1, close_timeout=5)
    async with served([Who()], authenticate=authenticate, limits=limits) as listener:
        pending = listener.server._service.pending
        async with knocking(listener.url) as peer:
            await peer.text(b'[["hello",{"version":1}]]')
            assert await peer.close_code() == 4501
            assert len(pending) == 1
            # It has kept the server waiting; until that is for too long, others wait.
            monkeypatch.setattr("wsrpc.admission.handshakes.PATIENCE", 0.0)
            async with wsrpc.connect(listener.url, auth="ann") as session:
                await where(session)
                await hung_up(peer.stream)
            assert len(pending) == 0


@pytest.mark.rule("LIMIT-3")
async def test_one_that_makes_room_is_told_so_and_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsrpc.admission.handshakes.PATIENCE", 0.0)
    limits = wsrpc.Limits(max_unauthenticated=1, close_timeout=5)
    async with served([Who()], limits=limits) as listener:
        async with knocking(listener.url) as peer:
            await until(lambda: listener.server.snapshot().links == 1)
            async with wsrpc.connect(listener.url) as session:
                assert await peer.close_code() == 1013
                await hung_up(peer.stream)
                await where(session)


@pytest.mark.rule("LIMIT-3")
async def test_a_server_bounds_those_of_all_its_listeners_together() -> None:
    server = wsrpc.Server([Who()], limits=wsrpc.Limits(max_unauthenticated=2, hello_timeout=0.3))
    async with server.listen() as first, server.listen() as second:
        async with slow(first.url), slow(second.url), slow(first.url) as third:
            await hung_up(third)


@pytest.mark.rule("AUTH-4")
async def test_a_revoked_peer_that_does_not_answer_or_read_is_dropped() -> None:
    """Within a second, however long others may take for their goodbyes."""

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> str:
        return "ann"

    class Flood:
        @wsrpc.method
        async def blobs(self) -> AsyncIterator[bytes]:
            while True:
                yield bytes(30_000)

    limits = wsrpc.Limits(close_timeout=60, stall_timeout=60, resume_window=0)
    async with served([Flood()], authenticate=authenticate, limits=limits) as listener:
        sessions = listener.server.sessions
        async with knocking(listener.url) as deaf, knocking(listener.url) as mute:
            for peer in (deaf, mute):
                await peer.text(b'[["hello",{"version":1}],["ack",0]]')
            await deaf.text(b'[["call",1,"Flood.blobs",{},{"credit":1000}]]')
            await until(lambda: any(one.outbox_bytes > 0 for one in sessions.values()))
            assert listener.server.revoke("ann") == 2
            assert await mute.close_code() == 4501
            with anyio.fail_after(5):
                await hung_up(mute.stream)
                await hung_up(deaf.stream)
            await until(lambda: listener.server.snapshot().links == 0)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        HALF,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n%b\r\n"
        % b"".join(b"%b: %b\r\n" % (k.encode(), v.encode()) for k, v in UPGRADE.items()),
    ],
    ids=["nothing", "half", "a request", "a handshake"],
)
async def test_a_server_stops_soon_whatever_strangers_do(sent: bytes) -> None:
    limits = wsrpc.Limits(hello_timeout=30, close_timeout=1)
    async with AsyncExitStack() as stack:
        with anyio.fail_after(20):
            async with served([Who()], limits=limits) as listener:
                stream = await anyio.connect_tcp("127.0.0.1", port_of(listener.url))
                await stack.enter_async_context(stream)
                await until(lambda: listener.server.snapshot().unauthenticated == 1)
                if sent:
                    await stream.send(sent)
                if sent.endswith(b"\r\n\r\n"):
                    await stream.receive()
            await hung_up(stream)


@pytest.mark.rule("LIMIT-3")
async def test_a_request_that_goes_on_and_on_is_dropped() -> None:
    """And nobody else with it."""
    async with served([Who()]) as listener:
        async with wsrpc.connect(listener.url) as session, slow(listener.url) as stream:
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                for n in range(20):
                    await stream.send(b"x" * 4000 + b"\r\nX-%d: " % n)
                while True:
                    await stream.receive()
            await where(session)


@pytest.mark.rule("HELLO-6", "BATCH-6")
async def test_a_stranger_may_send_a_hello_and_whoever_is_let_in_more() -> None:

    class Echo:
        @wsrpc.method
        async def size(self, text: str) -> int:
            return len(text)

    def padded(size: int) -> bytes:
        hello = b'[["hello",{"version":1,"window":9}],["x-pad","%s"]]'
        return hello % (b"x" * (size - len(hello) + 2))

    async with served([Echo()]) as listener:
        for size, code in ((65_536, None), (65_537, 1009)):
            async with knocking(listener.url) as peer:
                await peer.text(padded(size))
                if code is not None:
                    assert await peer.close_code() == code
                    continue
                assert b"hello" in await peer.expect(Opcode.TEXT)
                call = b'[["ack",0],["x-pad","%s"],["call",1,"Echo.size",{"text":"a"}]]'
                await peer.text(call % (b"x" * 200_000))
                while b'["result",1,1]' not in await peer.expect(Opcode.TEXT):
                    pass


# ------------------------------------------------------------------------------------ from where


def through(*hops: str) -> dict[str, str]:
    return {"X-Forwarded-For": ", ".join(hops)}


async def test_a_trusted_proxy_tells_where_a_connection_comes_from() -> None:
    async with served([Who()], trusted_proxies=["127.0.0.0/8"]) as listener:
        for headers, address in (
            ({}, "127.0.0.1"),
            (through("6.6.6.6", "1.2.3.4"), "1.2.3.4"),
            ({"Forwarded": "for=1.2.3.4"}, "1.2.3.4"),
        ):
            async with wsrpc.connect(listener.url, headers=headers) as session:
                assert (await where(session))["address"] == address


async def test_nobody_else_does() -> None:
    async with served([Who()]) as listener:
        async with wsrpc.connect(listener.url, headers=through("1.2.3.4")) as session:
            assert (await where(session))["address"] == "127.0.0.1"


@pytest.mark.rule("LIMIT-2")
@pytest.mark.parametrize("trusted", [["127.0.0.1"], []])
async def test_links_are_bounded_by_the_address_of_the_client(trusted: list[str]) -> None:
    """Behind a proxy that is not trusted all come from one."""
    limits = wsrpc.Limits(max_links_per_address=1)
    async with served([Who()], limits=limits, trusted_proxies=trusted) as listener:
        async with wsrpc.connect(listener.url, headers=through("1.1.1.1")) as first:
            second = wsrpc.connect(listener.url, headers=through("1.1.1.2"))
            if trusted:
                async with second:
                    pass
            else:
                await refused(second, 4504)
            await refused(wsrpc.connect(listener.url, headers=through("1.1.1.1")), 4504)
            await where(first)


async def refused(attempt: wsrpc.connect, code: int) -> None:
    with pytest.raises(wsrpc.ConnectError) as caught:
        async with attempt:
            pytest.fail("let in")
    assert caught.value.close_code == code


@pytest.mark.rule("LIMIT-3")
@pytest.mark.parametrize("trusted", [["127.0.0.1"], []])
async def test_those_who_say_nothing_are_bounded_by_the_address_of_the_client(
    trusted: list[str],
) -> None:
    limits = wsrpc.Limits(max_unauthenticated_per_address=1, hello_timeout=3)
    options: dict[str, Any] = {"limits": limits, "trusted_proxies": trusted}
    async with served([Who()], **options) as listener, AsyncExitStack() as stack:
        pending = listener.server._service.pending
        streams: list[anyio.abc.SocketStream] = []
        for n in range(1, 4):
            streams.append(await stack.enter_async_context(slow(listener.url)))
            await until(partial(settled, pending, n if trusted else 1))
        if trusted:
            async with wsrpc.connect(listener.url, headers=through("1.1.1.9")) as session:
                await where(session)
        else:
            await hung_up(streams[-1])


def settled(pending: Any, n: int) -> bool:
    return len(pending) == n


async def test_a_unix_socket_has_no_address_but_its_proxy_may_know_one(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    for trusted, address in (([], ""), (["unix"], "1.2.3.4")):
        options: dict[str, Any] = {"trusted_proxies": trusted, "listen": {"path": path}}
        async with served([Who()], **options) as listener:
            async with wsrpc.connect(listener.url, headers=through("1.2.3.4")) as session:
                assert (await where(session))["address"] == address


async def test_several_headers_of_one_name_are_a_list() -> None:
    headers = {
        "Host": "localhost",
        **UPGRADE,
        "X-Forwarded-For": "6.6.6.6\r\nX-Forwarded-For: 1.2.3.4",
    }
    seen: list[wsrpc.Handshake] = []

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> None:
        seen.append(handshake)

    options: dict[str, Any] = {"authenticate": authenticate, "trusted_proxies": ["127.0.0.1"]}
    async with served([Who()], **options) as listener:
        text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        async with await anyio.connect_tcp("127.0.0.1", port_of(listener.url)) as stream:
            await stream.send(f"GET / HTTP/1.1\r\n{text}\r\n".encode())
            await stream.receive()
            hello = b'[["hello",{"version":1}]]'
            await stream.send(bytes([0x81, 0x80 | len(hello), 0, 0, 0, 0]) + hello)
            await until(lambda: bool(seen))
    assert seen[0].headers["x-forwarded-for"] == "6.6.6.6, 1.2.3.4"
    assert seen[0].address == "1.2.3.4"


async def test_a_client_certificate_reaches_authenticate() -> None:
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    authority.configure_trust(server_side)
    server_side.verify_mode = ssl.CERT_REQUIRED
    client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client_side)
    authority.issue_cert("ann@example.org", common_name="Ann").configure_cert(client_side)
    seen: list[wsrpc.Handshake] = []

    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> str:
        seen.append(handshake)
        assert handshake.certificate is not None
        subject = dict(pair for (pair,) in handshake.certificate["subject"])
        return str(subject["commonName"])

    options: dict[str, Any] = {"authenticate": authenticate, "listen": {"ssl": server_side}}
    async with served([Who()], **options) as listener:
        async with wsrpc.connect(f"{listener.url}/a?b=c", ssl=client_side) as session:
            assert (await where(session))["path"] == "/a?b=c"
            assert listener.server.sessions[session.id].principal == "Ann"
    assert seen[0].tls


# ------------------------------------------------------------------------------------ whose page


@pytest.mark.rule("ORIGIN-1")
@pytest.mark.parametrize(
    ("options", "headers", "status"),
    [
        ({}, {}, "101"),
        ({}, {"Origin": "http://localhost"}, "101"),
        ({}, {"Origin": "https://localhost"}, "101"),
        ({}, {"Host": "localhost:81", "Origin": "http://localhost:81"}, "101"),
        ({}, {"Host": "localhost:81", "Origin": "http://localhost"}, "403"),
        ({}, {"Origin": "https://evil.example"}, "403"),
        ({}, {"Origin": "null"}, "403"),
        ({"origins": ["https://app.example"]}, {"Origin": "https://app.example"}, "101"),
        ({"origins": ["https://app.example"]}, {"Origin": "http://localhost"}, "101"),
        ({"origins": ["https://app.example"]}, {"Origin": "http://app.example"}, "403"),
        ({"origins": "*"}, {"Origin": "https://evil.example"}, "101"),
        ({"origins": "*"}, {"Origin": "null"}, "101"),
        # A proxy that asks under another name says under which it was asked.
        ({}, {"Origin": "https://a.example", "X-Forwarded-Host": "a.example"}, "403"),
        (
            {"trusted_proxies": ["127.0.0.1"]},
            {"Origin": "https://a.example", "X-Forwarded-Host": "a.example"},
            "101",
        ),
        (
            {"trusted_proxies": ["127.0.0.1"]},
            {"Origin": "http://localhost", "X-Forwarded-Host": "a.example"},
            "403",
        ),
    ],
)
async def test_a_page_connects_to_its_own_host_or_where_it_may(
    options: dict[str, Any], headers: dict[str, str], status: str
) -> None:
    async with served([Who()], **options) as listener:
        answer = await ask(listener.url, UPGRADE | headers)
        assert answer.startswith(f"http/1.1 {status} ")
        async with wsrpc.connect(listener.url) as session:
            await where(session)


@pytest.mark.rule("ORIGIN-1")
async def test_two_origins_are_none() -> None:
    async with served([Who()]) as listener:
        twice = {"Origin": "http://localhost\r\nOrigin: http://localhost"}
        answer = await ask(listener.url, UPGRADE | twice)
        assert answer.startswith("http/1.1 403 ")


# ------------------------------------------------------------------------------------ what is bound


async def test_every_interface_is_bound_and_a_name_with_two_addresses() -> None:
    for host in (None, "localhost"):
        async with served([Who()], listen={"host": host}) as listener:
            async with wsrpc.connect(listener.url) as session:
                assert (await where(session))["address"] in ("127.0.0.1", "::1")


async def test_a_port_that_is_taken_is_an_error_and_nothing_stays_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError):
            async with served([Who()], listen={"port": port}):
                pytest.fail("bound twice")


async def test_without_an_address_family_there_is_nothing_to_bind() -> None:
    def none_here(*parameters: Any) -> socket.socket:
        raise OSError("address family not supported")

    with pytest.raises(OSError, match="no address"):
        await bound_sockets("127.0.0.1", 0, none_here)
