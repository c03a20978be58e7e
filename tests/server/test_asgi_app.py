"""The server as an ASGI application: alone, mounted, on several hosts, and when it is told to stop."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.util import find_spec
from typing import Any

import anyio
import anyio.to_thread
import pytest
import websockets
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from websockets import Subprotocol

import wsrpc
from tests.proxy import resetting_proxy
from tests.support import error_of, soon, until
from tests.transport.asgi_hosts import UVICORN, listening, on_hypercorn, on_uvicorn
from wsrpc.transport.websockets.link import on_asyncio

Host = Callable[[Any], AbstractAsyncContextManager[str]]

# The event loop that uvicorn takes by itself where it is installed.
UVLOOP = pytest.param(
    ("asyncio", {"use_uvloop": True}),
    id="uvloop",
    marks=pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop is not installed"),
)


class Echo:
    def __init__(self) -> None:
        self.events: list[str] = []
        self.taken = 0
        self.made = 0

    @wsrpc.method
    async def echo(self, value: object) -> object:
        return value

    @wsrpc.method
    async def count(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            self.made = i + 1
            yield i

    @wsrpc.method
    async def flood(self) -> AsyncIterator[str]:
        while True:
            yield "x" * 1000
            await anyio.sleep(0)

    @wsrpc.method
    async def total(self, numbers: AsyncIterator[int], most: int) -> int:
        found = 0
        async for number in numbers:
            self.taken += 1
            found += number
            if self.taken == most:
                await anyio.sleep_forever()
        return found

    @wsrpc.method
    async def wait(self) -> None:
        self.events.append("begun")
        try:
            await anyio.sleep_forever()
        finally:
            self.events.append("cleaned")

    @wsrpc.method
    async def who(self) -> object:
        session = wsrpc.current().session
        scope = session.handshake.scope
        assert scope is not None
        return {"principal": session.principal, "path": scope["path"], "type": scope["type"]}


@asynccontextmanager
async def hosted(app: Any) -> AsyncIterator[str]:
    """An application on the host that fits the event loop; gives the address without a scheme."""
    host: Host = on_uvicorn if on_asyncio() else on_hypercorn
    with soon():
        async with host(app) as address:
            yield address


async def exercise(url: str, **options: Any) -> None:
    async with wsrpc.connect(url, reconnect=False, **options) as session:
        echo = session.clientize(Echo)
        assert await echo.echo({"a": [1, None, "\U0001f600"]}) == {"a": [1, None, "\U0001f600"]}
        assert await echo.count(300).collect() == list(range(300))
        assert await echo.total(wsrpc.stream_of(range(300)), -1) == sum(range(300))
        assert await echo.echo("x" * 2**18) == "x" * 2**18


# A window of a few items, so that a sender soon waits.
NARROW = wsrpc.Limits(window=8, window_bytes=64)


async def hold_up_the_generator(url: str, work: Echo) -> None:
    """Open a stream, read one item, and see that the generator does not run ahead."""
    async with wsrpc.connect(url, reconnect=False) as session:
        async with session.clientize(Echo, window=4).count(100_000) as stream:
            assert await anext(stream) == 0
            await until(lambda: work.made >= 4)
            for _ in range(50):
                await anyio.sleep(0)
            assert work.made <= 6


async def hold_up_the_upload(url: str, work: Echo) -> None:
    """Send an upload to a handler that takes three items; `NARROW` bounds what is sent ahead."""
    sent = 0

    async def numbers() -> AsyncIterator[int]:
        nonlocal sent
        for number in range(100_000):
            sent += 1
            yield number

    async with wsrpc.connect(url, reconnect=False) as session:
        async with anyio.create_task_group() as group:
            group.start_soon(session.clientize(Echo, timeout=None).total, numbers(), 3)
            await until(lambda: work.taken == 3)
            for _ in range(50):
                await anyio.sleep(0)
            assert sent <= 3 + 2 * 8
            group.cancel_scope.cancel()


async def test_it_runs_alone(codec: Any) -> None:
    async with hosted(wsrpc.Server([Echo()]).asgi()) as address:
        await exercise(f"ws://{address}/", codec=codec)
        await exercise(f"ws://{address}/any/path", codec=codec)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("ws", UVICORN)
@pytest.mark.filterwarnings("ignore")  # uvicorn warns of its own implementation
async def test_it_runs_on_each_of_uvicorns_implementations(ws: str) -> None:
    with soon():
        async with on_uvicorn(wsrpc.Server([Echo()]).asgi(), ws) as address:
            await exercise(f"ws://{address}/")


@pytest.mark.parametrize("anyio_backend", [UVLOOP])
@pytest.mark.parametrize("ws", UVICORN)
@pytest.mark.filterwarnings("ignore")  # uvicorn warns of its own implementation
async def test_it_runs_on_uvicorn_on_uvloop_with_backpressure_both_ways(ws: str) -> None:
    assert type(asyncio.get_running_loop()).__module__ == "uvloop"
    work = Echo()
    with soon():
        async with on_uvicorn(wsrpc.Server([work], limits=NARROW).asgi(), ws) as address:
            await exercise(f"ws://{address}/")
            work.made = work.taken = 0
            await hold_up_the_generator(f"ws://{address}/", work)
            await hold_up_the_upload(f"ws://{address}/", work)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it_runs_on_hypercorn_on_asyncio() -> None:
    with soon():
        async with on_hypercorn(wsrpc.Server([Echo()]).asgi()) as address:
            await exercise(f"ws://{address}/")


def starlette_app(server: wsrpc.Server) -> Any:
    rpc = server.asgi()

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        async with server.running():
            yield

    routes = [WebSocketRoute("/rpc", rpc), Mount("/rpc", rpc)]
    return Starlette(routes=routes, lifespan=lifespan)


def fastapi_app(server: wsrpc.Server) -> Any:
    rpc = server.asgi()

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        async with server.running():
            yield

    app = FastAPI(lifespan=lifespan)
    app.mount("/rpc", rpc)
    app.router.routes.append(WebSocketRoute("/rpc", rpc))
    return app


def litestar_app(server: wsrpc.Server) -> Any:
    from litestar import Litestar, asgi

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        async with server.running():
            yield

    mounted = asgi("/rpc", is_mount=True, copy_scope=True)(server.asgi())
    return Litestar([mounted], lifespan=[lifespan], openapi_config=None)


def django_app(server: wsrpc.Server) -> Any:
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="none", ALLOWED_HOSTS=["*"])
        django.setup()
    from django.core.asgi import get_asgi_application

    pages, rpc = get_asgi_application(), server.asgi()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" or scope["path"].startswith("/rpc"):
            await rpc({**scope, "root_path": "/rpc"}, receive, send)
        else:
            await pages(scope, receive, send)

    return application


# Django's.
urlpatterns: list[Any] = []


@pytest.mark.parametrize("path", ["/rpc", "/rpc/"])
@pytest.mark.parametrize("made", [starlette_app, fastapi_app, litestar_app, django_app])
async def test_it_is_mounted_with_and_without_a_trailing_slash(
    made: Callable[[wsrpc.Server], Any], path: str
) -> None:
    async with hosted(made(wsrpc.Server([Echo()]))) as address:
        await exercise(f"ws://{address}{path}")


@pytest.mark.parametrize("made", [starlette_app, fastapi_app, litestar_app, django_app])
async def test_mounted_it_has_its_pages_health_and_metrics(
    made: Callable[[wsrpc.Server], Any],
) -> None:
    async with hosted(made(wsrpc.Server([Echo()], metrics=True))) as address:
        for path in ("", "healthz", "readyz", "metrics", "wsrpc.js", "explorer.js"):
            assert " 200 " in (await get(address, f"/rpc/{path}")).splitlines()[0], path
        assert " 404 " in (await get(address, "/rpc/nothing")).splitlines()[0]
        # Without the slash, links of the page would lead elsewhere.
        answer = await get(address, "/rpc")
        assert answer.splitlines()[0].split()[1] in ("307", "308")
        assert "rpc/" in answer.partition("location: ")[2].splitlines()[0]


@pytest.mark.parametrize("path", ["/rpc/", "/shop/rpc/"], ids=["taken away", "left"])
async def test_it_has_its_pages_where_a_proxy_takes_a_prefix_away_or_leaves_it(path: str) -> None:
    app = fastapi_app(wsrpc.Server([Echo()]))
    app.root_path = "/shop"
    async with hosted(app) as address:
        for name in ("", "healthz", "wsrpc.js"):
            assert " 200 " in (await get(address, f"{path}{name}")).splitlines()[0], name
        assert " 404 " in (await get(address, f"{path}nothing")).splitlines()[0]
        await exercise(f"ws://{address}{path}")


async def get(address: str, path: str, *lines: str) -> str:
    """The head of the answer to a request over HTTP."""
    host, _, port = address.partition(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        request = [f"GET {path} HTTP/1.1", f"Host: {address}", "Connection: close", *lines, "", ""]
        await stream.send("\r\n".join(request).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += await stream.receive()
        return answer.decode("latin-1").partition("\r\n\r\n")[0].lower()


UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


async def test_the_mount_point_without_a_slash_leads_to_the_one_with_it() -> None:
    server = wsrpc.Server([Echo()])
    rpc = server.asgi()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            scope = {**scope, "root_path": "/rpc"}
        await rpc(scope, receive, send)

    async with hosted(app) as address:
        answer = await get(address, "/rpc")
        assert " 308 " in answer.splitlines()[0]
        assert "location: /rpc/" in answer


@pytest.mark.rule("LINK-2")
async def test_a_handshake_without_our_subprotocol_is_refused_with_400() -> None:
    async with hosted(wsrpc.Server([Echo()]).asgi()) as address:
        assert " 400 " in (await get(address, "/", *UPGRADE)).splitlines()[0]


@pytest.mark.rule("ORIGIN-1")
async def test_a_page_of_another_origin_is_refused_with_403() -> None:
    lines = (*UPGRADE, "Sec-WebSocket-Protocol: wsrpc.v1.json", "Origin: https://evil.example")
    async with hosted(wsrpc.Server([Echo()]).asgi()) as address:
        assert " 403 " in (await get(address, "/", *lines)).splitlines()[0]


async def test_the_hosts_own_authentication_is_seen_in_the_scope() -> None:
    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> str:
        assert handshake.scope is not None
        user = handshake.scope["state"]["user"]
        assert isinstance(user, str)
        return user

    server = wsrpc.Server([Echo()], authenticate=authenticate)
    rpc = server.asgi()

    async def with_user(scope: Any, receive: Any, send: Any) -> None:
        scope.setdefault("state", {})["user"] = "ann"
        await rpc(scope, receive, send)

    async with hosted(Starlette(routes=[Mount("/rpc", with_user)])) as address:
        async with wsrpc.connect(f"ws://{address}/rpc/", reconnect=False) as session:
            found = await session.clientize(Echo).who()
    assert found == {"principal": "ann", "path": "/rpc/", "type": "websocket"}


@pytest.mark.parametrize(
    ("code", "close_code"), [("unauthenticated", 4501), ("permission_denied", 4503)]
)
async def test_a_refusal_has_its_close_code(code: str, close_code: int) -> None:
    async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> None:
        raise wsrpc.RpcError(code, "not you")

    server = wsrpc.Server([Echo()], authenticate=authenticate)
    async with hosted(server.asgi()) as address:
        with pytest.raises(wsrpc.ConnectError) as caught:
            async with wsrpc.connect(f"ws://{address}/", reconnect=False):
                pass
    assert caught.value.close_code == close_code


@pytest.mark.parametrize("lifespan", ["auto", "lazy"])
@pytest.mark.rule("RESUME-1")
async def test_a_session_that_loses_its_connection_goes_on(lifespan: str) -> None:
    server = wsrpc.Server([Echo()])
    rpc = server.asgi()

    async def lazy(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise ValueError("a mounted application gets no lifespan")
        await rpc(scope, receive, send)

    async with hosted(rpc if lifespan == "auto" else lazy) as address:
        async with (
            resetting_proxy(f"ws://{address}/") as proxy,
            wsrpc.connect(proxy.url) as session,
        ):
            echo = session.clientize(Echo)
            async with echo.count(3000) as stream:
                found = [await anext(stream) for _ in range(10)]
                proxy.reset()
                found += [item async for item in stream]
            assert found == list(range(3000))
            assert len(server.sessions) == 1


async def test_a_peer_that_does_not_read_holds_up_the_generator() -> None:
    work = Echo()
    limits = wsrpc.Limits(stall_timeout=60)
    async with hosted(wsrpc.Server([work], limits=limits).asgi()) as address:
        await hold_up_the_generator(f"ws://{address}/", work)


async def test_a_handler_that_does_not_consume_holds_up_the_upload() -> None:
    work = Echo()
    async with hosted(wsrpc.Server([work], limits=NARROW).asgi()) as address:
        await hold_up_the_upload(f"ws://{address}/", work)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("ws", UVICORN)
@pytest.mark.filterwarnings("ignore")  # uvicorn warns of its own implementation
async def test_a_client_that_leaves_amid_a_stream_ends_its_session(ws: str) -> None:
    """The host refuses further items before the application has come to the close."""
    server = wsrpc.Server([Echo()])
    with soon():
        async with on_uvicorn(server.asgi(), ws) as address:
            async with websockets.connect(
                f"ws://{address}/", subprotocols=[Subprotocol("wsrpc.v1.json")], max_queue=None
            ) as client:
                await client.send('[["hello",{"version":1}]]')
                await client.recv()
                flood = ["call", 1, "Echo.flood", {}, {"credit": 100_000}]
                await client.send(json.dumps([["ack", 0], flood]))
                for _ in range(3):
                    await client.recv()
                for id in range(3, 43, 2):
                    await client.send(json.dumps([["notify", id, "Echo.echo", {"value": 1}]]))
                await client.close(1000)
            await until(lambda: not server.sessions)
            assert server.stats.closes == {1000: 1}


async def test_leaving_the_block_closes_the_sessions_and_their_handlers_clean_up() -> None:
    work = Echo()
    server = wsrpc.Server([work], limits=wsrpc.Limits(resume_window=0))
    async with hosted(server.asgi()) as address:
        async with anyio.create_task_group() as group:

            async def call() -> None:
                async with wsrpc.connect(f"ws://{address}/", reconnect=False) as session:
                    with error_of("unavailable"):
                        await session.clientize(Echo).wait()

            group.start_soon(call)
            await until(lambda: work.events == ["begun"])
            await server.drain(0)
    assert work.events == ["begun", "cleaned"]
    assert not server.sessions


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_client_that_has_said_nothing_is_sent_away_by_a_drain_without_a_lifespan() -> None:
    server = wsrpc.Server([Echo()])
    asgi = server.asgi()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        await asgi(scope, receive, send)

    async with hosted(app) as address:
        async with websockets.connect(
            f"ws://{address}/", subprotocols=[Subprotocol("wsrpc.v1.json")]
        ) as client:
            await until(lambda: server.snapshot().unauthenticated == 1)
            await server.drain()
            await client.wait_closed()
            assert client.close_code == 1013


SERVER = """
import anyio, wsrpc

