"""Links over WebSocket, by `websockets` on asyncio and on trio, plain, TLS or Unix socket.

All that the package knows of `websockets` is in this file. Messages are read and written as bytes
(`recv(decode=False)`, `send(…, text=True)`), which spares a UTF-8 round trip per message. The one
step beyond its documented interface is `_Watch`, which notes the type of an incoming message; if
a later version stops calling it, messages of the wrong type are just no longer told apart.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import ssl as ssl_module
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

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
from websockets.typing import Origin, Subprotocol

from ..errors import ConnectError, ProtocolError
from ..limits import Limits
from ..protocol.codec import SUBPROTOCOLS
from .base import Handshake, LinkClosed

if TYPE_CHECKING:
    from .base import Link

__all__ = ["WebSocketLink", "listen", "open_link"]

logger = logging.getLogger("wsrpc.websockets")
# Every message of websockets concerns one connection, whose end the session reports itself; what a
# stranger's broken handshake looks like is no business of the application's stderr.
logger.setLevel(logging.CRITICAL)

BAD_FRAME = 4500
NO_SUBPROTOCOL = 1002


class _Watch:
    """Notes the WebSocket type of the messages that a connection receives."""

    saw_text = False
    saw_binary = False

    def process_event(self, event: Any) -> None:
        if type(event) is Frame:
            if event.opcode is Opcode.TEXT:
                self.saw_text = True
            elif event.opcode is Opcode.BINARY:
                self.saw_binary = True
        super().process_event(event)  # type: ignore[misc]


class _AsyncioClient(_Watch, asyncio_client.ClientConnection):
    pass


class _AsyncioServer(_Watch, asyncio_server.ServerConnection):
    pass


class WebSocketLink:
    """A `websockets` connection of either backend, as a `Link`."""

    def __init__(self, connection: Any, handshake: Handshake) -> None:
        self._connection = connection
        self.subprotocol: str | None = connection.subprotocol
        self.handshake = handshake
        self._text = self.subprotocol is not None and SUBPROTOCOLS[self.subprotocol].text
        self._close = getattr(connection, "aclose", None) or connection.close

    async def send(self, data: bytes) -> None:
        try:
            await self._connection.send(data, text=self._text)
        except ConnectionClosed as closed:
            raise _translated(closed) from None

    async def receive(self) -> bytes:
        try:
            data: bytes = await self._connection.recv(decode=False)
        except ConnectionClosed as closed:
            raise _translated(closed) from None
        if self._connection.saw_binary if self._text else self._connection.saw_text:
            wanted = "text" if self._text else "binary"
            raise ProtocolError(BAD_FRAME, f"{self.subprotocol} travels in {wanted} messages")
        return data

    async def close(self, code: int, reason: str = "") -> None:
        # The reason shares a control frame of 125 bytes with the code (RFC 6455, section 5.5).
        short = reason.encode(errors="replace")[:123].decode(errors="ignore")
        await self._close(code, short)


def _translated(closed: ConnectionClosed) -> LinkClosed:
    """What a close means to a session: the peer's code, or the one this side sent first."""
    frames = [closed.rcvd, closed.sent]
    if closed.rcvd_then_sent is False:
        frames.reverse()
    for frame in frames:
        if frame is not None:
            return LinkClosed(frame.code, frame.reason)
    return LinkClosed(1006)


