"""Links over WebSocket, by `websockets` on asyncio and on trio, plain, TLS or Unix socket.

All that the package knows of `websockets` is in this file and in `direct.py`, the short way on
asyncio. Here messages are read and written as bytes (`recv(decode=False)`, `send(…, text=True)`),
which spares a UTF-8 round trip per message. The one step beyond the documented interface is
`_Watch`, which notes the type of an incoming message; if a later version stops calling it, messages
of the wrong type are just no longer told apart.
"""

from __future__ import annotations

import asyncio
import logging
import ssl as ssl_module
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import anyio
import websockets.asyncio.client as asyncio_client
import websockets.asyncio.server as asyncio_server
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
)
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol

from ...admission.door import (
    FORBIDDEN_ORIGIN,
    Door,
    hang_up,
    headers_of,
    listening_sockets,
)
from ...close_codes import CloseCode
from ...errors import ConnectError, ProtocolError
from ...interfaces import Handshake
from ...limits import Limits
from ...protocol.codec import SUBPROTOCOLS
from ..base import Binary, Bound
from ..floods import TOO_MUCH, Calm
from ..urls import (
    bound_url,
    refused,
    removed_again,
    short_reason,
    shown,
    split_url,
    unix_listener,
    unreachable,
    wrong_subprotocol,
)
from . import direct

if TYPE_CHECKING:
    from websockets.http11 import Request, Response

    from ...admission.unauthenticated import Pending
    from ..base import Link

__all__ = ["WebSocketLink", "listen", "open_link"]

logger = logging.getLogger("wsrpc.websockets")
# Every message of websockets concerns one connection, whose end the session reports itself; what a
# stranger's broken handshake looks like is no business of the application's stderr.
logger.setLevel(logging.CRITICAL)

# Bytes of a request, its headers included, that the accepting side takes.
MAX_HEAD = 32 * 1024


class _Watch:
    """Notes the WebSocket type of the messages that a connection receives, and floods of others."""

    saw_text = False
    saw_binary = False
    # This side's; of a subclass for each listener.
    bounds: Limits | None = None
    calm: Calm | None = None
    failed = False
    protocol: Any
    # Sends what the protocol has to say.
    say: Callable[[], None]

    def process_event(self, event: Any) -> None:
        if type(event) is Frame:
            if event.opcode is Opcode.TEXT:
                self.saw_text = True
            elif event.opcode is Opcode.BINARY:
                self.saw_binary = True
            if self.calm is None and self.bounds is not None:
                self.calm = Calm(self.bounds)
            calm = self.calm
            if calm is None or self.protocol.state is not State.OPEN:
                # What was read together with what failed the connection is dropped.
                if self.failed:
                    return
            elif not calm.bears(event.opcode, len(event.data), final=event.fin):
                self.failed = True
                self.protocol.fail(CloseCode.ENHANCE_YOUR_CALM, TOO_MUCH)
                self.say()
                return
        super().process_event(event)  # type: ignore[misc]


class _AsyncioClient(_Watch, asyncio_client.ClientConnection):
    def say(self) -> None:
        self.send_data()


class _AsyncioServer(_Watch, asyncio_server.ServerConnection):
    def say(self) -> None:
        self.send_data()


class _Stranger:
    """Mixed into a connection that was accepted: a peer's request takes up little memory.

    The library bounds lines and their number, which makes a megabyte.
    """

    protocol: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_left = MAX_HEAD
        # For as long as there is no request, in place of the class's own.
        self.protocol.receive_data = self._receive_head

    def _receive_head(self, data: bytes) -> None:
        self._head_left -= len(data)
        if self._head_left >= 0:
            type(self.protocol).receive_data(self.protocol, data)
        else:
            hang_up(_socket_of(self))

    def process_event(self, event: Any) -> None:
        vars(self.protocol).pop("receive_data", None)
        super().process_event(event)  # type: ignore[misc]