class Slow:
    @wsrpc.method
    async def slow(self) -> str:
        await anyio.sleep(1)
        return "done"

server = wsrpc.Server([Slow()])
asgi = server.asgi()
"""

HYPERCORN = """
import sys
from hypercorn.config import Config
from app import asgi, server

config = Config()
config.bind = [f"127.0.0.1:{sys.argv[2]}"]
if sys.argv[1] == "trio":
    import hypercorn.trio, trio
    trio.run(lambda: hypercorn.trio.serve(asgi, config, shutdown_trigger=server.drained_on_signal))
else:
    import asyncio, hypercorn.asyncio
    asyncio.run(hypercorn.asyncio.serve(asgi, config, shutdown_trigger=server.drained_on_signal))
"""


def started(command: list[str], folder: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


async def stopped_with_calls_under_way(command: list[str], folder: Any, port: int) -> list[str]:
    """What 100 calls of a second each end with, when the server is told to stop meanwhile."""
    process = started(command, folder)
    ended: list[str] = []
    try:
        await listening(port)
        with anyio.fail_after(60):
            async with wsrpc.connect(f"ws://127.0.0.1:{port}/") as session:
                slow = session.clientize("Slow")
                async with anyio.create_task_group() as group:

                    async def call() -> None:
                        try:
                            ended.append(await slow.slow())
                        except wsrpc.RpcError as error:
                            ended.append(repr(error))

                    for _ in range(100):
                        group.start_soon(call)
                    await anyio.sleep(0.3)
                    process.send_signal(signal.SIGTERM)
            await anyio.to_thread.run_sync(process.wait)
    finally:
        process.kill()
        process.wait()
    return ended


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("ws", UVICORN)
async def test_sigterm_under_uvicorn_drains(ws: str, loop: str, tmp_path: Any) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    (tmp_path / "app.py").write_text(SERVER)
    port = free_port()
    options = ["--port", str(port), "--ws", ws, "--loop", loop]
    command = [sys.executable, "-m", "uvicorn", "app:asgi", *options]
    ended = await stopped_with_calls_under_way(command, tmp_path, port)
    assert ended == ["done"] * 100


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
async def test_sigterm_under_hypercorn_drains_by_its_shutdown_trigger(
    loop: str, tmp_path: Any
) -> None:
    (tmp_path / "app.py").write_text(SERVER)
    (tmp_path / "main.py").write_text(HYPERCORN)
    port = free_port()
    ended = await stopped_with_calls_under_way(
        [sys.executable, "main.py", loop, str(port)], tmp_path, port
    )
    assert ended == ["done"] * 100


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it_runs_on_granian(tmp_path: Any) -> None:
    (tmp_path / "app.py").write_text(SERVER)
    port = free_port()
    command = [f"{sys.prefix}/bin/granian", "--interface", "asgi", "--port", str(port), "app:asgi"]
    process = started(command, tmp_path)
    try:
        await listening(port)
        with anyio.fail_after(30):
            async with wsrpc.connect(f"ws://127.0.0.1:{port}/", reconnect=False) as session:
                assert await session.clientize("Slow").slow() == "done"
    finally:
        process.terminate()
        await anyio.to_thread.run_sync(process.wait)


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_mounting_costs_can_be_measured() -> None:
    from benchmarks.mounting import WAYS, measure

    with anyio.fail_after(120):
        for way in WAYS:
            assert all(figure >= 0 for figure in await measure(way, calls=100, items=100))
