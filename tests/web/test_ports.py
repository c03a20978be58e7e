"""Pages, health and refusals on the port of a real server, by each transport."""

from __future__ import annotations

import gzip
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, NamedTuple

import anyio
import pytest
import trustme
from anyio.abc import ByteStream

import wsrpc
from tests.support import served, soon, until
from tests.transport.asgi_hosts import on_hypercorn, on_uvicorn
from wsrpc.transport.websockets.link import on_asyncio


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


INTERIM = re.compile(rb"^HTTP/1.1 100 .*?\r\n\r\n", re.DOTALL)


async def request(
    url: str,
    path: str = "/",
    method: str = "GET",
    tls: ssl.SSLContext | None = None,
    /,
    **headers: str,
) -> Answer:
    """One request over a connection of its own, as bare as can be."""
    return await request_with(b"", url, path, method, headers, tls)


async def request_with(
    content: bytes,
    url: str,
    path: str,
    method: str,
    headers: Mapping[str, str],
    tls: ssl.SSLContext | None = None,
) -> Answer:
    """One request with a body; `headers` have "_" for "-", and tell of the body."""
    host, _, port = url.split("/")[2].rpartition(":")
    named = {"Host": f"{host}:{port}", **{k.replace("_", "-"): v for k, v in headers.items()}}
    lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in named.items()), "", ""]
    with soon():
        async with AsyncExitStack() as stack:
            where = host.strip("[]"), int(port)
            stream: Any
            if tls is None:
                stream = await anyio.connect_tcp(*where)
            else:
                stream = await anyio.connect_tcp(
                    *where, ssl_context=tls, tls_standard_compatible=False
                )
            await stack.enter_async_context(stream)
            await stream.send("\r\n".join(lines).encode())
            data = b""
            async with anyio.create_task_group() as group:
                if content:
                    group.start_soon(_all_of, stream, content)
                try:
                    while not _complete(data):
                        # Some hosts say first that the body may come.
                        data = INTERIM.sub(b"", data + await stream.receive())
                except anyio.EndOfStream:
                    pass
                group.cancel_scope.cancel()
    head, _, body = data.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    told = {k.lower(): v for k, v in (line.split(": ", 1) for line in rest)}
    assert len(told) == len(rest), rest
    return Answer(int(first.split(" ")[1]), told, body)


def _complete(data: bytes) -> bool:
    """Whether an answer is there that keeps its connection; any other ends with it."""
    head, end, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
    if not end or length is None or b"\r\nconnection: close" in head.lower():
        return False
    return len(body) >= int(length[1])


async def _all_of(stream: ByteStream, content: bytes) -> None:
    # A server that has answered may hang up.
    with suppress(anyio.BrokenResourceError):
        await stream.send(content)


UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec_WebSocket_Protocol": "wsrpc.v1.json",
}


CARRIERS = ("websockets", "picows", "uvicorn", "hypercorn")


@asynccontextmanager
async def on_carrier(name: str) -> AsyncIterator[str]:
    """A server's URL, by a transport of our own or hosted by an ASGI server."""
    if name in ("picows", "uvicorn") and not on_asyncio():
        pytest.skip("asyncio only")
    if name in ("websockets", "picows"):
        async with served([Hello()], listen={"transport": name}) as listener:
            yield listener.url
        return
    host = on_uvicorn if name == "uvicorn" else on_hypercorn
    with soon():
        async with host(wsrpc.Server([Hello()], explorer=True).asgi()) as address:
            yield f"ws://{address}"


class Hello:
    def __init__(self) -> None:
        self.go = anyio.Event()
        self.begun = 0

    @wsrpc.method
    async def greet(self, name: str) -> str:
        return f"Hello, {name}!"

    @wsrpc.method
    async def wait(self) -> None:
        self.begun += 1
        await self.go.wait()


CHUNKED = {"Transfer_Encoding": "chunked"}
LARGE = b"x" * 3_000_000