def _options(limits: Limits, subprotocols: Sequence[str]) -> dict[str, Any]:
    return {
        "subprotocols": [Subprotocol(name) for name in subprotocols],
        "compression": None,
        "ping_interval": None,
        "close_timeout": limits.close_timeout,
        "max_size": limits.max_batch,
        "logger": logger,
    }


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
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConnectError(f"{url!r} is no URL: {error}") from None
    if parts.scheme not in ("ws", "wss", "ws+unix"):
        raise ConnectError(
            f"{url!r} is no WebSocket URL: it must begin with ws://, wss:// or ws+unix://"
        )
    options = _options(limits, [subprotocol])
    options["additional_headers"] = headers
    options["open_timeout"] = limits.connect_timeout
    path = unquote(parts.path) if parts.scheme == "ws+unix" else None
    if ssl is not None:
        options["ssl"] = ssl
    try:
        manager = await _connector("ws://localhost/" if path else url, path, options)
        connection = await manager.__aenter__()
    except (InvalidURI, InvalidHandshake, OSError, TimeoutError, EOFError, ValueError) as error:
        raise _connect_error(url, error) from error
    except _trio_errors() as error:
        # What it was about is its cause: no valid certificate, for instance.
        cause = error.__cause__
        reason = (
            cause if isinstance(cause, OSError) else OSError(f"the connection broke: {error!r}")
        )
        raise _connect_error(url, reason) from error
    try:
        if connection.subprotocol != subprotocol:
            await WebSocketLink(connection, Handshake()).close(NO_SUBPROTOCOL, "no subprotocol")
            raise ConnectError(
                f"{url} is a WebSocket server, but does not speak {subprotocol}: "
                f"it chose {connection.subprotocol or 'no subprotocol'}"
            )
        yield WebSocketLink(
            connection, Handshake(path=parts.path or "/", tls=parts.scheme == "wss")
        )
    finally:
        await manager.__aexit__(None, None, None)


def _trio_errors() -> tuple[type[Exception], ...]:
    """What trio raises for a socket that broke, and no other library does."""
    if _on_asyncio():
        return ()
    import trio

    return trio.BrokenResourceError, trio.ClosedResourceError


async def _connector(url: str, path: str | None, options: dict[str, Any]) -> Any:
    if _on_asyncio():
        options["create_connection"] = _AsyncioClient
        if path is not None:
            return asyncio_client.unix_connect(path, url, **options)
        return asyncio_client.connect(url, **options)
    import trio
    import websockets.trio.client as trio_client

    class TrioClient(_Watch, trio_client.ClientConnection):
        pass

    options["create_connection"] = TrioClient
    if path is not None:
        options["stream"] = await trio.open_unix_socket(path)
    return trio_client.connect(url, **options)


def _connect_error(url: str, error: Exception) -> ConnectError:
    """One sentence for each way in which a connection does not come about."""
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        hint = {
            400: "it may speak another subprotocol, or none of wsrpc's",
            403: "the origin is not allowed there",
            404: "nothing listens at this path",
            426: "it wants another protocol",
        }.get(status, "it does not serve WebSockets here")
        return ConnectError(f"{url} answered the handshake with HTTP {status}: {hint}")
    if isinstance(error, InvalidURI):
        return ConnectError(f"{url!r} is no WebSocket URL: {error.msg}")
    if isinstance(error, (InvalidMessage, EOFError)):
        return ConnectError(
            f"{url} is no WebSocket server: it did not answer the handshake in HTTP"
        )
    if isinstance(error, ssl_module.SSLError):
        return ConnectError(f"{url}: TLS failed: {error.reason or error}")
    if isinstance(error, TimeoutError):
        return ConnectError(f"{url} did not answer the handshake in time")
    if isinstance(error, ValueError) and not isinstance(error, InvalidHandshake):
        return ConnectError(f"{url!r} is no WebSocket URL: {error}")
    if isinstance(error, OSError):
        return ConnectError(f"cannot connect to {url}: {_reason(error)}")
    return ConnectError(f"{url} refused the handshake: {error}")


