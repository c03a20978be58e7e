"""Pages, health and refusals on the port of a real server, by each transport."""

from __future__ import annotations

import gzip
import ssl
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import anyio
import pytest
import trustme

import wsrpc
from tests.support import served, soon, until


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


async def request(
    url: str,
    path: str = "/",
    method: str = "GET",
    tls: ssl.SSLContext | None = None,
    /,
    **headers: str,
) -> Answer:
    """One request over a connection of its own, as bare as can be."""
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
            try:
                while True:
                    data += await stream.receive()
            except anyio.EndOfStream:
                pass
    head, _, body = data.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    told = {k.lower(): v for k, v in (line.split(": ", 1) for line in rest)}
    assert len(told) == len(rest), rest
    return Answer(int(first.split(" ")[1]), told, body)


UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec_WebSocket_Version": "13",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec_WebSocket_Protocol": "wsrpc.v1.json",
}


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


@pytest.mark.rule("HOST-1")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": True})], ids=["uvloop"])
async def test_it_gets_neither_on_an_event_loop_that_accepts_by_itself(
    transport: str, tls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("uvloop")
    here = there = None
    if tls:
        authority = trustme.CA()
        here, there = (
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
            ssl.create_default_context(),
        )
        authority.issue_cert("127.0.0.1").configure_cert(here)
        authority.configure_trust(there)
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
