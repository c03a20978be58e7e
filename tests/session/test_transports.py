"""Real sockets: TCP, TLS, Unix; who is let in; and what `connect` says when nothing comes about."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.to_thread
import pytest
import trustme

import wsrpc
from tests.support import Codec, bare_client, error_of, pair, patched_link, served, soon, until

pytestmark = pytest.mark.usefixtures("transport")


class Echo:
    def __init__(self) -> None:
        self.cleaned: list[str] = []

    @wsrpc.method
    async def echo(self, value: object) -> object:
        return value

    @wsrpc.method
    async def count(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    @wsrpc.method
    async def total(self, numbers: AsyncIterator[int]) -> int:
        return sum([n async for n in numbers])

    @wsrpc.method
    async def forever(self) -> AsyncIterator[int]:
        try:
            yield 0
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(0)
            self.cleaned.append("forever")

    @wsrpc.method
    async def handshake(self) -> dict[str, object]:
        handshake = wsrpc.current().session.handshake
        return {
            "path": handshake.path,
            "tls": handshake.tls,
            "remote": handshake.remote,
            "x": handshake.headers.get("x-test"),
        }


async def exercise(session: wsrpc.Session) -> None:
    """A bit of everything."""
    echo = session.clientize(Echo)
    assert await echo.echo({"a": ["\U0001f600", None]}) == {"a": ["\U0001f600", None]}
    assert await echo.count(500).collect() == list(range(500))
    assert await echo.total(wsrpc.stream_of(range(500))) == sum(range(500))
    assert await echo.echo("x" * 2**20) == "x" * 2**20
    async with echo.forever() as stream:
        assert await anext(stream) == 0


@pytest.mark.rule("LINK-1")
async def test_tcp(codec: Codec) -> None:
    echo = Echo()
    async with served([echo]) as listener:
        assert listener.url.startswith("ws://127.0.0.1:")
        async with wsrpc.connect(listener.url, codec=codec) as session:
            await exercise(session)
            found = await session.clientize(Echo).handshake()
            assert str(found["remote"]).startswith("127.0.0.1:")
            assert found["tls"] is False
    assert echo.cleaned == ["forever"]


async def test_memory(codec: Codec) -> None:
    async with pair([Echo()], codec=codec) as (_, client):
        await exercise(client)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def contexts(authority: trustme.CA) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def test_tls(codec: Codec, authority: trustme.CA) -> None:
    server, client = contexts(authority)
    async with served([Echo()], listen={"ssl": server}) as listener:
        assert listener.url.startswith("wss://")
        async with wsrpc.connect(listener.url, codec=codec, ssl=client) as session:
            await exercise(session)
            assert (await session.clientize(Echo).handshake())["tls"] is True


async def test_a_certificate_that_is_not_trusted_is_a_connect_error(
    authority: trustme.CA,
) -> None:
    server, _ = contexts(authority)
    async with served([Echo()], listen={"ssl": server}) as listener:
        with pytest.raises(wsrpc.ConnectError, match=r"TLS|certificate"):
            async with wsrpc.connect(listener.url):
                pass


async def test_a_unix_socket(codec: Codec, tmp_path: Path) -> None:
    path = str(tmp_path / "odd name?%41#.sock")
    async with served([Echo()], listen={"path": path}) as listener:
        assert listener.url.startswith("ws+unix://")
        async with wsrpc.connect(listener.url, codec=codec) as session:
            await exercise(session)


async def test_a_unix_socket_can_be_bound_again(tmp_path: Path) -> None:
    path = str(tmp_path / "wsrpc.sock")
    for _ in range(2):
        async with served([Echo()], listen={"path": path}) as listener:
            async with wsrpc.connect(listener.url) as session:
                assert await session.clientize(Echo).echo(1) == 1


async def test_path_and_headers_reach_the_server() -> None:
    async with served([Echo()]) as listener:
        url = f"{listener.url}/some/path?query=1"
        async with wsrpc.connect(url, headers={"X-Test": "yes"}) as session:
            found = await session.clientize(Echo).handshake()
    assert found["path"] == "/some/path?query=1"
    assert found["x"] == "yes"


async def test_one_server_may_listen_at_several_places(tmp_path: Path) -> None:
    server = wsrpc.Server([Echo()])
    with soon():
        async with server.listen() as tcp:
            async with wsrpc.connect(tcp.url) as first:
                async with server.listen(path=str(tmp_path / "s.sock")) as unix:
                    async with wsrpc.connect(unix.url) as second:
                        assert await second.clientize(Echo).echo(2) == 2
                        assert set(server.sessions) == {first.id, second.id}
                assert await first.clientize(Echo).echo(1) == 1


async def test_many_sessions_at_a_time() -> None:
    async with served([Echo()]) as listener:

        async def one(n: int) -> None:
            async with wsrpc.connect(listener.url) as session:
                assert await session.clientize(Echo).echo(n) == n

        async with anyio.create_task_group() as group:
            for n in range(20):
                group.start_soon(one, n)
        await until(lambda: not listener.server.sessions)
        assert listener.server.stats.closes == {1000: 20}
        assert listener.server.stats.links == 0


async def test_both_directions_may_be_full_at_once() -> None:
    """Each end reads on while it cannot write."""
    value = "x" * 1_900_000
    async with served([Echo()]) as listener:
        async with wsrpc.connect(listener.url) as session:
            echo = session.clientize(Echo)
            answers: list[object] = []

            async def one() -> None:
                answers.append(await echo.echo(value))

            async with anyio.create_task_group() as group:
                for _ in range(12):
                    group.start_soon(one)
    assert answers == [value] * 12


async def test_one_connection_object_serves_once() -> None:
    async with served([Echo()]) as listener:
        connection = wsrpc.connect(listener.url)
        async with connection:
            pass
        with pytest.raises(RuntimeError, match="once"):
            async with connection:
                pass


# ------------------------------------------------------------------------------------ binding


async def test_an_address_that_is_taken_is_an_os_error() -> None:
    async with served([Echo()]) as listener:
        port = int(listener.url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match=r"in use|bind") as caught:
            async with wsrpc.Server([Echo()]).listen(port=port):
                pass
        assert caught.value.__notes__ == [f"while binding 127.0.0.1, port {port}"]


@pytest.mark.parametrize("port", [-1, 70000])
async def test_an_address_that_is_none_is_an_error_and_no_hang(port: int) -> None:
    with soon(), pytest.raises((OSError, OverflowError, ValueError)):
        async with wsrpc.Server([Echo()]).listen(port=port):
            pass


@pytest.mark.parametrize("host", [None, "0.0.0.0", "localhost", "127.0.0.1", "::1"])
async def test_the_url_of_a_listener_leads_to_it(host: str | None) -> None:
    if host == "::1" and not has_ipv6():
        pytest.skip("there is no IPv6 here")
    async with served([Echo()], listen={"host": host}) as listener:
        async with wsrpc.connect(listener.url) as session:
            assert await session.clientize(Echo).echo(1) == 1


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


async def test_cancelling_while_the_address_is_bound_leaves_nothing_behind(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with wsrpc.Server([Echo()]).listen(path=path):
            pass
    assert scope.cancelled_caught
    with pytest.raises(wsrpc.ConnectError):
        async with wsrpc.connect(f"ws+unix://{path}"):
            pass


# ------------------------------------------------------------------------------------ who is let in


async def authenticate(handshake: wsrpc.Handshake, auth: Any) -> Any:
    if auth == "forbidden":
        raise wsrpc.RpcError("permission_denied", "not you")
    if auth == "broken":
        raise ZeroDivisionError
    if auth != {"token": "t"}:
        raise wsrpc.RpcError("unauthenticated", "who are you")
    return "Ann"


async def test_credentials_make_a_principal(codec: Codec) -> None:
    class Who:
        @wsrpc.method
        async def am_i(self) -> str:
            principal: str = wsrpc.current().principal
            return principal

    async def token() -> dict[str, str]:
        return {"token": "t"}

    credentials: list[Any] = [{"token": "t"}, token]
    async with served([Who()], authenticate=authenticate) as listener:
        for auth in credentials:
            async with wsrpc.connect(listener.url, codec=codec, auth=auth) as session:
                assert await session.clientize(Who).am_i() == "Ann"
                assert session.principal is None
                assert listener.server.sessions[session.id].principal == "Ann"


@pytest.mark.rule("HELLO-7")
@pytest.mark.parametrize(
    ("auth", "code", "says"),
    [
        ("wrong", 4501, "credentials"),
        (None, 4501, "credentials"),
        ("broken", 4501, "credentials"),
        ("forbidden", 4503, "does not let"),
    ],
)
async def test_credentials_that_are_refused_are_a_connect_error(
    auth: Any, code: int, says: str
) -> None:
    async with served([Echo()], authenticate=authenticate) as listener:
        with pytest.raises(wsrpc.ConnectError, match=says) as caught:
            async with wsrpc.connect(listener.url, auth=auth):
                pytest.fail("let in")
        assert caught.value.close_code == code
        assert not listener.server.sessions


async def test_credentials_that_cannot_be_fetched_raise_as_they_are() -> None:
    async def token() -> str:
        raise KeyError("no token")

    async with served([Echo()]) as listener:
        with pytest.raises(KeyError):
            async with wsrpc.connect(listener.url, auth=token):
                pass


@pytest.mark.rule("HELLO-6")
async def test_calls_sent_with_the_hello_are_not_looked_at_before_the_peer_is_known() -> None:
    echo = Echo()
    decide = anyio.Event()

    async def slow(handshake: wsrpc.Handshake, auth: Any) -> str:
        await decide.wait()
        return "Ann"

    server = wsrpc.Server([echo], authenticate=slow)
    async with bare_client(server, hello=False) as peer:
        await peer.send(["hello", {"version": 1}], ["call", 1, "Echo.echo", {"value": 7}])
        await anyio.sleep(0.01)
        assert not server.sessions
        decide.set()
        assert (await peer.receive())[0] == "hello"
        assert await peer.expect("result") == ["result", 1, 7]


async def test_a_server_stops_while_somebody_is_still_being_authenticated() -> None:
    entered = anyio.Event()

    async def for_ever(handshake: wsrpc.Handshake, auth: Any) -> None:
        entered.set()
        await anyio.sleep_forever()

    async def knock(url: str) -> None:
        with pytest.raises(wsrpc.ConnectError):
            async with wsrpc.connect(url):
                pass

    with soon():
        async with anyio.create_task_group() as group:
            async with wsrpc.Server([Echo()], authenticate=for_ever).listen() as listener:
                group.start_soon(knock, listener.url)
                await entered.wait()


async def test_origins() -> None:
    async with served([Echo()], origins=["https://good.example"]) as listener:
        async with wsrpc.connect(listener.url):
            pass
        async with wsrpc.connect(listener.url, headers={"Origin": "https://good.example"}):
            pass
        with pytest.raises(wsrpc.ConnectError, match=r"403.*origin"):
            async with wsrpc.connect(listener.url, headers={"Origin": "https://evil.example"}):
                pass


# ------------------------------------------------------------------------------------ lost connections


class Cable:
    """A TCP connection in between, which can be pulled."""

    def __init__(self) -> None:
        self.url = ""
        self._sockets: list[anyio.abc.SocketStream] = []

    @asynccontextmanager
    async def to(self, url: str) -> AsyncIterator[Cable]:
        port = int(url.rsplit(":", 1)[1])
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")

        async def pass_on(source: anyio.abc.SocketStream, target: anyio.abc.SocketStream) -> None:
            try:
                async for data in source:
                    await target.send(data)
                await target.send_eof()
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass

        async def handle(near: anyio.abc.SocketStream) -> None:
            async with near, await anyio.connect_tcp("127.0.0.1", port) as far:
                self._sockets += [near, far]
                async with anyio.create_task_group() as group:
                    group.start_soon(pass_on, near, far)
                    group.start_soon(pass_on, far, near)

        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, handle)
            address = listener.extra(anyio.abc.SocketAttribute.local_address)
            self.url = f"ws://127.0.0.1:{address[1]}"
            yield self
            group.cancel_scope.cancel()

    async def pull(self) -> None:
        for end in self._sockets:
            raw = end.extra(anyio.abc.SocketAttribute.raw_socket)
            # Without a farewell: the peer gets a reset.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await anyio.aclose_forcefully(end)


@pytest.mark.rule("CLOSE-1", "CLOSE-4", "CLOSE-5")
async def test_a_pulled_cable_fails_what_is_pending_and_cleans_up_on_both_sides(
    codec: Codec,
) -> None:
    echo, mine = Echo(), Echo()
    errors: list[wsrpc.ConnectionLost] = []

    async def consume(session: wsrpc.Session) -> None:
        try:
            async for _ in session.clientize(Echo).forever():
                waiting.append(session)
        except wsrpc.ConnectionLost as error:
            errors.append(error)

    waiting: list[wsrpc.Session] = []
    limits = wsrpc.Limits(resume_window=0)
    async with served([echo], limits=limits) as listener, Cable().to(listener.url) as cable:
        async with wsrpc.connect(
            cable.url, codec=codec, controllers=[mine], reconnect=False
        ) as session:
            async with anyio.create_task_group() as group:
                group.start_soon(consume, session)
                group.start_soon(consume, listener.server.sessions[session.id])
                await until(lambda: len(waiting) == 2)
                await cable.pull()
                await until(lambda: len(errors) == 2)
            assert {error.close_code for error in errors} <= {1005, 1006, 1011}
            await until(lambda: echo.cleaned == mine.cleaned == ["forever"])
            with pytest.raises(wsrpc.ConnectionLost) as caught:
                await session.clientize(Echo).echo(1)
            assert caught.value.not_started
        await until(lambda: not listener.server.sessions)


# ------------------------------------------------------------------------------------ connect errors


async def refused(url: str, **options: Any) -> wsrpc.ConnectError:
    """What `connect` raises."""
    with soon(), pytest.raises(wsrpc.ConnectError) as caught:
        async with wsrpc.connect(url, **options):
            pytest.fail("connected")
    return caught.value


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


async def test_nobody_there() -> None:
    url = f"ws://127.0.0.1:{free_port()}"
    error = await refused(url)
    assert url in str(error)
    assert "refused" in str(error).lower() or "failed" in str(error).lower()
    assert isinstance(error, ConnectionError)
    assert isinstance(error, wsrpc.WsrpcError)


async def test_no_such_unix_socket(tmp_path: Path) -> None:
    error = await refused(f"ws+unix://{tmp_path}/none.sock")
    assert "none.sock" in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost",
        "localhost:8765",
        "",
        "ws://",
        "ws://localhost:port",
        "ws://localhost:99999999",
        "ws://local host",
        "ws://[::1",
        "ws://exa..mple",
        "ws://user@",
    ],
)
async def test_a_bad_url(url: str) -> None:
    assert await refused(url)


async def test_an_unknown_codec_is_a_value_error() -> None:
    codec: Any = "yaml"
    with pytest.raises(ValueError, match="'json' or 'msgpack'"):
        wsrpc.connect("ws://localhost", codec=codec)


@contextmanager
def tcp_server(answer: bytes | None) -> Iterator[str]:
    """A server that speaks something else: it answers with some bytes, or with nothing at all."""
    import threading

    listening = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            if answer is None:
                held.append(connection)
                continue
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()
        for connection in held:
            connection.close()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"", "no WebSocket server"),
        (b"220 mail.example ESMTP\r\n", "no WebSocket server"),
        (b"HTTP/1.0 404 File not found\r\n\r\n", "no WebSocket server"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP 200"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP 404"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "handshake"),
    ],
)
async def test_a_server_that_speaks_no_websocket(answer: bytes, says: str) -> None:
    with tcp_server(answer) as url:
        error = await refused(url)
    assert says in str(error)
    assert url in str(error)


async def test_a_server_that_says_nothing() -> None:
    with tcp_server(None) as url:
        error = await refused(url, limits=wsrpc.Limits(connect_timeout=0.1))
    assert "in time" in str(error)


@asynccontextmanager
async def websocket_server(subprotocols: list[str] | None, say: bytes | None) -> AsyncIterator[str]:
    """A WebSocket server that is none of wsrpc's."""

    async def handle(connection: Any) -> None:
        if say is not None:
            await connection.send(say, text=True)
        async for _ in connection:
            pass

    try:
        import asyncio

        asyncio.get_running_loop()
    except RuntimeError:
        import trio
        from websockets.trio.server import serve as trio_serve

        options: dict[str, Any] = {"host": "127.0.0.1", "subprotocols": subprotocols}
        async with trio.open_nursery() as nursery:
            server: Any = await nursery.start(
                lambda task_status: trio_serve(handle, 0, task_status=task_status, **options)
            )
            yield f"ws://127.0.0.1:{server.listeners[0].socket.getsockname()[1]}"
            await server.aclose()
    else:
        from websockets.asyncio.server import serve as asyncio_serve

        async with asyncio_serve(
            handle,
            "127.0.0.1",
            0,
            subprotocols=subprotocols,  # type: ignore[arg-type]  # pyright: ignore
        ) as asyncio_server:
            yield f"ws://127.0.0.1:{next(iter(asyncio_server.sockets)).getsockname()[1]}"


