"""How connections open and do not: requests by hand, origins, credentials, proxies, timeouts."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import pytest

import wsrpc
from tests.support import served, soon
from wsrpc.transport.base import HttpAnswer
from wsrpc.transport.registry import Transport

from .support import Guest, listening

pytestmark = pytest.mark.usefixtures("transport")

KEY = base64.b64encode(bytes(16)).decode()

UPGRADE = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Protocol": "wsrpc.v1.json",
}


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1].partition("/")[0])


async def ask(
    url: str, headers: dict[str, str], line: str = "GET / HTTP/1.1", *, body: bool = False
) -> str:
    """The head of the answer to a request, in lower case; the status line comes first.

    Args:
        url: Where to ask.
        headers: The request's.
        line: Its first line.
        body: Whether to read to the end of the connection.
    """
    text = "\r\n".join([line, *(f"{name}: {value}" for name, value in headers.items()), "", ""])
    answer = b""
    async with await anyio.connect_tcp("127.0.0.1", port_of(url)) as stream:
        await stream.send(text.encode("latin-1"))
        while body or b"\r\n\r\n" not in answer:
            try:
                answer += await stream.receive()
            except anyio.EndOfStream:
                if not body:
                    raise
                break
    return (answer if body else answer.partition(b"\r\n\r\n")[0]).decode().lower()


class Who:
    @wsrpc.method
    async def headers(self) -> dict[str, str]:
        return dict(wsrpc.current().session.handshake.headers)


@pytest.mark.rule("LINK-2")
@pytest.mark.parametrize(
    ("changes", "status", "also"),
    [
        ({}, "101", "sec-websocket-protocol: wsrpc.v1.json"),
        ({"Connection": "keep-alive, Upgrade"}, "101", "upgrade: websocket"),
        (
            {"Sec-WebSocket-Protocol": "chat, wsrpc.v1.msgpack, wsrpc.v1.json"},
            "101",
            "wsrpc.v1.json",
        ),
        ({"Sec-WebSocket-Extensions": "permessage-deflate"}, "101", ""),
        ({"Origin": "https://good.example"}, "101", ""),
        ({"Origin": "https://evil.example"}, "403", ""),
        ({"Upgrade": "h2c"}, "426", "upgrade: websocket"),
        ({"Connection": "close"}, "426", "upgrade: websocket"),
        ({"Sec-WebSocket-Protocol": "chat"}, "400", ""),
        ({"Sec-WebSocket-Version": "12"}, "400", ""),
        ({"Sec-WebSocket-Key": "short"}, "400", ""),
    ],
)
async def test_a_request_is_answered_by_the_rules(
    changes: dict[str, str], status: str, also: str
) -> None:
    async with served([Who()], origins=["https://good.example"]) as listener:
        answer = await ask(listener.url, UPGRADE | changes)
        assert answer.startswith(f"http/1.1 {status} ")
        assert also in answer
        assert "sec-websocket-extensions" not in answer


async def test_a_request_that_is_none_is_answered_or_dropped_and_others_are_served() -> None:
    async with served([Who()]) as listener:
        for line in ("GET /", "POST / HTTP/1.1", "GET / HTTP/1.0", "\xff\xff\xff", "x" * 20_000):
            try:
                answer = await ask(listener.url, UPGRADE, line)
                assert answer.startswith(("http/1.1 4", "http/1.1 5"))
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
        async with wsrpc.connect(listener.url) as session:
            await session.clientize(Who).headers()


async def test_a_request_may_be_answered_over_http(transport: Transport) -> None:
    asked: list[tuple[str, str, str, str, str]] = []

    def answer(
        method: str, path: str, headers: Mapping[str, str], local: str, peer: str
    ) -> HttpAnswer | None:
        asked.append((method, path, headers["host"], local, peer))
        if "upgrade" in headers:
            return None
        if method == "HEAD":
            return HttpAnswer(200, (("Content-Length", "12"), ("Content-Type", "text/html")))
        if method == "POST":
            return HttpAnswer(405, (("Allow", "GET, HEAD"),))
        return HttpAnswer(200, (("Content-Type", "text/html"), ("X-One", "1")), b"<p>hello</p>")

    guest = Guest()
    host = {"Host": "here"}
    with soon():
        async with listening(transport, guest.handle, answer=answer) as url:
            whole = await ask(url, host, "GET /page?x=1 HTTP/1.1", body=True)
            head, _, body = whole.partition("\r\n\r\n")
            assert head.startswith("http/1.1 200 ok\r\n")
            assert body == "<p>hello</p>"
            assert {"content-length: 12", "content-type: text/html", "connection: close"} <= set(
                head.split("\r\n")
            )
            assert "x-one: 1" in head
            if transport == "websockets":
                # picows itself answers 400 to other methods than GET.
                whole = await ask(url, host, "HEAD / HTTP/1.1", body=True)
                assert whole.startswith("http/1.1 200 ")
                assert whole.endswith("\r\n\r\n")
                assert whole.count("content-length") == 1
                assert "content-length: 12" in whole
                whole = await ask(url, host, "POST / HTTP/1.1", body=True)
                assert whole.startswith("http/1.1 405 ")
                assert "allow: get, head" in whole
            assert (await ask(url, UPGRADE)).startswith("http/1.1 101 ")
            guest.leave()
    assert [line[:3] for line in asked if line[0] == "GET"] == [
        ("GET", "/page?x=1", "here"),
        ("GET", "/", "localhost"),
    ]
    assert {line[3:] for line in asked} == {("127.0.0.1", "127.0.0.1")}


@pytest.mark.rule("HELLO-9")
async def test_whoever_does_not_finish_the_handshake_is_dropped_in_time() -> None:
    async with served([Who()], limits=wsrpc.Limits(hello_timeout=0.1)) as listener:
        for begun in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n"):
            async with await anyio.connect_tcp("127.0.0.1", port_of(listener.url)) as stream:
                if begun:
                    await stream.send(begun)
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()


async def test_a_server_stops_while_somebody_is_within_the_handshake() -> None:
    with soon():
        async with wsrpc.Server([Who()], limits=wsrpc.Limits(hello_timeout=0.2)).listen() as one:
            stream = await anyio.connect_tcp("127.0.0.1", port_of(one.url))
            await stream.send(b"GET / HTTP/1.1\r\n")
            await anyio.sleep(0.01)
        async with stream:
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()


async def test_credentials_in_the_url_are_sent_as_basic_authorization() -> None:
    async with served([Who()]) as listener:
        url = listener.url.replace("ws://", "ws://ann:s%20cret@")
        async with wsrpc.connect(url) as session:
            headers = await session.clientize(Who).headers()
    assert headers["authorization"] == f"Basic {base64.b64encode(b'ann:s cret').decode()}"
    assert headers["host"] == f"127.0.0.1:{port_of(url)}"


async def test_a_header_cannot_smuggle_in_another_one() -> None:
    async with served([Who()]) as listener:
        with pytest.raises(ValueError, match="the value of 'X-A' has a line break"):
            async with wsrpc.connect(listener.url, headers={"X-A": "a\r\nX-B: b"}):
                pass


async def test_tls_settings_for_a_plain_url_are_a_mistake() -> None:
    import ssl

    async with served([Who()]) as listener:
        with pytest.raises(wsrpc.ConnectError, match="ssl"):
            async with wsrpc.connect(listener.url, ssl=ssl.create_default_context()):
                pass


# ------------------------------------------------------------------------------------ proxies


@asynccontextmanager
async def proxy(status: bytes = b"200 OK") -> AsyncIterator[tuple[str, list[bytes]]]:
    """An HTTP proxy for tunnels; yields where it is and the requests that it has seen."""
    requests: list[bytes] = []
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")

    async def pass_on(source: anyio.abc.SocketStream, target: anyio.abc.SocketStream) -> None:
        try:
            async for data in source:
                await target.send(data)
            await target.send_eof()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass

    async def tunnel(near: anyio.abc.SocketStream) -> None:
        async with near:
            request = b""
            while b"\r\n\r\n" not in request:
                request += await near.receive()
            requests.append(request.partition(b"\r\n")[0])
            await near.send(b"HTTP/1.1 " + status + b"\r\n\r\n")
            if status.startswith(b"200"):
                port = request.split()[1].decode().split(":")[1]
                # Of this machine, by any name; a proxy of the environment never serves that itself.
                host = "127.0.0.1"
                async with await anyio.connect_tcp(host, int(port)) as far:
                    async with anyio.create_task_group() as group:
                        group.start_soon(pass_on, near, far)
                        group.start_soon(pass_on, far, near)

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, tunnel)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        yield f"http://127.0.0.1:{port}", requests
        group.cancel_scope.cancel()


async def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with served([Who()]) as listener, proxy() as (where, requests):
        monkeypatch.setenv("ws_proxy", where)
        port = port_of(listener.url)
        for url in (f"ws://far.invalid:{port}", listener.url, f"ws://localhost:{port}"):
            async with wsrpc.connect(url) as session:
                await session.clientize(Who).headers()
        assert requests == [b"CONNECT far.invalid:%d HTTP/1.1" % port]
        with pytest.raises(wsrpc.ConnectError):
            async with wsrpc.connect(f"ws://far.invalid:{port}", proxy=False):
                pytest.fail("connected without a proxy")
        assert len(requests) == 1


async def test_a_proxy_that_is_given_is_used_for_loopback_too() -> None:
    async with served([Who()]) as listener, proxy() as (where, requests):
        async with wsrpc.connect(listener.url, proxy=where) as session:
            await session.clientize(Who).headers()
        assert len(requests) == 1
    with pytest.raises(wsrpc.ConnectError, match=where):
        async with wsrpc.connect(listener.url, proxy=where):
            pytest.fail("the proxy is gone")


async def test_a_proxy_that_refuses_is_a_connect_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with proxy(b"403 Forbidden") as (where, _):
        monkeypatch.setenv("ws_proxy", where)
        with soon(), pytest.raises(wsrpc.ConnectError, match=f"by the proxy {where}"):
            async with wsrpc.connect("ws://nowhere.invalid"):
                pass


async def test_a_proxy_that_is_none_is_a_connect_error_without_its_password(
    monkeypatch: pytest.MonkeyPatch, transport: Transport
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("ws_proxy", "ftp://ann:pa55@proxy.invalid")
    with soon(), pytest.raises(wsrpc.ConnectError, match=r"proxy.*ftp") as caught:
        async with wsrpc.connect("ws://nowhere.invalid", transport=transport):
            pass
    assert "pa55" not in str(caught.value)


# ------------------------------------------------------------------------------------ links


async def test_the_accepting_side_knows_path_headers_and_peer(transport: Transport) -> None:
    guest = Guest()
    async with listening(transport, guest.handle) as url:
        async with await anyio.connect_tcp("127.0.0.1", port_of(url)) as stream:
            head = "\r\n".join(f"{name}: {value}" for name, value in UPGRADE.items())
            await stream.send(
                f"GET /a/path?q=1 HTTP/1.1\r\n{head}\r\nX-Odd:  \xe9 \r\n\r\n".encode("latin-1")
            )
            link = await guest.arrive()
            port = stream.extra(anyio.abc.SocketAttribute.local_port)
            assert link.handshake.path == "/a/path?q=1"
            assert link.handshake.headers["x-odd"] == "\xe9"
            assert link.handshake.remote == f"127.0.0.1:{port}"
            assert not link.handshake.tls
        guest.leave()