BODIES: list[tuple[dict[str, str], bytes]] = [
    ({"Content_Length": "0"}, b""),
    ({"Content_Length": "5"}, b"hello"),
    ({"Content_Length": "5"}, b""),
    ({"Content_Length": "5", "Expect": "100-continue"}, b""),
    ({"Content_Length": str(len(LARGE))}, LARGE),
    (CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"),
    (CHUNKED, b"%x\r\n%b\r\n0\r\n\r\n" % (len(LARGE), LARGE)),
    (CHUNKED, b""),
]
# Bodies that come whole, in both ways, are enough but for the full run.
WHOLE = (1, 5)


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        pytest.param(*body, id=str(n), marks=[] if n in WHOLE else [pytest.mark.slow])
        for n, body in enumerate(BODIES)
    ],
)
@pytest.mark.parametrize("carrier", CARRIERS)
async def test_a_request_is_answered_whatever_its_body(
    carrier: str, headers: dict[str, str], content: bytes
) -> None:
    async with on_carrier(carrier) as url:
        plain = await request(url, "/wsrpc.d.ts")
        assert plain.status == 200
        got = await request_with(content, url, "/wsrpc.d.ts", "GET", headers)
        assert (got.status, got.body) == (200, plain.body)
        for path in ("/", "/wsrpc.js", "/nothing", "/healthz"):
            post = await request_with(content, url, path, "POST", headers)
            assert (post.status, post.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Length": "five"},
        {"Content_Length": "-1"},
        {"Content_Length": "5", **CHUNKED},
        {"Transfer_Encoding": "gzip"},
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_body_whose_end_is_not_clear_is_a_bad_request(
    transport: str, method: str, headers: dict[str, str]
) -> None:
    async with served([Hello()]) as listener:
        answer = await request(listener.url, "/", method, **headers)
        assert answer.status == 400
        assert b"not clear" in answer.body


@pytest.mark.parametrize("more", [{"Content_Length": "5"}, CHUNKED], ids=["length", "chunked"])
async def test_a_request_for_a_websocket_has_no_body(transport: str, more: dict[str, str]) -> None:
    async with served([Hello()]) as listener:
        answer = await request_with(b"hello", listener.url, "/", "GET", {**UPGRADE, **more})
        assert (answer.status, answer.body) == (400, b"A request for a WebSocket has no body.\n")
        # The port goes on.
        async with wsrpc.connect(listener.url) as session:
            assert await session.clientize(Hello).greet("Ada") == "Hello, Ada!"
        assert listener.server.snapshot().unauthenticated == 0


async def test_a_server_stops_while_a_body_is_still_coming(transport: str) -> None:
    limits = wsrpc.Limits(close_timeout=30, hello_timeout=30)
    async with served([Hello()], limits=limits) as listener:
        host, _, port = listener.url.split("/")[2].rpartition(":")
        stream = await anyio.connect_tcp(host, int(port))
        await stream.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n")
        assert (await stream.receive()).startswith(b"HTTP/1.1 405 ")
        assert listener.server.snapshot().unauthenticated == 0
    # It takes nothing any more.
    with soon(), pytest.raises(anyio.BrokenResourceError):
        while True:
            await stream.send(b"x")
    await stream.aclose()


async def test_a_head_may_come_byte_by_byte(transport: str) -> None:
    head = b"GET /healthz HTTP/1.1\r\nContent-Length: 5\r\nHost: localhost\r\nX: \r\n\r\nhello"
    async with served([Hello()]) as listener:
        host, _, port = listener.url.split("/")[2].rpartition(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            stream.extra(anyio.abc.SocketAttribute.raw_socket).setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
            )
            # The first line is read at once.
            await stream.send(head[:23])
            for at in range(23, len(head)):
                await anyio.wait_all_tasks_blocked()
                await stream.send(head[at : at + 1])
            with soon():
                assert (await stream.receive()).startswith(b"HTTP/1.1 200 ")


async def test_a_request_of_http_1_0_gets_the_page(transport: str) -> None:
    async with served([Hello()]) as listener:
        host, _, port = listener.url.split("/")[2].rpartition(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            with soon():
                assert (await stream.receive()).startswith(b"HTTP/1.1 200 ")


async def test_pages_on_the_port(transport: str) -> None:
    """The page, the client and calls are all on one port."""
    async with served([Hello()]) as listener:
        assert listener.http_url == listener.url.replace("ws", "http", 1).rstrip("/") + "/"
        page = await request(listener.url)
        assert page.status == 200
        assert page.body.startswith(b"<!doctype html>")
        assert page.headers["content-length"] == str(len(page.body))
        assert page.headers["connection"] == "close"
        assert "trusted-types 'none'" in page.headers["content-security-policy"]
        zipped = await request(listener.url, "/wsrpc.js", Accept_Encoding="gzip")
        plain = await request(listener.url, "/any/prefix/wsrpc.js")
        assert gzip.decompress(zipped.body) == plain.body
        assert zipped.headers["etag"] != plain.headers["etag"]
        async with wsrpc.connect(listener.url) as session:
            assert await session.clientize(Hello).greet("Ada") == "Hello, Ada!"
        # Its place among the unauthenticated is free again.
        assert listener.server.snapshot().unauthenticated == 0


async def test_head_304_404_and_405(transport: str) -> None:
    async with served([Hello()]) as listener:
        get = await request(listener.url, "/wsrpc.js")
        head = await request(listener.url, "/wsrpc.js", "HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == str(len(get.body))
        again = await request(listener.url, "/wsrpc.js", If_None_Match=get.headers["etag"])
        assert (again.status, again.body) == (304, b"")
        assert (await request(listener.url, "/nothing")).status == 404
        post = await request(listener.url, "/", "POST", Content_Length="0")
        assert (post.status, post.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("explorer", [True, False, None])
async def test_the_explorer_is_for_this_machine_unless_told_otherwise(
    transport: str, explorer: bool | None
) -> None:
    async with served([Hello()], explorer=explorer) as listener:
        here = await request(listener.url)
        assert here.status == (426 if explorer is False else 200)
        proxied = await request(listener.url, X_Forwarded_For="203.0.113.9")
        assert proxied.status == (200 if explorer else 426)
        assert (await request(listener.url, "/explorer.js")).status == (
            404 if explorer is False else 200
        )
        assert (await request(listener.url, "/wsrpc.js")).status == 200


@pytest.mark.rule("HOST-1")
async def test_a_page_that_let_its_name_point_here_gets_neither_page_nor_socket(
    transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with served([Hello()], hosts=None) as listener:
        for path, more in (("/", {}), ("/wsrpc.js", {}), ("/", UPGRADE)):
            answer = await request(
                listener.url, path, Host="evil.test:9100", Origin="http://evil.test:9100", **more
            )
            assert answer.status == 421
            assert b"hosts=" in answer.body
        caplog.clear()
    async with served([Hello()], hosts=["app.example"]) as listener:
        assert (await request(listener.url, Host="app.example")).status == 200
        assert (await request(listener.url, Host="evil.test", Via="1.1 x")).status == 421
        caplog.clear()


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The TLS contexts of a server on this machine, and of a client that trusts it."""
    authority = trustme.CA()
    here, there = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(here)
    authority.configure_trust(there)
    return here, there


@pytest.mark.rule("HOST-1")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
async def test_it_gets_neither_on_an_event_loop_that_accepts_by_itself(
    transport: str, tls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("uvloop")
    here, there = contexts() if tls else (None, None)
    where = {"host": "127.0.0.1", "ssl": here}
    async with served([Hello()], listen=where) as listener:
        for path, more in (("/", {}), ("/wsrpc.js", {}), ("/", UPGRADE)):
            answer = await request(
                listener.url,
                path,
                "GET",
                there,
                Host="evil.test:9100",
                Origin="http://evil.test:9100",
                **more,
            )
            assert answer.status == 421
        assert (await request(listener.url, "/", "GET", there)).status == 200
        caplog.clear()


class Opener:
    """Opens a server from within a call."""

    answer: Answer | None = None

    @wsrpc.method
    async def open(self) -> None:
        here, there = contexts()
        where = {"host": "0.0.0.0", "ssl": here}
        async with served([Hello()], listen=where) as listener:
            port = listener.url.rpartition(":")[2]
            self.answer = await request(f"wss://127.0.0.1:{port}", "/", "GET", there)


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
@pytest.mark.parametrize("transport", ["picows"], indirect=True)
async def test_an_address_that_is_not_known_is_not_that_of_another_servers_connection(
    transport: str,
) -> None:
    pytest.importorskip("uvloop")
    opener = Opener()
    async with served([opener]) as listener, wsrpc.connect(listener.url) as session:
        await session.clientize(Opener).open()
    assert opener.answer is not None
    # The explorer is for this machine, as which the request is not known.
    assert opener.answer.status == 426


async def test_pages_of_origins_that_are_let_in_may_import_the_client(transport: str) -> None:
    async with served([Hello()], origins=["https://app.example"]) as listener:
        welcome = await request(listener.url, "/wsrpc.js", Origin="https://app.example")
        assert welcome.headers["access-control-allow-origin"] == "https://app.example"
        stranger = await request(listener.url, "/wsrpc.js", Origin="https://evil.example")
        assert "access-control-allow-origin" not in stranger.headers
        for answer in (welcome, stranger):
            assert "Origin" in answer.headers["vary"]


@pytest.mark.rule("DRAIN-5")
async def test_health_tells_that_a_server_is_about_to_stop(transport: str) -> None:
    hello = Hello()
    async with served([hello]) as listener:
        for probe in ("/healthz", "/readyz"):
            assert (await request(listener.url, probe))[::2] == (200, b"ok")
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            async with anyio.create_task_group() as group:
                group.start_soon(session.clientize(Hello).wait)
                await until(lambda: hello.begun == 1)
                group.start_soon(listener.server.drain)
                await until(lambda: session.state == "draining")
                assert (await request(listener.url, "/healthz")).status == 200
                assert (await request(listener.url, "/readyz")).status == 503
                for more in ({}, UPGRADE):
                    answer = await request(listener.url, **more)
                    assert answer.status == 503
                    assert int(answer.headers["retry-after"]) >= 1
                hello.go.set()
        with pytest.raises(OSError):
            await request(listener.url, "/healthz")


async def test_health_can_be_turned_off(transport: str) -> None:
    async with served([Hello()], health=False) as listener:
        assert (await request(listener.url, "/healthz")).status == 404


async def test_page_loads_take_up_no_place_among_the_unauthenticated(transport: str) -> None:
    limits = wsrpc.Limits(max_unauthenticated=2)
    async with served([Hello()], limits=limits) as listener:
        for _ in range(20):
            assert (await request(listener.url)).status == 200


def test_a_unix_socket_has_no_page_for_browsers(tmp_path: Any) -> None:
    listener = wsrpc.Server([Hello()]).listen(path=str(tmp_path / "socket"))
    assert listener.http_url == ""


async def test_a_crowd_of_strangers_does_not_make_a_pod_unready(transport: str) -> None:
    limits = wsrpc.Limits(max_unauthenticated=2, hello_timeout=1000)
    async with served([Hello()], limits=limits) as listener, AsyncExitStack() as stack:
        host, _, port = listener.url.split("/")[2].rpartition(":")
        for _ in range(80):
            stream = await anyio.connect_tcp(host, int(port))
            await stack.enter_async_context(stream)
            await stream.send(b"GET / HTTP/1.1\r\n")
        for probe in ("/healthz", "/readyz"):
            assert (await request(listener.url, probe))[::2] == (200, b"ok")
        assert listener.server.snapshot().unauthenticated == 2
        async with wsrpc.connect(listener.url, reconnect=False) as session:
            assert await session.clientize(Hello).greet("Ann") == "Hello, Ann!"