class WebSocketLink:
    """A `websockets` connection of either backend, as a `Link`."""

    def __init__(self, connection: Any, handshake: Handshake, close_timeout: float) -> None:
        self._connection = connection
        self.pending: Pending | None = None
        self.subprotocol: str | None = connection.subprotocol
        self.handshake = handshake
        self._text = self.subprotocol is None or SUBPROTOCOLS[self.subprotocol].text
        self._close = getattr(connection, "aclose", None) or connection.close
        self._close_timeout = close_timeout

    async def send(self, data: bytes) -> None:
        try:
            await self._connection.send(data, text=self._text and type(data) is not Binary)
        except ConnectionClosed as closed:
            raise direct.translated(closed) from None

    async def receive(self) -> bytes:
        try:
            decode = None if self.subprotocol is None else False
            data: bytes | str = await self._connection.recv(decode=decode)
        except ConnectionClosed as closed:
            raise direct.translated(closed) from None
        if isinstance(data, str):
            return data.encode()
        if self.subprotocol is None:
            return Binary(data)
        if self._connection.saw_binary if self._text else self._connection.saw_text:
            wanted = "text" if self._text else "binary"
            raise ProtocolError(
                CloseCode.BAD_FRAME, f"{self.subprotocol} travels in {wanted} messages"
            )
        return data

    async def close(self, code: int, reason: str = "") -> None:
        # The library bounds the wait for the peer's close frame, but not the wait for a peer that
        # does not read to take ours.
        with anyio.move_on_after(2 * self._close_timeout) as scope:
            await self._close(code, short_reason(reason))
        if scope.cancelled_caught:
            await _abort(self._connection)

    def abort(self) -> None:
        self._connection.transport.abort()


class TrioWebSocketLink(WebSocketLink):
    """The same on trio, where a cancelled send leaves half a message on the wire.

    Whatever came behind it could not be read, the close frame with its code included. So a send that
    has begun goes on; a peer that does not take it is dropped by `close`, which ends the send too.
    """

    async def send(self, data: bytes) -> None:
        with anyio.CancelScope(shield=True):
            await super().send(data)

    def abort(self) -> None:
        hang_up(_socket_of(self._connection))


class DirectWebSocketLink(WebSocketLink):
    """The same, driven by callbacks: a `DirectLink`."""

    def __init__(self, connection: direct.Tap, handshake: Handshake, close_timeout: float) -> None:
        super().__init__(connection, handshake, close_timeout)
        self._tap = connection
        self.attach = connection.attach
        self.pause = connection.pause
        self.resume = connection.resume

    async def receive(self) -> bytes:
        return await self._tap.receive()

    def send_nowait(self, data: bytes) -> bool:
        return self._tap.send_nowait(data, self._text)

    @property
    def unsent(self) -> int:
        return self._tap.unsent

    async def close(self, code: int, reason: str = "") -> None:
        self._tap.drop()
        await super().close(code, reason)


def _link(connection: Any, handshake: Handshake, limits: Limits) -> WebSocketLink:
    kind = WebSocketLink if _on_asyncio() else TrioWebSocketLink
    if isinstance(connection, direct.Tap):
        kind = DirectWebSocketLink
    return kind(connection, handshake, limits.close_timeout)


async def _abort(connection: Any) -> None:
    """Drop the TCP connection, without a goodbye."""
    if _on_asyncio():
        connection.transport.abort()
    else:
        import trio

        await trio.aclose_forcefully(connection.stream)


def _bounded(kind: type[Any], limits: Limits, *mixins: type[Any]) -> type[Any]:
    """A kind of connection that knows how much it has to bear."""
    return type(kind.__name__, (*mixins, kind), {"bounds": limits})


def _options(limits: Limits, subprotocols: Sequence[str]) -> dict[str, Any]:
    return {
        "subprotocols": [Subprotocol(name) for name in subprotocols],
        "compression": None,
        "ping_interval": None,
        "close_timeout": limits.close_timeout,
        "max_size": limits.max_batch,
        "logger": logger,
    }


# Bytes that may wait for the socket before a writer has to. With one batch of 64 KiB on top that
# makes the 128 KiB of OUT-1.
WRITE_AHEAD = 64 * 1024


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


# -------------------------------------------------------------------------------- connecting