@pytest.mark.rule("LINK-2")
@pytest.mark.parametrize("subprotocols", [None, ["graphql-ws"]])
async def test_a_websocket_server_that_is_none_of_wsrpcs(subprotocols: list[str] | None) -> None:
    async with websocket_server(subprotocols, None) as url:
        error = await refused(url)
    assert "wsrpc" in str(error)


@pytest.mark.rule("BATCH-1", "HELLO-1", "HELLO-3")
@pytest.mark.parametrize(
    "say", [b"hello", b"{}", b"[]", b'[["hello"]]', b'[["ack",0]]', b'[["hello",{"version":2}]]']
)
async def test_a_server_that_agrees_on_the_subprotocol_and_then_speaks_something_else(
    say: bytes,
) -> None:
    async with websocket_server(["wsrpc.v1.json"], say) as url:
        error = await refused(url)
    assert error.close_code in (4500, 4505, 4507)


@pytest.mark.rule("HELLO-9")
async def test_a_server_that_never_says_hello(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = patched_link(monkeypatch)
    error = await refused("ws://memory", limits=wsrpc.Limits(connect_timeout=0.05))
    assert error.close_code == 4008
    assert await peer.closed() == 4008


async def test_cancelling_connect_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    patched_link(monkeypatch)
    with anyio.move_on_after(0.05) as scope:
        async with wsrpc.connect("ws://memory"):
            pass
    assert scope.cancelled_caught
    monkeypatch.undo()
    with tcp_server(None) as url:
        with anyio.move_on_after(0.05) as scope:
            async with wsrpc.connect(url):
                pass
    assert scope.cancelled_caught


@pytest.mark.rule("LINK-2")
async def test_no_common_subprotocol_is_refused_with_400() -> None:
    import websockets.sync.client
    from websockets.exceptions import InvalidStatus
    from websockets.typing import Subprotocol

    def knock(url: str, subprotocols: list[Subprotocol] | None) -> int:
        with pytest.raises(InvalidStatus) as caught:
            websockets.sync.client.connect(url, subprotocols=subprotocols)
        return caught.value.response.status_code

    async with served([Echo()]) as listener:
        for offered in (None, [Subprotocol("wsrpc.v9.xml")]):
            assert await anyio.to_thread.run_sync(knock, listener.url, offered) == 400
        async with wsrpc.connect(listener.url) as session:
            assert await session.clientize(Echo).echo(1) == 1


@pytest.mark.rule("BATCH-1")
async def test_a_message_of_the_wrong_websocket_type_is_closed_with_4500() -> None:
    import websockets.sync.client
    from websockets.exceptions import ConnectionClosed
    from websockets.typing import Subprotocol

    def send(url: str) -> int | None:
        with websockets.sync.client.connect(
            url, subprotocols=[Subprotocol("wsrpc.v1.json")]
        ) as connection:
            connection.send(b'[["hello",{"version":1}]]')
            with pytest.raises(ConnectionClosed) as caught:
                connection.recv(5)
            return caught.value.rcvd.code if caught.value.rcvd else None

    async with served([Echo()]) as listener:
        assert await anyio.to_thread.run_sync(send, listener.url) == 4500


# ------------------------------------------------------------------------------------ serving


SERVER = """
import anyio, sys, wsrpc

class Slow:
    @wsrpc.method
    async def wait(self) -> None:
        print("begun", flush=True)
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(0.05)
            print("cleaned", flush=True)

async def main():
    server = wsrpc.Server([Slow()], limits=wsrpc.Limits(drain_grace=0.1))
    async with anyio.create_task_group() as group:
        async def announce():
            import socket
            while True:
                try:
                    with socket.create_connection(("127.0.0.1", int(sys.argv[2])), 1):
                        break
                except OSError:
                    await anyio.sleep(0.01)
            print("serving", flush=True)
        group.start_soon(announce)
        await server.serve("127.0.0.1", int(sys.argv[2]), transport=sys.argv[3])
        print("stopped", flush=True)

anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.rule("CLOSE-5", "DRAIN-3")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serve_stops_cleanly_on_a_signal(
    anyio_backend_name: str, number: signal.Signals, transport: str
) -> None:
    port = free_port()
    process = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-X", "dev", "-c", SERVER, anyio_backend_name, str(port), transport],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        assert process.stdout is not None
        assert await anyio.to_thread.run_sync(process.stdout.readline) == b"serving\n"
        with soon():
            url = f"ws://127.0.0.1:{port}"
            async with wsrpc.connect(url, reconnect=False) as session:
                async with anyio.create_task_group() as group:
                    group.start_soon(lose, session)
                    assert await anyio.to_thread.run_sync(process.stdout.readline) == b"begun\n"
                    process.send_signal(number)
            out, err = await anyio.to_thread.run_sync(process.communicate)
    finally:
        process.kill()
        process.communicate()
    assert out == b"cleaned\nstopped\n"
    # What took long is the machine's affair, and asyncio's debug mode tells of it.
    assert not [line for line in err.splitlines() if not line.startswith(b"Executing ")]
    assert process.returncode == 0


async def lose(session: wsrpc.Session) -> None:
    with error_of("unavailable"):
        await session.clientize("Slow").wait()


async def test_serve_runs_until_it_is_cancelled() -> None:
    server = wsrpc.Server([Echo()])
    port = free_port()
    with soon():
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, "127.0.0.1", port)
            for _ in range(100):
                try:
                    async with wsrpc.connect(f"ws://127.0.0.1:{port}") as session:
                        assert await session.clientize(Echo).echo(1) == 1
                    break
                except wsrpc.ConnectError:
                    await anyio.sleep(0.02)
            else:
                pytest.fail("never served")
            group.cancel_scope.cancel()


_: Any = anyio.abc
