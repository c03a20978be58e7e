"""Accepting by picows. The rules of the opening handshake are those of `websockets` itself."""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from picows import (
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_create_server,
)
from websockets.datastructures import Headers
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from ... import runtime as runtimes
from ...close_codes import CloseCode
from ...limits import Limits
from ...telemetry.logs import everyone
from ..base import FORBIDDEN_ORIGIN, Bound, Doorkeeper, Handle, HttpAnswer
from ..listening import (
    accepted,
    all_served,
    bound_url,
    headers_of,
    host_of,
    listening_sockets,
    refused,
    removed_again,
)
from ..urls import is_loopback
from .link import PicowsLink
from .settings import TcpListening, TcpSocket, UnixListening, muted, options

__all__ = ["listen"]

P = TypeVar("P")

# Bytes of a request's body that are read out in one go.
READ_OUT = 64 * 1024


@asynccontextmanager
async def listen(
    handle: Handle[P],
    *,
    host: str | None,
    port: int,
    path: str | None,
    subprotocols: Sequence[str],
    door: Doorkeeper[P],
    limits: Limits,
    ssl: ssl_module.SSLContext | None,
) -> AsyncIterator[Bound]:
    """Accept connections, each handled by a task of its own; yields a `Bound`.

    Leaving stops listening and waits until every `handle` has returned.
    """
    fast = _needs_aiofastnet(path, ssl)
    accepts = fast or isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
    porter = _Porter(handle, subprotocols, door, limits, tls=ssl is not None, accepts=accepts)
    async with AsyncExitStack() as stack:
        kind = TcpListening if path is None else UnixListening
        sockets = await listening_sockets(door, host, port, path, kind, asked=fast)
        for one in sockets:
            stack.callback(one.close)
        with removed_again(path):
            # They do not accept yet, so that a cancellation leaves no connection.
            servers = [
                await _bound(partial(porter.judge, one), one, limits, ssl, fast) for one in sockets
            ]

            def close() -> None:
                for server in servers:
                    server.close()

            try:
                for server in servers:
                    await server.start_serving()
                yield Bound(
                    bound_url(sockets, path, ssl is not None), partial(refused, sockets, close)
                )
            finally:
                await runtimes.current().to_the_end(partial(all_served, sockets))
                close()
                porter.shut()
                await runtimes.current().to_the_end(porter.empty)
                porter.read_no_more()
                # The connections that are left have not asked for a WebSocket yet.
                for server in servers:
                    if hasattr(server, "abort_clients"):
                        server.abort_clients()


def _needs_aiofastnet(path: str | None, ssl: ssl_module.SSLContext | None) -> bool:
    """Whether aiofastnet's server listens, and its transports carry bytes, in place of the loop's.

    A loop such as uvloop accepts by itself, and so hides the addresses of a request, which `hosts`
    judges by; aiofastnet's server calls `accept`, as asyncio's does. With TLS it would report every
    broken handshake of a stranger (see `_addresses`). On a Unix socket only its transports have the
    socket that `UnixSocket` accepted.
    """
    asyncios = isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)
    return path is not None or (ssl is None and not asyncios)


async def _bound(
    judge: Callable[[WSUpgradeRequest], WSUpgradeResponseWithListener],
    listener: socket.socket,
    limits: Limits,
    ssl: ssl_module.SSLContext | None,
    fast: bool,
) -> Any:
    """A server that does not accept yet."""
    settings = options(limits, None if ssl is None else limits.hello_timeout, fast)
    settings["websocket_handshake_timeout"] = limits.hello_timeout
    settings["ssl"] = ssl
    settings["start_serving"] = False
    return await ws_create_server(judge, sock=listener, **settings)


STOPPING = HttpAnswer(503, (), b"the server is stopping")


def _response(answer: HttpAnswer) -> WSUpgradeResponse:
    # `create_error_response` takes errors only.
    response = WSUpgradeResponse()
    response.version = b"HTTP/1.1"
    response.status = HTTPStatus(answer.status)
    # With a body the library itself adds its length.
    told = [one for one in answer.headers if not answer.body or one[0] != "Content-Length"]
    response.headers = WSUpgradeResponse.create_ok_response(None, told).headers
    response.body = answer.body
    if not answer.body and "Content-Length" not in response.headers:
        response.headers["Content-Length"] = "0"
    return response


def _addresses(connection: socket.socket | None, listener: socket.socket) -> tuple[str, str]:
    """The address that a connection reached, and the one it came from; "" where they are unknown.

    With TLS on a loop that accepts by itself, such as uvloop, a request does not tell its
    connection (uvloop keeps it, and aiofastnet's server cannot take its place). A connection that
    came by a listener on a loopback address reached just that address, and is from this machine.
    """
    local = peer = ""
    with suppress(OSError):
        if connection is not None:
            local, peer = host_of(connection.getsockname()), host_of(connection.getpeername())
        elif is_loopback(bound := host_of(listener.getsockname())):
            local = peer = bound
    return local, peer