def _reason(error: OSError) -> str:
    """The system's words for it; asyncio puts addresses there, several where it tried several."""
    numbers = re.findall(r"\[Errno (\d+)\]", str(error))
    reasons = dict.fromkeys(os.strerror(int(number)) for number in numbers)
    return ", ".join(reasons) or error.strerror or str(error)


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
    origins: Sequence[str | None] | None,
    limits: Limits,
    ssl: ssl_module.SSLContext | None,
) -> AsyncIterator[str]:
    """Accept connections, each handled by a task of its own; yields the URL that is bound.

    Leaving stops listening and waits until every `handle` has returned.
    """
    options = _options(limits, subprotocols)
    options["open_timeout"] = limits.hello_timeout
    options["server_header"] = None
    if origins is not None:
        options["origins"] = [None if origin is None else Origin(origin) for origin in origins]

    async def run(connection: Any) -> None:
        await handle(WebSocketLink(connection, _handshake(connection, ssl is not None)))

    serve = _listen_asyncio if _on_asyncio() else _listen_trio
    async with serve(run, host, port, path, ssl, options) as address:
        with _removed_again(path):
            yield address


def _handshake(connection: Any, tls: bool) -> Handshake:
    request = connection.request
    try:
        remote = connection.remote_address
    except OSError:
        remote = None
    return Handshake(
        path=request.path,
        headers={name.lower(): value for name, value in request.headers.raw_items()},
        remote=f"{remote[0]}:{remote[1]}" if isinstance(remote, tuple) and remote else "",
        tls=tls,
    )


def _url(sockets: Iterable[Any], path: str | None, tls: bool) -> str:
    if path is not None:
        return f"ws+unix://{quote(os.path.abspath(path))}"
    # Where there are two, they may have different ports, and `localhost` is sure of IPv4 only.
    bound = sorted(sockets, key=lambda one: one.family is not socket.AF_INET)[0].getsockname()
    host, port = bound[0], bound[1]
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    elif ":" in host:
        host = f"[{host}]"
    return f"{'wss' if tls else 'ws'}://{host}:{port}"


@contextmanager
def _removed_again(path: str | None) -> Iterator[None]:
    """Take a Unix socket's file away behind the block, unless it is somebody else's by then."""
    bound = None if path is None else os.stat(path).st_ino
    try:
        yield
    finally:
        if path is not None:
            with suppress(OSError):
                if os.stat(path).st_ino == bound:
                    os.unlink(path)


@asynccontextmanager
async def _listen_asyncio(
    run: Callable[[Any], Awaitable[None]],
    host: str | None,
    port: int,
    path: str | None,
    ssl: ssl_module.SSLContext | None,
    options: dict[str, Any],
) -> AsyncIterator[str]:
    options["create_connection"] = _AsyncioServer
    if ssl is not None:
        options["ssl"] = ssl
    if path is not None:
        manager = asyncio_server.unix_serve(run, path, **options)
    else:
        manager = asyncio_server.serve(run, host, port, **options)
    async with manager as server:
        yield _url(server.sockets, path, ssl is not None)


async def _unix_listener(path: str) -> Any:
    import trio

    # As asyncio does: a file that an earlier server left behind is no server.
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)
    listener = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        await listener.bind(path)
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return trio.SocketListener(listener)


@asynccontextmanager
async def _listen_trio(
    run: Callable[[Any], Awaitable[None]],
    host: str | None,
    port: int,
    path: str | None,
    ssl: ssl_module.SSLContext | None,
    options: dict[str, Any],
) -> AsyncIterator[str]:
    import trio
    import websockets.trio.server as trio_server

    class TrioServer(_Watch, trio_server.ServerConnection):
        pass

    options["create_connection"] = TrioServer
    if path is not None:
        listeners = [await _unix_listener(path)]
    else:
        listeners = await trio.open_tcp_listeners(port, host=host)
    sockets = [listener.socket for listener in listeners]
    async with trio.open_nursery() as nursery:

        async def serve(task_status: Any) -> None:
            await trio_server.serve(
                run, listeners=listeners, ssl=ssl, task_status=task_status, **options
            )

        server = await nursery.start(serve)
        try:
            yield _url(sockets, path, ssl is not None)
        finally:
            with trio.CancelScope(shield=True):
                await server.aclose()