@asynccontextmanager
async def open_link(
    url: str,
    subprotocol: str,
    *,
    limits: Limits,
    ssl: ssl_module.SSLContext | None = None,
    headers: dict[str, str] | None = None,
) -> AsyncIterator[Link]:
    """Connect to `ws://…`, `wss://…` or `ws+unix:///path/to.sock`; closes on leaving.

    Raises:
        ConnectError: There is no wsrpc server to talk to; the message says how far it got.
    """
    parts = split_url(url)
    options = _options(limits, [subprotocol])
    options["additional_headers"] = headers
    options["open_timeout"] = limits.connect_timeout
    path = unquote(parts.path) if parts.scheme == "ws+unix" else None
    if ssl is not None:
        options["ssl"] = ssl
    try:
        manager = await _connector("ws://localhost/" if path else url, path, limits, options)
        connection = await manager.__aenter__()
    except (InvalidURI, InvalidHandshake, OSError, TimeoutError, EOFError, ValueError) as error:
        raise _connect_error(url, error) from error
    except ConnectionClosed as error:
        # websockets on trio, where the socket breaks while it writes its request.
        raise _connect_error(url, OSError("the connection broke in the handshake")) from error
    except _trio_errors() as error:
        # What it was about is its cause: no valid certificate, for instance.
        cause = error.__cause__
        reason = (
            cause if isinstance(cause, OSError) else OSError(f"the connection broke: {error!r}")
        )
        raise _connect_error(url, reason) from error
    try:
        if connection.subprotocol != subprotocol:
            await _link(connection, Handshake(), limits).close(
                CloseCode.PROTOCOL_ERROR, "no subprotocol"
            )
            raise wrong_subprotocol(url, subprotocol, connection.subprotocol)
        handshake = Handshake(path=parts.path or "/", tls=parts.scheme == "wss")
        yield _link(connection, handshake, limits)
    finally:
        await manager.__aexit__(None, None, None)


def _trio_errors() -> tuple[type[Exception], ...]:
    """What trio raises for a socket that broke, and no other library does."""
    if _on_asyncio():
        return ()
    import trio

    return trio.BrokenResourceError, trio.ClosedResourceError


async def _connector(url: str, path: str | None, limits: Limits, options: dict[str, Any]) -> Any:
    if _on_asyncio():
        kind = direct.DirectClient if direct.available() else _AsyncioClient
        options["create_connection"] = _bounded(kind, limits)
        options["write_limit"] = WRITE_AHEAD
        if path is not None:
            return asyncio_client.unix_connect(path, url, **options)
        return asyncio_client.connect(url, **options)
    import trio
    import websockets.trio.client as trio_client

    from .on_trio import TrioClient

    class WatchedClient(_Watch, TrioClient):
        pass

    options["create_connection"] = _bounded(WatchedClient, limits)
    if path is not None:
        options["stream"] = await trio.open_unix_socket(path)
    return trio_client.connect(url, **options)


def _connect_error(url: str, error: Exception) -> ConnectError:
    if isinstance(error, InvalidStatus):
        return refused(url, error.response.status_code)
    if isinstance(error, InvalidURI):
        return ConnectError(f"{shown(url)!r} is no WebSocket URL: {error.msg}")
    if isinstance(error, InvalidMessage):
        return unreachable(url, EOFError())
    if isinstance(error, InvalidHandshake):
        return ConnectError(f"{shown(url)} refused the handshake: {error}")
    return unreachable(url, error)


# -------------------------------------------------------------------------------- accepting

Handle = Callable[["Link"], Awaitable[None]]


@asynccontextmanager
async def listen(
    handle: Handle,
    *,
    host: str | None,
    port: int,
    path: str | None,
    subprotocols: Sequence[str],
    door: Door,
    limits: Limits,
    ssl: ssl_module.SSLContext | None,
) -> AsyncIterator[Bound]:
    """Accept connections, each handled by a task of its own; yields what is bound.

    Leaving stops listening and waits until every `handle` has returned.
    """
    options = _options(limits, subprotocols)
    options["open_timeout"] = limits.hello_timeout
    options["server_header"] = None

    def look(connection: Any, request: Request) -> Response | None:
        if door.forbids(headers_of(request.headers.raw_items())):
            return connection.respond(403, FORBIDDEN_ORIGIN)  # type: ignore[no-any-return]
        return None

    options["process_request"] = look

    async def run(connection: Any) -> None:
        link = _link(connection, _handshake(connection, door, ssl is not None), limits)
        link.pending = door.opened(_socket_of(connection).fileno())
        await handle(link)

    serve = _listen_asyncio if _on_asyncio() else _listen_trio
    async with serve(run, host, port, path, ssl, door, limits, options) as bound:
        with removed_again(path):
            yield bound