class _Porter(Generic[P]):
    """Lets connections in, and holds their tasks."""

    def __init__(
        self,
        handle: Handle[P],
        subprotocols: Sequence[str],
        door: Doorkeeper[P],
        limits: Limits,
        *,
        tls: bool,
        accepts: bool,
    ) -> None:
        self._handle = handle
        self._subprotocols = [Subprotocol(name) for name in subprotocols]
        self._door = door
        self._limits = limits
        self._tls = tls
        # Whether `Listening.accept` is called. If not, `accepted` may hold a connection of another
        # server.
        self._accepts = accepts
        self._inside: dict[PicowsLink, asyncio.Task[None]] = {}
        self._shut = False
        # Connections whose request was answered and whose body is still coming.
        self._lingering: dict[TcpSocket, asyncio.TimerHandle] = {}

    def judge(
        self, listener: socket.socket, request: WSUpgradeRequest
    ) -> WSUpgradeResponseWithListener:
        """Answer a request for a WebSocket as `websockets` does, word for word.

        Args:
            listener: The listening socket that the connection came by.
            request: The request.
        """
        headers = Headers()
        for name, value in request.headers.items():
            headers[name] = value.encode("ascii", "surrogateescape").decode("latin-1")
        path = request.path.decode("ascii", "surrogateescape")
        connection = accepted.get() if self._accepts else None
        method = request.method.decode("ascii", "surrogateescape")
        version = request.version.decode("ascii", "surrogateescape")
        asked = headers_of(headers.raw_items())
        if isinstance(connection, TcpSocket):
            method, version = connection.method or method, connection.version or version
            asked |= connection.head.hidden
            if connection.head.body != "none":
                connection.before_close = self._read_out
        rules = ServerProtocol(subprotocols=self._subprotocols, logger=muted)
        answer = self._answer(method, path, asked, _addresses(connection, listener))
        if answer is None:
            verdict = rules.accept(Request(path, headers, method, version))
            if verdict.status_code != 101:
                told = tuple(
                    (name, verdict.headers[name])
                    for name in ("Upgrade", "Allow")
                    if name in verdict.headers
                )
                answer = HttpAnswer(verdict.status_code, told, bytes(verdict.body or b""))
        if answer is not None:
            if connection is not None:
                self._door.answered(connection.fileno())
            return WSUpgradeResponseWithListener(_response(answer), None)
        # picows checks these again, and knows fewer spellings: browsers send "keep-alive, Upgrade".
        request.headers["Connection"], request.headers["Upgrade"] = "Upgrade", "websocket"
        link = PicowsLink(
            rules.subprotocol,
            self._limits,
            partial(self._let_in, path, asked),
        )
        chosen = {"Sec-WebSocket-Protocol": rules.subprotocol} if rules.subprotocol else {}
        return WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(chosen), link)

    def _answer(
        self, method: str, path: str, headers: dict[str, str], addresses: tuple[str, str]
    ) -> HttpAnswer | None:
        """The answer to a request over HTTP, before its form as a WebSocket request is checked."""
        if self._shut:
            return STOPPING
        local, peer = addresses
        answer = self._door.answer(method, path, headers, local=local, peer=peer)
        if answer is None and self._door.forbids(headers):
            return FORBIDDEN_ORIGIN
        return answer

    def _read_out(self, connection: TcpSocket) -> None:
        """Read the rest of a body before the connection is closed, for a bounded time.

        A connection that is closed with bytes unread is reset, and the peer may lose the answer.
        """
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        late = loop.call_later(self._limits.close_timeout, self._hang_up, connection)
        self._lingering[connection] = late
        loop.add_reader(connection.fileno(), self._drop, connection)

    def _drop(self, connection: TcpSocket) -> None:
        try:
            ended = not connection.recv(READ_OUT)
        except BlockingIOError:
            return
        except OSError:
            ended = True
        if ended:
            self._hang_up(connection)

    def _hang_up(self, connection: TcpSocket) -> None:
        self._lingering.pop(connection).cancel()
        asyncio.get_running_loop().remove_reader(connection.fileno())
        connection.close()

    def read_no_more(self) -> None:
        """Close the connections whose requests were answered and whose bodies still come."""
        for one in list(self._lingering):
            self._hang_up(one)

    def _let_in(self, path: str, headers: dict[str, str], link: PicowsLink) -> None:
        pending = self._door.opened(link.extra("socket").fileno())
        link.handshake = self._door.handshake(
            path,
            headers,
            link.extra("peername"),
            tls=self._tls,
            certificate=link.extra("peercert") if self._tls else None,
        )
        loop = asyncio.get_running_loop()
        self._inside[link] = asyncio.Task(self._look_after(link, pending), loop=loop)

    async def _look_after(self, link: PicowsLink, pending: P | None) -> None:
        code = CloseCode.NORMAL
        try:
            await self._handle(link, pending)
        except Exception as error:  # noqa: BLE001  (logged)
            everyone.error("a fault in wsrpc itself ended a connection", error=error)
            code = CloseCode.SERVER_TROUBLE
        finally:
            link.begin_close(code)
            self._inside.pop(link)

    def shut(self) -> None:
        """Let no connection in any more, and close those that are inside."""
        self._shut = True
        for link in self._inside:
            link.begin_close(CloseCode.GOING_AWAY, "the server is stopping")

    async def empty(self) -> None:
        """Wait until no connection is inside."""
        while self._inside:
            await asyncio.wait(self._inside.values())