def _socket_of(connection: Any) -> Any:
    if _on_asyncio():
        return connection.transport.get_extra_info("socket")
    stream = connection.stream
    return getattr(stream, "transport_stream", stream).socket


def _peer_of(connection: Any) -> Any:
    """Where a connection comes from, in the form of its address family; None once it is gone."""
    try:
        return connection.remote_address
    except OSError:
        return None


def _certificate_of(connection: Any) -> Any:
    if _on_asyncio():
        return connection.transport.get_extra_info("peercert")
    return connection.stream.getpeercert()


def _handshake(connection: Any, door: Door, tls: bool) -> Handshake:
    request = connection.request
    handshake = door.handshake(
        request.path,
        headers_of(request.headers.raw_items()),
        _peer_of(connection),
        tls=tls,
        certificate=_certificate_of(connection) if tls else None,
    )
    # They are read no more, and a tenth of what an idle connection costs in memory.
    request.headers.clear()
    connection.response.headers.clear()
    return handshake


@asynccontextmanager
async def _listen_asyncio(
    run: Callable[[Any], Awaitable[None]],
    host: str | None,
    port: int,
    path: str | None,
    ssl: ssl_module.SSLContext | None,
    door: Door,
    limits: Limits,
    options: dict[str, Any],
) -> AsyncIterator[Bound]:
    kind = direct.DirectServer if direct.available() else _AsyncioServer
    options["create_connection"] = _bounded(kind, limits, _Stranger)
    options["write_limit"] = WRITE_AHEAD
    if ssl is not None:
        options["ssl"] = ssl
        # Zero seconds are not allowed here.
        options["ssl_handshake_timeout"] = max(options["open_timeout"], 0.001)
    async with AsyncExitStack() as stack:
        sockets = await listening_sockets(door, host, port, path)
        for one in sockets:
            stack.callback(one.close)
        servers: list[Any] = []
        for one in sockets:
            serve = asyncio_server.serve(run, sock=one, **options)
            servers.append(await stack.enter_async_context(serve))

        def refuse() -> None:
            for server in servers:
                server.close(close_connections=False)

        yield Bound(bound_url(sockets, path, ssl is not None), refuse)


@asynccontextmanager
async def _listen_trio(
    run: Callable[[Any], Awaitable[None]],
    host: str | None,
    port: int,
    path: str | None,
    ssl: ssl_module.SSLContext | None,
    door: Door,
    limits: Limits,
    options: dict[str, Any],
) -> AsyncIterator[Bound]:
    import trio
    import websockets.trio.server as trio_server

    from .on_trio import TrioListener, TrioServer

    class WatchedServer(_Watch, TrioServer):
        pass

    options["create_connection"] = _bounded(WatchedServer, limits, _Stranger)
    if path is not None:
        unix = trio.socket.from_stdlib_socket(unix_listener(path))
        unix.listen(128)
        listeners = [trio.SocketListener(unix)]
    else:
        listeners = await trio.open_tcp_listeners(port, host=host)
    sockets = [listener.socket for listener in listeners]
    watched: list[Any] = [TrioListener(listener, door) for listener in listeners]
    async with trio.open_nursery() as nursery:

        async def serve(task_status: Any) -> None:
            await trio_server.serve(
                run, listeners=watched, ssl=ssl, task_status=task_status, **options
            )

        server = await nursery.start(serve)
        try:
            refuse = partial(nursery.start_soon, partial(server.aclose, close_connections=False))
            yield Bound(bound_url(sockets, path, ssl is not None), refuse)
        finally:
            with trio.CancelScope(shield=True):
                await server.aclose()
